"""What ranks agree on: before the first step that they are alike (otherwise their bits or even
their runs would differ), and what they share; before a checkpoint that they have the same bits.

    latents   two copies of x̂ are sent; every rank reads and decodes all rows
    rows      rows, entries and residuals are sent; every rank updates all latents

`auto` takes what is predicted to be faster: seconds on the link by `traffic`, plus seconds for the
work that every rank repeats. The rest of the work is the same for both and left out.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ...machine import processor
from ..kernels import Share
from .traffic import Link, of_row_update, slowest
from .world import World

USUAL_L0 = 100.0
"""Entries of a row that are assumed if no L0 is wanted."""

_DECODED_PER_S = 5.5e8
"""Bytes of bfloat16 rows that a core decodes in a second (docs/train.md, "Reading for many")."""
_UPDATED_PER_S = {"cpu": 2e10, "cuda": 2e12}
"""Bytes that an update moves in a second; an H200 moves about 6 to 20 GB in 2 to 15 ms
(docs/train.md)."""
_MOST_RANKS = 64


def check_same(world: World, facts: dict[str, Any]) -> None:
    """Raises ValueError that names the first fact in which a rank differs from the first one;
    the same on all ranks.

    Args:
        world: the ranks.
        facts: JSON values by name.
    """
    told = [json.loads(text) for text in world.told(json.dumps(facts))]
    for rank, others in enumerate(told[1:], 1):
        for name in sorted(told[0].keys() | others.keys()):
            first, other = told[0].get(name), others.get(name)
            if first != other:
                raise ValueError(
                    f"ranks must have the same {name}, got {_shown(first)} on {world.named(0)} and "
                    f"{_shown(other)} on {world.named(rank)}"
                )


def check_equal(world: World, loss: float, tensors: dict[str, Tensor]) -> None:
    """Raises ValueError, the same on all ranks, if ranks do not have the same bits. All call it
    before a checkpoint.

    Args:
        world: the ranks.
        loss: of the last update. Ranks that read other rows find another one.
        tensors: those that every rank holds.
    """
    if world.is_alone:
        return
    digest = hashlib.sha256(struct.pack("<d", loss))
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.contiguous().cpu().numpy().data)
    told = world.told(digest.hexdigest())
    usual = Counter(told).most_common(1)[0][0]
    others = [world.named(rank) for rank, found in enumerate(told) if found != usual]
    if others:
        raise ValueError(
            "ranks must hold the same parameters and find the same loss, got others on "
            f"{', '.join(others)} after update {world.update}; its processor, memory or libraries "
            "are at fault. The newest checkpoint is of before, and the same command continues"
        )


def facts_of_process(device: torch.device) -> dict[str, Any]:
    """What the bits of a step depend on besides rows and settings: packages, processor, threads."""
    packages = ("scopeworks", "torch", "numba" if device.type == "cpu" else "triton")
    facts: dict[str, Any] = {f"version of {name}": _version(name) for name in packages}
    if device.type == "cuda":
        return facts | {"card": torch.cuda.get_device_name(device)}
    return facts | {"processor": processor(), "threads": torch.get_num_threads()}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return "of no package"


def _shown(value: Any) -> str:
    return str(value)[:60]


@dataclass(frozen=True)
class UpdateShape:
    """The sizes of an update: widths, rows, mean entries of a row, bytes of a stored value."""

    d_sae: int
    d_in: int
    d_out: int
    batch: int
    l0: float = USUAL_L0
    transcoder: bool = False
    value_bytes: int = 2

    @property
    def row_bytes(self) -> int:
        """Bytes of a batch's rows as bfloat16."""
        return 2 * self.batch * (self.d_in + self.transcoder * self.d_out)

    @property
    def update_bytes(self) -> float:
        """Bytes that updating latents reads and writes."""
        # Parameters and moments of the latents with entries, read and written; for each entry a
        # row of x and of the residual.
        entries = self.batch * self.l0
        touched = min(float(self.d_sae), entries)
        return (16 * touched + 4 * entries) * (self.d_in + self.d_out)


@dataclass(frozen=True)
class RankMachine:
    """What ranks run on: the link between them, the kind of device, and a rank's cores."""

    link: Link
    kind: str
    cores: float


class Way(NamedTuple):
    """What ranks share, and why."""

    by_rows: bool
    why: str


def choose(
    asked: Literal["auto", "latents", "rows"] | None,
    n_ranks: int,
    update: UpdateShape,
    machine: RankMachine,
    rows_fit: bool,
) -> Way:
    """What ranks share.

    Args:
        asked: the setting `parallel`; None means latents.
        n_ranks: number of ranks.
        update, machine: what is trained, and on what.
        rows_fit: whether a rank's memory holds the whole SAE.

    Raises:
        ValueError: `asked` is rows, and a rank would have no row.
    """
    if asked == "rows" and update.batch < n_ranks:
        raise ValueError(
            f"batch must be at least the {n_ranks} ranks that share its rows, got {update.batch}; "
            "start fewer processes, or raise the batch"
        )
    if asked != "auto":
        return Way(asked == "rows", "as asked for" if asked else "as they do unless told")
    if update.batch < n_ranks:
        return Way(False, "there are more ranks than rows in a batch")
    n_shards = Share.whole(update.d_sae).n_shards
    if n_shards < n_ranks:  # too many ranks are refused elsewhere
        return Way(n_ranks <= _MOST_RANKS, "there are more ranks than shards of latents")
    if not rows_fit:
        return Way(False, "a rank has no room for the whole SAE")
    latents_s, rows_s = seconds(n_ranks, update, machine)
    figures = f"{1e3 * rows_s:.1f} ms an update by rows, {1e3 * latents_s:.1f} by latents"
    return Way(rows_s < latents_s, f"{figures} ({machine.link.name}, by the communication model)")


def seconds(n_ranks: int, update: UpdateShape, machine: RankMachine) -> tuple[float, float]:
    """Seconds that an update costs, besides the shared work, if ranks share latents, and rows."""
    again = 1 - 1 / n_ranks
    latents = slowest(
        n_ranks,
        *(update.d_sae, update.d_in, update.d_out, update.batch),
        pre_bias=not update.transcoder,
        triton=machine.kind == "cuda",
    )
    rows = of_row_update(
        n_ranks,
        *(update.d_sae, update.d_in, update.d_out, update.batch),
        int(update.l0 * -(-update.batch // n_ranks)),
        transcoder=update.transcoder,
        value_bytes=update.value_bytes,
    )
    decoded_s = again * update.row_bytes / (machine.cores * _DECODED_PER_S)
    if update.batch % n_ranks:  # then ranks that share rows read all of them, too
        decoded_s = 0.0
    updated_s = again * update.update_bytes / _UPDATED_PER_S[machine.kind]
    return latents.seconds(machine.link) + decoded_s, rows.seconds(machine.link) + updated_s
