"""Checkpoints: everything a run needs to continue as if it had never stopped.

A checkpoint is one safetensors file, `step_000001500.safetensors`. It holds the training state's
tensors and, as metadata, a JSON record (step, stream position, settings, counters). A single file
can be renamed atomically in a file system and put atomically into an object store. The folder is a
local path or any fsspec URL.

If several ranks train one SAE, each writes the latents of its shards to a file of its own,
`step_000001500.shards_16_32.safetensors` (shards 16 to 31). Once all parts are written, the first
rank writes `step_000001500.safetensors` with the other tensors and the parts' borders. Joined, the
parts are the tensors of a single file, so any number of ranks reads either form.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from ...foreign import Document, one_line, parse_json, read_document
from ...store.place.files import leftovers
from ...store.place.local import LocalFiles
from ...store.place.locate import locate
from ...store.place.location import StorageOptions
from ...store.place.place import AnyPlace
from ..kernels import Share
from ..sae.tensor_file import TensorFile, file_parts, read_metadata

_NAME = re.compile(r"step_(\d{9})\.safetensors")
_PART = re.compile(r"step_(\d{9})\.shards_(\d\d)_(\d\d)\.safetensors")
_RECORD, _PARTS, _MOMENT, _SHARDS = "scopeworks", "parts", "moment", "shards"
_METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Checkpoint:
    """One saved moment of a run."""

    step: int
    tensors: dict[str, Tensor]
    record: dict[str, Any]

    def of_latents(self) -> dict[str, Tensor]:
        """The tensors with a row for each latent."""
        return {name: t for name, t in self.tensors.items() if not _is_shared(name)}

    def of_all(self) -> dict[str, Tensor]:
        """The other tensors (b_dec, W_skip, scalars), which are the same on every rank."""
        return {name: t for name, t in self.tensors.items() if _is_shared(name)}


def _is_shared(name: str) -> bool:
    return name.rpartition(".")[2] in ("b_dec", "W_skip", "n_updates", "density")


class _Parts(Document):
    """Where the latents' tensors are, if not in the file itself."""

    d_sae: PositiveInt
    edges: list[NonNegativeInt] = Field(min_length=2, max_length=65)
    """The parts' borders, counted in shards: part i has the shards [edges[i], edges[i + 1])."""


class Checkpoints:
    """The folder of one run's checkpoints; the newest `keep` are kept."""

    def __init__(self, place: AnyPlace, keep: int, storage_options: StorageOptions = None):
        self._location = locate(place, storage_options)
        self._keep = keep

    def steps(self) -> list[int]:
        """Steps with a checkpoint, oldest first."""
        names = self._location.children()
        return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))

    def save(self, checkpoint: Checkpoint, shares: Sequence[Share] = ()) -> None:
        """Writes the checkpoint atomically, then drops the ones that are too old.

        Args:
            checkpoint: of all latents; or, once all ranks have written their parts, the first
                rank's.
            shares: the ranks' shares, if there are several.

        Raises:
            OSError: the disk is full, there is no permission, or a rank's part is not in this
                folder; older checkpoints are untouched.
        """
        metadata = {_RECORD: json.dumps(checkpoint.record, allow_nan=False)}
        tensors = checkpoint.tensors
        if len(shares) > 1:
            edges = [0, *(share.last for share in shares)]
            metadata[_PARTS] = _Parts(d_sae=shares[0].d_sae, edges=edges).model_dump_json()
            tensors = checkpoint.of_all()
            self._check_parts(checkpoint.step, edges)
        self._write(checkpoint.step, _name(checkpoint.step), tensors, metadata)
        for step in self.steps()[: -self._keep]:
            self._location.remove(_name(step))
        self._drop_parts()

    def _check_parts(self, step: int, edges: list[int]) -> None:
        """Raises OSError if a rank has written its part to another place."""
        there = set(self._location.children())
        for first, last in pairwise(edges):
            if (name := _part_name(step, first, last)) not in there:
                raise OSError(
                    f"checkpoints must be where all ranks see them, but part {name} is not in "
                    f"{self._location.url} of the first; pass --checkpoints on a shared disk or in "
                    "a bucket; older ones are intact"
                )

    def save_part(self, checkpoint: Checkpoint, share: Share) -> None:
        """Writes the latents of one of several ranks; errors as `save`."""
        name = _part_name(checkpoint.step, share.first, share.last)
        metadata = {_MOMENT: moment(checkpoint.record), _SHARDS: f"{share.first} {share.last}"}
        self._write(checkpoint.step, name, checkpoint.of_latents(), metadata)

    def _write(
        self, step: int, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]
    ) -> None:
        """Writes a file and flushes it to the disk."""
        try:
            self._location.write(name, file_parts(tensors, metadata))
            self._location.flush([name])
        except OSError as error:
            raise OSError(
                f"checkpoint {self.where(step)} cannot be written: {error}; older ones are intact"
            ) from error

    def _drop_parts(self) -> None:
        """Removes parts whose checkpoint was removed or never completed."""
        steps = set(self.steps())
        for name in self._location.children():
            if (match := _PART.fullmatch(name)) and int(match[1]) not in steps:
                self._location.remove(name)

    def load(
        self, step: int, device: torch.device | str = "cpu", share: Share | None = None
    ) -> Checkpoint:
        """Reads the checkpoint of `step`; each tensor goes straight to `device`.

        Args:
            step: of an existing checkpoint.
            device: where the tensors go.
            share: the latents to read; by default all.

        Raises:
            ValueError: a file is damaged or is not a checkpoint.
        """
        with self._explained(step):
            file = TensorFile(self._location, _name(step))
            record, pieces = _record(file.metadata), self._pieces(step, file)
            is_whole = pieces[0].file is file and (share is None or share.is_whole)
            here = (name for name in file.tensors if is_whole or _is_shared(name))
            tensors = {name: file.tensor(name).to(device) for name in here}
            if is_whole:
                return Checkpoint(step, tensors, record)
            for name, first in pieces[0].file.tensors.items():
                if not _is_shared(name):
                    tensors[name] = _rows(pieces, name, first, share).to(device)
            return Checkpoint(step, tensors, record)

    def _pieces(self, step: int, file: TensorFile) -> list["_Piece"]:
        """The files that hold latents, each with the latents it holds."""
        if _PARTS not in file.metadata:
            return [_Piece(file, None)]
        parts = read_document(_Parts, file.metadata[_PARTS], "its list of parts")
        pieces = []
        wanted = moment(_record(file.metadata))
        for first, last in pairwise(parts.edges):
            name = _part_name(step, first, last)
            try:
                part = TensorFile(self._location, name)
            except (FileNotFoundError, ValueError) as error:
                raise ValueError(f"its part {name}: {one_line(error)}") from error
            # Parts of older versions do not say which shards they hold.
            of_shards = part.metadata.get(_SHARDS, f"{first} {last}") == f"{first} {last}"
            if part.metadata.get(_MOMENT) != wanted or not of_shards:
                raise ValueError(f"its part {name} is another run's, moment's or rank's")
            pieces.append(_Piece(part, Share(parts.d_sae, first, last).mine))
        return pieces

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
        """The address of the newest checkpoint, for messages."""
        steps = self.steps()
        return self.where(steps[-1]) if steps else "none (no checkpoint was written yet)"

    def where(self, step: int) -> str:
        """The address of a checkpoint, for messages."""
        return f"{self._location.url}/{_name(step)}"

    @contextmanager
    def _explained(self, step: int) -> Iterator[None]:
        """Turns the errors of a damaged file into one line."""
        try:
            yield
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"checkpoint {self.where(step)} is damaged ({error}); delete it to "
                "continue from an older one"
            ) from error

    def save_metrics(self, lines: bytes) -> None:
        """Copies the run's metrics so far beside its checkpoints."""
        self._location.replace(_METRICS, lines)

    def metrics(self) -> bytes | None:
        """The copy of the metrics, if there is one."""
        return self._location.read(_METRICS) if _METRICS in self._location.children() else None

    def sweep(self) -> None:
        """Removes what killed writes of checkpoints left behind, but not what a living process is
        writing. An object store shows neither."""
        if isinstance(self._location, LocalFiles):
            partials = leftovers(self._location.root)
            names = {partial.name[1:].rsplit(".", 2)[0] for partial in partials}
            ours = (name for name in names if _NAME.fullmatch(name) or _PART.fullmatch(name))
            self._location.sweep(ours)


def moment(record: dict[str, Any]) -> str:
    """A digest that names the run and the update. It is equal on all ranks, though the rest of
    their records (timings, means) may differ."""
    identity = {name: record.get(name) for name in ("step", "stream", "settings", "store")}
    text = json.dumps(identity, sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


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


def _part_name(step: int, first: int, last: int) -> str:
    """The file of some shards of a step."""
    return f"step_{step:09d}.shards_{first:02d}_{last:02d}.safetensors"


class _Piece(NamedTuple):
    """A file with latents, and which latents; None for all."""

    file: TensorFile
    latents: slice | None


def _rows(pieces: list[_Piece], name: str, first: Tensor, share: Share | None) -> Tensor:
    """A tensor's rows of some latents, from the files that have them.

    Args:
        pieces: in the latents' order.
        name: the tensor's.
        first: the first piece's tensor, without memory, for shape and dtype.
        share: the latents to read; None for all.
    """
    n_rows = sum(len(piece.file.tensors[name]) for piece in pieces)
    wanted = share.mine if share is not None else slice(0, n_rows)
    if share is not None and n_rows != share.d_sae:
        raise ValueError(f"{name} must be of {share.d_sae} latents, got {n_rows}")
    out = torch.empty((wanted.stop - wanted.start, *first.shape[1:]), dtype=first.dtype)
    for file, latents in pieces:
        held = latents or slice(0, n_rows)
        if len(file.tensors[name]) != held.stop - held.start:
            raise ValueError(f"{name} must be of {held.stop - held.start} latents in each part")
        start, stop = max(held.start, wanted.start), min(held.stop, wanted.stop)
        if start < stop:
            place = out[start - wanted.start : stop - wanted.start]
            file.rows_into(name, start - held.start, place)
    return out
