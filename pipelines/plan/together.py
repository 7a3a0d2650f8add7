"""One SAE on several devices: what its updates take, and how much memory each device needs.

Owns the sum of a device's own work (`devices`) and of what ranks send each other
(`train/ranks/traffic.py`). A prediction: several GPUs have not been measured.
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
"""Devices of a machine, for comparison."""


@dataclass(frozen=True)
class Together:
    """One SAE, trained by so many devices.

    Attributes:
        devices: how many.
        memory_bytes: that each needs.
        seconds: of all updates, by the name of what connects the devices.
    """

    devices: int
    memory_bytes: int
    seconds: dict[str, float]


def largest_share(d_sae: int, n_ranks: int) -> float:
    """Of an SAE's latents, the part that the rank with most of them owns.

    Raises:
        ValueError: there are more ranks than shards.
    """
    return max(share.n_latents for share in dealt(d_sae, n_ranks)) / d_sae


def update_seconds(
    device: Device, updates: Updates, n_ranks: int, shape: tuple[int, int, int, int], link: Link
) -> float:
    """Seconds of an SAE's updates on so many devices, nothing computed while they exchange.

    Args:
        device: one of them.
        updates: of the whole SAE; active latents are taken to be spread evenly.
        n_ranks: devices.
        shape: d_sae, d_in, d_out, batch.
        link: what connects them.
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
    """The SAE that needs most memory, on one device, on as many as hold it, and on `asked` or eight
    of them; None where one device holds it and nobody asks.

    Args:
        file: the suite.
        members: its SAEs.
        updates: of every SAE.
        device: one of them.
        asked: so many devices.

    Raises:
        ValueError: an SAE cannot be cut into so many parts.
    """
    sizes = [group_bytes(file, [member]) for member in members]
    number = sizes.index(max(sizes))
    member, room = members[number], 1e9 * device.memory_gb
    if asked is None and sizes[number] <= room:
        return None
    wanted = {1, asked or _MANY}
    n_shards = len(dealt(member.values["width"], 1)[0].shards())
    fits = (n for n in range(1, n_shards + 1) if group_bytes(file, [member], n) <= room)
    wanted.add(next(fits, 1))
    if asked is None:
        wanted = {n for n in wanted if n <= n_shards}
    found = [_on(file, member, updates[number], device, n) for n in sorted(wanted)]
    return member, found


def _on(file: SuiteFile, member: SuiteMember, updates: Updates, device: Device, n: int) -> Together:
    """One SAE on so many devices."""
    d_in, d_out = widths(member, model_config(file.suite.model))
    shape = (member.values["width"], d_in, d_out, steps_and_batch(member)[1])
    seconds = {link.name: update_seconds(device, updates, n, shape, link) for link in LINKS}
    return Together(n, group_bytes(file, [member], n), seconds)
