"""Whether a run fits the device, answered before anything is allocated."""

from collections.abc import Sequence
from pathlib import Path

import torch

from .kernels import bytes_needed
from .settings import TrainSettings

_GIB = 1 << 30


def check_memory(
    members: Sequence[TrainSettings], d_in: int, d_out: int, device: torch.device
) -> None:
    """Raises ValueError if the members' states and the largest step need more memory than the
    device has free.

    The text says what was needed and which width would fit.
    """
    free = free_bytes(device)
    needed = bytes_for(members, d_in, d_out)
    if free is None or needed <= free:
        return
    widest = max(members, key=lambda member: member.width)
    others = needed - bytes_for([widest], d_in, d_out)
    per_latent = bytes_for([widest], d_in, d_out) / widest.width
    fits = max(0, int((free - others) / per_latent))
    raise ValueError(
        f"memory must hold {needed / _GIB:.1f} GiB for {len(members)} SAE(s) of width up to "
        f"{widest.width} at batch {widest.batch}, got {free / _GIB:.1f} GiB free on {device}; "
        + (f"a width of about {fits} would fit" if fits else "train fewer members at once")
    )


def bytes_for(members: Sequence[TrainSettings], d_in: int, d_out: int) -> int:
    """Estimated bytes: every member's state and the intermediates of the largest step."""
    states = [bytes_needed(d_in, d_out, m.width, 0, skip=m.skip) for m in members]
    steps = [bytes_needed(d_in, d_out, m.width, m.batch, skip=m.skip) for m in members]
    return sum(states) + max(step - state for step, state in zip(steps, states, strict=True))


def free_bytes(device: torch.device) -> int | None:
    """Memory that `device` could still give; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [value for value in (_available(), _below_group_limit()) if value is not None]
    return min(limits, default=None)


def _available() -> int | None:
    """Linux's estimate of memory available without swapping."""
    path = Path("/proc/meminfo")
    if not path.is_file():
        return None
    for line in path.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _below_group_limit() -> int | None:
    """What a container's memory limit (cgroup v2) leaves; file cache counts as free."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    return int(limit) - used + int(stat.get("inactive_file", 0))
