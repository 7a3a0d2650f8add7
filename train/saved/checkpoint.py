"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is one safetensors file, `step_000001500.safetensors`: the tensors, and as its metadata
a JSON record (step, stream position, settings, counters). One file is what a file system renames
and an object store puts atomically. The folder is a local path or any fsspec URL.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...foreign import parse_json
from ...store.place.files import leftovers
from ...store.place.local import LocalFiles
from ...store.place.locate import locate
from ...store.place.location import StorageOptions
from ...store.place.place import AnyPlace
from ..sae.tensor_file import file_parts, read_metadata, read_tensors

_NAME = re.compile(r"step_(\d{9})\.safetensors")
_RECORD = "scopeworks"
_METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Checkpoint:
    """One saved moment of a run."""

    step: int
    tensors: dict[str, Tensor]
    record: dict[str, Any]


class Checkpoints:
    """The folder of one run's checkpoints; only the newest `keep` stay."""

    def __init__(self, place: AnyPlace, keep: int, storage_options: StorageOptions = None):
        self._location = locate(place, storage_options)
        self._keep = keep

    def steps(self) -> list[int]:
        """Steps with a checkpoint, oldest first."""
        names = self._location.children()
        return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes the checkpoint atomically, then drops the ones that are too old.

        Raises:
            OSError: there is no room, or no permission; older checkpoints are untouched.
        """
        record = json.dumps(checkpoint.record, allow_nan=False)
        name = _name(checkpoint.step)
        try:
            self._location.write(name, file_parts(checkpoint.tensors, {_RECORD: record}))
            self._location.flush([name])
        except OSError as error:
            raise OSError(
                f"checkpoint {self.where(checkpoint.step)} cannot be written: {error}; "
                "older ones are intact"
            ) from error
        for step in self.steps()[: -self._keep]:
            self._location.remove(_name(step))

    def load(self, step: int, device: torch.device | str = "cpu") -> Checkpoint:
        """Reads the checkpoint of `step`, its tensors straight to `device`.

        Raises:
            ValueError: the file is damaged or not a checkpoint.
        """
        with self._explained(step):
            metadata, tensors = read_tensors(self._location, _name(step), device)
            return Checkpoint(step, tensors, _record(metadata))

    def newest_record(self) -> dict[str, Any] | None:
        """The record of the newest checkpoint without its tensors; errors as `load`."""
        steps = self.steps()
        if not steps:
            return None
        with self._explained(steps[-1]):
            return _record(read_metadata(self._location, _name(steps[-1])))

    def newest(self, device: torch.device | str = "cpu") -> Checkpoint | None:
        """The checkpoint to continue from, if there is one."""
        steps = self.steps()
        return self.load(steps[-1], device) if steps else None

    def name_of_newest(self) -> str:
        """Where the newest checkpoint lies, for messages."""
        steps = self.steps()
        return self.where(steps[-1]) if steps else "none (no checkpoint was written yet)"

    def where(self, step: int) -> str:
        """The address of a checkpoint, for messages."""
        return f"{self._location.url}/{_name(step)}"

    @contextmanager
    def _explained(self, step: int) -> Iterator[None]:
        """Turns what a damaged file raises into one line."""
        try:
            yield
        except ValueError as error:
            raise ValueError(
                f"checkpoint {self.where(step)} is damaged ({error}); delete it to "
                "continue from an older one"
            ) from error

    def save_metrics(self, lines: bytes) -> None:
        """Keeps the run's metrics so far beside its checkpoints."""
        self._location.replace(_METRICS, lines)

    def metrics(self) -> bytes | None:
        """The metrics that were kept, if any."""
        return self._location.read(_METRICS) if _METRICS in self._location.children() else None

    def sweep(self) -> None:
        """Removes what killed writes of checkpoints left behind, not what a living process writes;
        an object store shows nothing of either."""
        if isinstance(self._location, LocalFiles):
            partials = leftovers(self._location.root)
            names = {partial.name[1:].rsplit(".", 2)[0] for partial in partials}
            self._location.sweep(name for name in names if _NAME.fullmatch(name))


def _record(metadata: dict[str, str]) -> dict[str, Any]:
    """The record in a checkpoint's metadata."""
    if _RECORD not in metadata:
        raise ValueError(f"it has no record {_RECORD}")
    record = parse_json(metadata[_RECORD], "its record")
    if not isinstance(record, dict):
        raise ValueError("its record must be a JSON object")
    return record


def _name(step: int) -> str:
    """The file of a step."""
    return f"step_{step:09d}.safetensors"
