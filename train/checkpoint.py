"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is one safetensors file, `step_000001500.safetensors`: the tensors, and as its metadata
a JSON record (step, stream position, settings, counters). One file is what a file system renames
and an object store puts atomically. The folder is a local path or any fsspec URL.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from safetensors import SafetensorError
from safetensors.torch import load, save, save_file
from torch import Tensor

_NAME = re.compile(r"step_(\d{9})\.safetensors")
_RECORD = "scopeworks"


@dataclass(frozen=True)
class Checkpoint:
    """One saved moment of a run."""

    step: int
    tensors: dict[str, Tensor]
    record: dict[str, Any]


class Checkpoints:
    """The folder of one run's checkpoints; only the newest `keep` stay."""

    def __init__(self, url: str, keep: int):
        self._fs: AbstractFileSystem
        self._fs, self._root = fsspec.url_to_fs(url)
        self._keep = keep
        self.url = url

    def steps(self) -> list[int]:
        """Steps with a checkpoint, oldest first."""
        if not self._fs.isdir(self._root):
            return []
        self._fs.invalidate_cache(self._root)
        names = (Path(path).name for path in self._fs.ls(self._root, detail=False))
        return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes the checkpoint, then drops the ones that are too old."""
        record = json.dumps(checkpoint.record, allow_nan=False)
        tensors = {k: t.detach().cpu().contiguous() for k, t in checkpoint.tensors.items()}
        self._write(self._path(checkpoint.step), tensors, {_RECORD: record})
        for step in self.steps()[: -self._keep]:
            self._fs.rm_file(self._path(step))

    def load(self, step: int) -> Checkpoint:
        """Reads the checkpoint of `step`.

        Raises:
            ValueError: the file is damaged or not a checkpoint.
        """
        data = bytes(self._fs.cat_file(self._path(step)))  # pyright: ignore[reportArgumentType]
        try:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            record = json.loads(header["__metadata__"][_RECORD])
            return Checkpoint(step, load(data), record)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"checkpoint {self._path(step)} is damaged ({error}); delete it to "
                "continue from an older one"
            ) from error

    def newest(self) -> Checkpoint | None:
        """The checkpoint to continue from, if there is one."""
        steps = self.steps()
        return self.load(steps[-1]) if steps else None

    def name_of_newest(self) -> str:
        """Where the newest checkpoint lies, for messages."""
        steps = self.steps()
        return self._path(steps[-1]) if steps else "none (no checkpoint was written yet)"

    def _path(self, step: int) -> str:
        return f"{self._root}/step_{step:09d}.safetensors"

    def _write(self, path: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """One atomic write: rename on a local disk, a single put elsewhere.

        Raises:
            OSError: there is no room, or no permission; older checkpoints are untouched.
        """
        if "file" not in _protocols(self._fs):
            self._fs.pipe_file(path, save(tensors, metadata=metadata))
            return
        self._fs.makedirs(self._root, exist_ok=True)
        aside = Path(f"{path}.partial")
        try:
            save_file(tensors, aside, metadata=metadata)
        except SafetensorError as error:
            aside.unlink(missing_ok=True)
            raise OSError(f"checkpoint {path} cannot be written: {error}") from error
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)


def _protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    """A file system's names; fsspec gives a string or a tuple."""
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
