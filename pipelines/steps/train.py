"""Train, as a step: rows → SAEs, shared out by groups that read one stream."""

from ...train.run.trainer import run
from ...train.sae.formats.trained import WEIGHTS_FILE, trained_config
from ...workers.share import Share
from ..suite.members import Member
from ..suite.outputs import Outputs
from .harvest import stores_of
from .step import State, Step


def is_trained(outputs: Outputs, member: Member) -> bool:
    """Whether an SAE is there, whole."""
    folder = outputs.sae(member)
    if not (folder / "config.json").is_file():
        return False
    return trained_config(folder) is not None and (folder / WEIGHTS_FILE).is_file()


def state(outputs: Outputs) -> State:
    """Trained SAEs."""
    done = [one for one in outputs.members if is_trained(outputs, one)]
    n_bytes = sum((outputs.sae(one) / WEIGHTS_FILE).stat().st_size for one in done)
    return State(len(done), len(outputs.members), "SAEs", n_bytes)


def execute(outputs: Outputs, share: Share) -> None:
    """Trains a share of the groups; one that fails does not keep the others from being trained."""
    failed = []
    for number, group in enumerate(outputs.groups):
        missing = [one for one in group if not is_trained(outputs, one)]
        if not missing or not share.has(number):
            continue
        stores = stores_of(outputs, missing[0])
        try:
            run([outputs.train_settings(one, stores) for one in missing], wait=True)
        except ValueError as error:
            failed.append(str(error))
    if failed:
        raise ValueError("; ".join(failed))


def pieces(outputs: Outputs) -> int:
    """Groups."""
    return len(outputs.groups)


STEP = Step("train", ("harvest",), state, execute, pieces, on_gpu=True)
