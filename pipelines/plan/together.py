"""One SAE on several devices: the time of its updates, and the memory that each device needs.

Owns the sum of a device's own work (`devices`) and of the messages between ranks
(`train/ranks/traffic.py`). It is a prediction: several GPUs have not been measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ...train.ranks.reduce import dealt
from ...train.ranks.traffic import LINKS, Link, slowest
from ..suite.members import SuiteMember
from ..suite.model_shape import model_config
from ..suite.settings import SuiteFile
from .devices import Device
from .memory import group_bytes
from .quantities import Updates, steps_and_batch, widths

_MANY = 8
"""Number of devices that is always shown for comparison: a usual machine has as many."""


@dataclass(frozen=True)
class Together:
    """One SAE, trained by several devices together.

    Attributes:
        devices: number of devices.
        memory_bytes: memory that each device needs.
        seconds: name of the link between the devices -> seconds of all updates.
    """

    devices: int
    memory_bytes: int
    seconds: dict[str, float]


def largest_share(d_sae: int, n_ranks: int) -> float:
    """Largest share of an SAE's latents that one rank owns, 0 to 1.

    Raises:
        ValueError: there are more ranks than shards.
    """
    return max(share.n_latents for share in dealt(d_sae, n_ranks)) / d_sae


def update_seconds(
    device: Device, updates: Updates, n_ranks: int, shape: tuple[int, int, int, int], link: Link
) -> float:
    """Seconds of an SAE's updates on `n_ranks` devices that do not compute while they exchange.

    Args:
        device: the kind of device.
        updates: updates of the whole SAE; assumes that active latents are spread evenly.
        n_ranks: number of devices.
        shape: (d_sae, d_in, d_out, batch).
        link: link between the devices.
    """
    share = largest_share(shape[0], n_ranks)
    own = device.train_seconds(updates.n, share * updates.flops, share * updates.sparse_flops)
    return own + updates.n * slowest(n_ranks, *shape).seconds(link)


def choices(
    file: SuiteFile,
    members: Sequence[SuiteMember],
    updates: Sequence[Updates],
    device: Device,
    asked: int | None,
) -> tuple[SuiteMember, list[Together]] | None:
    """The SAE that needs most memory, on several numbers of devices.

    The numbers are one, the smallest that holds the SAE, and `asked` (eight if not given).

    Args:
        file: the suite.
        members: its SAEs.
        updates: updates of each SAE, in the members' order.
        device: the kind of device.
        asked: a number of devices to show; None for no wish.

    Returns:
        The SAE and its choices; None if one device holds every SAE and `asked` is None.

    Raises:
        ValueError: the SAE cannot be cut into `asked` parts.
    """
    sizes = [group_bytes(file, [member]) for member in members]
    number = sizes.index(max(sizes))
    member, capacity = members[number], 1e9 * device.memory_gb
    if asked is None and sizes[number] <= capacity:
        return None
    wanted = {1, asked or _MANY}
    n_shards = len(dealt(member.values["width"], 1)[0].shards())
    fits = (n for n in range(1, n_shards + 1) if group_bytes(file, [member], n) <= capacity)
    wanted.add(next(fits, 1))
    if asked is None:
        wanted = {n for n in wanted if n <= n_shards}
    found = [_on(file, member, updates[number], device, n) for n in sorted(wanted)]
    return member, found


def _on(file: SuiteFile, member: SuiteMember, updates: Updates, device: Device, n: int) -> Together:
    """One SAE on `n` devices."""
    d_in, d_out = widths(member, model_config(file.suite.model))
    shape = (member.values["width"], d_in, d_out, steps_and_batch(member)[1])
    seconds = {link.name: update_seconds(device, updates, n, shape, link) for link in LINKS}
    return Together(n, group_bytes(file, [member], n), seconds)
