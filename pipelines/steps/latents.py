"""The step latents: SAEs and stored activations → an index of latents for each SAE."""

from pathlib import Path
from typing import Any

from ...evaluate.latents.files.manifest import NAME as MANIFEST_FILE
from ...evaluate.latents.index.run import index
from ...evaluate.latents.index.settings import IndexSettings
from ...workers.share import TaskShare
from ..suite.keys import key
from ..suite.latents import are_wanted, index_settings, indexed
from ..suite.marks import alone
from ..suite.members import SuiteMember
from ..suite.outputs import Outputs
from .harvest import stores_of
from .step import State, Step

INDEX_VERSION = 1
"""Version of the step. Raise it when the content of an index changes."""

_NOT_INDEX = {"sae", "model", "tokens", "store", "out", "device", "dask"}


def index_folders(outputs: Outputs) -> dict[str, Path]:
    """Name of every SAE that gets an index -> the index's folder."""
    members = indexed(outputs.file, outputs.members)
    return {member.name: _folder(outputs, member) for member in members}


def state(outputs: Outputs) -> State:
    """How many SAEs have a whole index."""
    found = index_folders(outputs).values()
    done = [folder for folder in found if (folder / MANIFEST_FILE).is_file()]
    return State(len(done), len(found), "indexes")


def execute(outputs: Outputs, share: TaskShare) -> None:
    """Indexes a share of the SAEs."""
    for number, member in enumerate(indexed(outputs.file, outputs.members)):
        folder = _folder(outputs, member)
        if not share.has(number) or (folder / MANIFEST_FILE).is_file():
            continue
        store = stores_of(outputs, member)[0]  # the store of the site that the SAE reads
        with alone(outputs, str(folder), share):
            index(_settings(outputs, member, folder, store, outputs.tokens.url))


def pieces(outputs: Outputs) -> int:
    """Number of SAEs that get an index."""
    return len(indexed(outputs.file, outputs.members))


def _folder(outputs: Outputs, member: SuiteMember) -> Path:
    """The folder of an SAE's index; its name holds the key of settings, SAE, tokens and model."""
    settings = _settings(outputs, member, Path("index"), "store", "tokens")
    own = settings.model_dump(mode="json", exclude=_NOT_INDEX, exclude_defaults=True)
    inputs = (outputs.sae_key(member), outputs.tokens_key, outputs.model_key)
    own_key = key("latents", INDEX_VERSION, own, *inputs)
    return outputs.out / "latents" / f"{member.name}-{own_key[:8]}"


def _settings(
    outputs: Outputs, member: SuiteMember, folder: Path, store: str, tokens: str
) -> IndexSettings:
    filled: dict[str, Any] = {"sae": str(outputs.sae(member)), "out": folder}
    options = outputs.options([store, tokens])
    return index_settings(
        outputs.file, **filled, store=store, tokens=tokens, storage_options=options
    )


STEP = Step("latents", ("train",), state, execute, pieces, on_gpu=True, is_wanted=are_wanted)
