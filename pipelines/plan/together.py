"""One SAE on several devices: what its updates take, and how much memory each device holds.

Owns the sum of a device's own work (`devices`) and of what ranks send each other
(`train/ranks/traffic.py`). A prediction: several GPUs have not been measured.
"""

from typing import NamedTuple

from ...train.ranks.reduce import dealt
from ...train.ranks.traffic import Link, slowest
from .devices import Device
from .quantities import Updates


class Shape(NamedTuple):
    """What an update's messages depend on: widths of SAE, input and target, and rows."""

    d_sae: int
    d_in: int
    d_out: int
    batch: int


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
