"""Whether a run fits the device, answered before anything is allocated.

Owns the estimate of a run's largest moment. Resuming adds nothing to it: checkpoints are read and
written one tensor at a time (`tensor_file`), and a finished member's moments are freed before it is
folded. tests/train/run/test_memory.py compares the estimate with what a run really takes.
"""

from collections.abc import Sequence

import torch

from ...foreign import one_line
from ...machine import free_memory
from ...store.read.stream_order import INTERLEAVE
from ..kernels import Share, bytes_needed, choose_backend
from ..kernels.shards import shard_size
from ..ranks.world import World
from ..settings import TrainSettings
from .measure import MAX_ENTRIES
from .rows import TrainingRows

_GIB = 1 << 30
_MEASURE_BYTES = 10  # of one entry while a trained SAE is measured: z, f and two masks
_STREAM_BATCHES = 8  # beside those read ahead: being made, handed out, moved and scaled
# What libraries keep for themselves: measured 4-8% at 0.8 GiB, 15% at 0.3 GiB.
_SHARE_ON_TOP, _BYTES_ON_TOP = 1.1, 1 << 25


def check_memory(
    members: Sequence[TrainSettings],
    source: TrainingRows,
    device: torch.device,
    world: World | None = None,
) -> None:
    """Raises ValueError if the members need more memory than the device has free.

    The text says what is needed and which width would fit. `members` are those that will train:
    finished ones take nothing. The needs of ranks on one device are added up.
    """
    world = world or World()
    if members and not fits(members, source, device, world, world.by_rows):
        raise ValueError(memory_text(members, source, device, world))


def fits(
    members: Sequence[TrainSettings],
    source: TrainingRows,
    device: torch.device,
    world: World,
    by_rows: bool,
) -> bool:
    """Whether the members fit the device; by_rows says whether ranks share rows or latents."""
    return bytes_for(members, source, device, world.size, by_rows) <= _free(device, world)


def memory_text(
    members: Sequence[TrainSettings],
    source: TrainingRows,
    device: torch.device,
    world: World | None = None,
    error: BaseException | None = None,
) -> str:
    """What the members need, what there is, and what would fit.

    If what they need is free, `error` says what a library could not get: then no width is at fault.
    """
    world = world or World()
    ranks = (world.size, world.by_rows)
    needed, free = bytes_for(members, source, device, *ranks), _free(device, world)
    widest = max(members, key=lambda member: member.width)
    of_each = "" if world.is_alone else f" in each of {world.size} ranks"
    what = f"{len(members)} SAE(s) of width up to {widest.width} at batch {widest.batch}{of_each}"
    if needed <= free:
        said = "" if error is None else f" ({type(error).__name__}: {one_line(error)})"
        return (
            f"memory must suffice for {what}, got a refusal{said} although they take at most "
            f"{needed / _GIB:.2f} GiB and {free / _GIB:.2f} GiB are free on {device}; look for "
            "another process that takes memory, or a limit (ulimit -v), then run the same command"
        )
    return (
        f"memory must hold {needed / _GIB:.1f} GiB for {what}, got {free / _GIB:.1f} GiB free on "
        f"{device}; " + _what_fits(members, widest, source, device, free, *ranks)
    )


def _free(device: torch.device, world: World) -> int:
    """Bytes that each of the ranks on a device may take."""
    return free_memory(device) // world.ranks_on(device)


def _what_fits(
    members: Sequence[TrainSettings],
    widest: TrainSettings,
    source: TrainingRows,
    device: torch.device,
    free: int,
    n_ranks: int,
    by_rows: bool,
) -> str:
    """The largest width that the widest member may have, if any."""
    others = [member for member in members if member is not widest]
    low, high = 0, widest.width
    while high - low > 1:
        middle = (low + high) // 2
        narrower = widest.model_copy(update={"width": middle})
        if bytes_for([*others, narrower], source, device, n_ranks, by_rows) <= free:
            low = middle
        else:
            high = middle
    if low:
        return f"a width of about {low} would fit"
    return "train fewer members at once" if others else "lower the batch"


def bytes_for(
    members: Sequence[TrainSettings],
    source: TrainingRows,
    device: torch.device,
    n_ranks: int = 1,
    by_rows: bool = False,
) -> int:
    """Estimated peak memory of a rank, in bytes: all states, with the largest dense step or the
    measuring of a trained member; on a CPU also the stream's batches and chunks.

    A run takes at most this, and at least half of it (less if no step is dense). Ranks that share
    rows each hold the whole SAE, and a batch while its rows are exchanged.
    """
    states, moments = 0, []
    if by_rows:
        n_ranks = 1
    for member in members:
        wide, size = source.d_in + source.d_out, shard_size(member.width)
        # The most latents that a rank has.
        width = member.width if n_ranks == 1 else min(member.width, _most(member, n_ranks) * size)
        shape, last = (source.d_in, source.d_out, width), (member.skip, _backend(member, device))
        step = bytes_needed(*shape, member.batch, *last) - bytes_needed(*shape, 0, *last)
        tensors = 4 * width * wide
        gradients = tensors if last[1] == "reference" else tensors // 8
        if n_ranks > 1:  # of a shard, and the parts of x̂ that are exchanged
            gradients = 4 * size * wide + 4 * 12 * member.batch * source.d_out
        if by_rows:
            gradients += 4 * 3 * member.batch * wide
        # Parameters and moments; per latent two counters, a running mean; a bfloat16 encoder.
        states += 2 * tensors + width * (20 + 2 * source.d_in)
        # A done member's moments give way to its folded encoder.
        measuring = _MEASURE_BYTES * min(member.batch * size, MAX_ENTRIES)
        moments.append(step + max(gradients, measuring - 4 * width * source.d_out))
        if member.checkpoint_place.is_remote:
            moments.append(step + 2 * tensors)  # an object store takes a file in one piece
    stream = _stream_bytes(members[0], source) if device.type == "cpu" else 0
    return int(_SHARE_ON_TOP * (states + max(moments) + stream)) + _BYTES_ON_TOP


def _most(member: TrainSettings, n_ranks: int) -> int:
    """The number of shards of the rank that has most."""
    return -(-Share.whole(member.width).n_shards // n_ranks)


def _backend(member: TrainSettings, device: torch.device) -> str:
    """The backend that computes a member's steps."""
    name = member.backend.partition("/")[0]
    return choose_backend(device) if name == "auto" else name


def _stream_bytes(settings: TrainSettings, source: TrainingRows) -> int:
    """Batches read ahead and decoded chunks of all sites; with `shuffle_rows` all their rows."""
    batches = (settings.prefetch + _STREAM_BATCHES) * settings.batch
    layouts = [source.store.layout(name) for name in source.site_names]
    chunks = [2 * INTERLEAVE * layout.chunk_rows for layout in layouts]
    if settings.shuffle_rows is not None:
        chunks = [source.store.rows] * len(layouts)
    rows = [batches + kept for kept in chunks]
    return 4 * sum(n * (layout.width or 1) for n, layout in zip(rows, layouts, strict=True))
