"""Space: checks that the disks have space for a step, by the plan, before the step begins.

Harvest checks the space for its store itself. Object stores are not checked: they have no limit
that could be asked for.
"""

from pathlib import Path

from ...machine import free_disk, nearest
from ...store.place.place import Place
from ..plan.quantities import quantities
from ..suite.outputs import Outputs


def check_space(outputs: Outputs, step: str, share_left: float = 1.0) -> None:
    """Refuses a step whose outputs do not fit on the disks.

    Args:
        outputs: the suite's outputs.
        step: name of the step.
        share_left: share of the step's outputs that are still missing, 0 to 1.

    Raises:
        ValueError: naming the place, what is needed and what is free.
    """
    text_bytes = None if outputs.file.text_table.store is not None else outputs.text_bytes()
    try:
        found = {q.step: q.written for q in quantities(outputs.file, text_bytes)}
    except ValueError:  # only the token store of [text] knows how many rows there will be
        return
    needed: dict[int, tuple[Path, float]] = {}
    for name, n_bytes in found.get(step, {}).items():
        url = _places(outputs).get(name)
        if url is None or Place(url).is_remote:
            continue
        disk = nearest(Path(url))
        device = disk.stat().st_dev
        needed[device] = (disk, needed.get(device, (disk, 0.0))[1] + n_bytes * share_left)
    for disk, n_bytes in needed.values():
        free = free_disk(disk)
        if n_bytes > free:
            raise ValueError(
                f"disk at {disk} must have room for {n_bytes / 1e9:,.2f} GB that {step} writes, "
                f"got {free / 1e9:,.2f} GB free; make room, or name another place in the suite "
                "(`scopeworks plan` says what each step takes)"
            )


def _places(outputs: Outputs) -> dict[str, str]:
    """The plan's places as paths or URLs, without the activation stores."""
    out, suite = str(outputs.out), outputs.suite
    return {
        "out": out,
        "tokens": suite.tokens or out,
        "checkpoints": suite.checkpoints or out,
    }
