"""Whether a run's files fit the disk, answered before anything is written.

Owns the estimate of what a run writes on local disks: checkpoints and the trained SAE. URLs are not
checked: an object store reports no free space.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ...machine import free_disk, nearest
from ...store.place.local import LocalFiles
from ...store.place.locate import locate
from ..settings import TrainSettings
from .rows import TrainingRows

_GIB = 1 << 30


def check_disk(members: Sequence[TrainSettings], source: TrainingRows) -> None:
    """Raises ValueError if the members will write more than a disk has free; the text says what
    would help."""
    needed: dict[int, int] = defaultdict(int)
    places: dict[int, Path] = {}
    for settings in members:
        for folder, n_bytes in _writes(settings, source):
            there = nearest(folder)
            disk = there.stat().st_dev
            needed[disk] += n_bytes
            places[disk] = there
    for disk, n_bytes in needed.items():
        free = free_disk(places[disk])
        if n_bytes > free:
            raise ValueError(
                f"disk must have room for {n_bytes / _GIB:.1f} GiB of checkpoints and weights at "
                f"{places[disk]}, got {free / _GIB:.1f} GiB free; make room, lower "
                "keep_checkpoints, or pass --set checkpoints=ELSEWHERE"
            )


def _writes(settings: TrainSettings, source: TrainingRows) -> list[tuple[Path, int]]:
    """Folders of a run, each with the most bytes that the run adds there."""
    wide, width = source.d_in + source.d_out, settings.width
    weights = 4 * (width * (wide + 2) + source.d_out)
    weights += 4 * source.d_in * source.d_out * settings.skip
    writes = [(settings.out, weights)]
    place = locate(settings.checkpoint_place)
    if isinstance(place, LocalFiles):
        # Parameters, second moments and three counters a latent; one more than are kept while the
        # newest is written.
        n_checkpoints = min(settings.keep_checkpoints, _n_checkpoints(settings)) + 1
        there = sum(path.stat().st_size for path in place.root.glob("step_*.safetensors"))
        new = n_checkpoints * (2 * weights + 20 * width) - there
        writes.append((place.root, max(0, new)))
    return writes


def _n_checkpoints(settings: TrainSettings) -> int:
    """Checkpoints of the whole run; keep_checkpoints if they are also made by the clock."""
    if settings.checkpoint_minutes is not None:
        return settings.keep_checkpoints
    return -(-settings.steps // settings.checkpoint_every)
