"""The step train: rows → SAEs; a share is some of the groups that read one stream.

A suite's Dask cluster trains all groups of a share at once. If there are more workers than groups,
groups are cut further.
"""

from ...train.run.trainer import run
from ...train.sae.formats.trained import WEIGHTS_FILE, trained_config
from ...train.settings import TrainSettings
from ...train.sweeps.devices import devices_of
from ...workers.share import TaskShare
from ..suite.members import SuiteMember
from ..suite.outputs import Outputs
from .harvest import stores_of
from .step import State, Step


def is_trained(outputs: Outputs, member: SuiteMember) -> bool:
    """Whether a trained SAE exists and is whole."""
    folder = outputs.sae(member)
    if not (folder / "config.json").is_file():
        return False
    return trained_config(folder) is not None and (folder / WEIGHTS_FILE).is_file()


def state(outputs: Outputs) -> State:
    """How many SAEs are trained."""
    done = [one for one in outputs.members if is_trained(outputs, one)]
    n_bytes = sum((outputs.sae(one) / WEIGHTS_FILE).stat().st_size for one in done)
    return State(len(done), len(outputs.members), "SAEs", n_bytes)


def execute(outputs: Outputs, share: TaskShare) -> None:
    """Trains a share of the groups. If one fails, the others are still trained."""
    missing = _missing(outputs, share)
    spread = devices_of(outputs.suite.dask, None, [one for group in missing for one in group])
    if spread is not None:
        from ...train.sweeps.on_dask import train_on_dask

        train_on_dask(missing, spread, wait=True)
        return
    failed = []
    for group in missing:
        try:
            run(group, wait=True)
        except ValueError as error:
            failed.append(str(error))
    if failed:
        raise ValueError("; ".join(failed))


def _missing(outputs: Outputs, share: TaskShare) -> list[list[TrainSettings]]:
    """Settings of a share's SAEs that are not trained yet, group by group."""
    found = []
    for number, group in enumerate(outputs.groups):
        missing = [one for one in group if not is_trained(outputs, one)]
        if missing and share.has(number):
            stores = stores_of(outputs, missing[0])
            found.append([outputs.train_settings(one, stores) for one in missing])
    return found


def pieces(outputs: Outputs) -> int:
    """Number of groups."""
    return len(outputs.groups)


STEP = Step("train", ("harvest",), state, execute, pieces, on_gpu=True)
