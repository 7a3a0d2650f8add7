"""The communication model: bytes that ranks send in an update, and the seconds that it takes.

Counts the messages of `reduce`, `wire` and `kernels.row_blocks`; knows no device and sends nothing.
tests/train/ranks/test_traffic.py compares it with the bytes that gloo's sockets send.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..kernels import Share
from .reduce import FEW, dealt

_FLOAT, _WHOLE, _DOUBLE = 4, 8, 8


@dataclass(frozen=True)
class Link:
    """What connects ranks.

    Attributes:
        name: for tables.
        bytes_per_s: of one rank, in each direction.
        latency_s: of one message.
    """

    name: str
    bytes_per_s: float
    latency_s: float


LINKS = (
    Link("NVLink", 450e9, 5e-6),
    Link("PCIe 5.0 x16", 50e9, 1e-5),
    Link("100 Gb Ethernet", 11e9, 3e-5),
)
"""NVLink of an H100 (900 GB/s, both directions together); PCIe and Ethernet less overheads."""

LOOPBACK = Link("gloo on one machine", 5e8, 1e-4)
"""By order of magnitude: 0.2 to 0.6 GB/s between two processes on two busy cores."""


class Traffic(NamedTuple):
    """One rank's traffic in one update: bytes sent, and messages that follow one another."""

    sent_bytes: int
    messages: int

    def seconds(self, link: Link) -> float:
        """Time on a link, with nothing computed meanwhile."""
        return self.sent_bytes / link.bytes_per_s + self.messages * link.latency_s


def of_update(
    n_ranks: int,
    rank: int,
    d_sae: int,
    d_in: int,
    d_out: int,
    batch: int,
    *,
    pre_bias: bool = True,
    latent_weight: bool = False,
    triton: bool = True,
) -> Traffic:
    """What a rank sends in one sparse update, without lines and checkpoints.

    Args:
        n_ranks: ranks, at most as many as the SAE has shards.
        rank: which.
        d_sae, d_in, d_out: widths of SAE, input and target.
        batch: rows.
        pre_bias: of SAEs; transcoders have none.
        latent_weight: whether there is a frequency penalty.
        triton: whether the kernels are Triton's, which exchange one more message.
    """
    if n_ranks == 1:
        return Traffic(0, 0)
    counts = [len(list(share.nodes())) for share in dealt(d_sae, n_ranks)]
    found = [
        _all(n_ranks, 4 * _WHOLE),  # what ranks agree on before the update
        _sum(n_ranks, _WHOLE),  # whether all numbers are finite
        _tree(n_ranks, rank, counts, batch * d_out, _FLOAT),  # x̂
        _sum(n_ranks, batch * _WHOLE),  # ‖f‖₀
        _sum(n_ranks, _WHOLE),  # entries
    ]
    if triton:
        found.append(_sum(n_ranks, _WHOLE))  # whether the entries have room
    if pre_bias:
        found.append(_tree(n_ranks, rank, counts, d_in, _FLOAT))
    if latent_weight:
        found.append(_tree(n_ranks, rank, counts, 1, _DOUBLE))
    return Traffic(sum(t.sent_bytes for t in found), sum(t.messages for t in found))


def of_row_update(
    n_ranks: int,
    d_sae: int,
    d_in: int,
    d_out: int,
    batch: int,
    most_entries: int | None,
    *,
    transcoder: bool = False,
    value_bytes: int = _FLOAT,
) -> Traffic:
    """What any rank sends in one update where ranks share the rows, without checkpoints.

    Args:
        n_ranks: ranks, at most as many as there are rows.
        d_sae, d_in, d_out, batch: as of `of_update`.
        most_entries: entries of the rank that has most; None for a dense update.
        transcoder: whether target rows are sent too.
        value_bytes: bytes of a row's value: 2 if the store holds bfloat16.
    """
    if n_ranks == 1:
        return Traffic(0, 0)
    block = -(-batch // n_ranks)
    found = [
        _all(n_ranks, 4 * _WHOLE),  # what ranks agree on before the update
        _all(n_ranks, block * (d_out + 2) * _FLOAT),  # residual, its square, ‖f‖₀
    ]
    if most_entries is None:
        found.append(_sum(n_ranks, (d_sae + 1) * _WHOLE))  # firing rows of each latent, entries
        share = Share.whole(d_sae)
        for mine in map(share.latents, share.shards()):
            found.append(of_gradients(n_ranks, mine.stop - mine.start, d_in, d_out))
    else:
        found.append(_all(n_ranks, d_sae * _FLOAT))  # entries of each latent
        found.append(_all(n_ranks, max(1, most_entries) * 3 * _FLOAT))  # row, z and df of each
    if batch % n_ranks == 0:  # otherwise every rank reads all rows
        widths = [d_in, d_out] if transcoder else [d_in]
        found += [_all(n_ranks, block * width * value_bytes) for width in widths]
    return Traffic(sum(t.sent_bytes for t in found), sum(t.messages for t in found))


def of_gradients(n_ranks: int, n_latents: int, d_in: int, d_out: int) -> Traffic:
    """What a rank sends to add up the gradients of n_latents latents."""
    return _sum(n_ranks, n_latents * (d_in + d_out + 2) * _FLOAT)


def slowest(n_ranks: int, *shape: int, **options: bool) -> Traffic:
    """The traffic of the rank that sends most; see `of_update`."""
    return max(of_update(n_ranks, rank, *shape, **options) for rank in range(n_ranks))


def table(d_in: int, batch: int, widths: tuple[int, ...], n_ranks: int) -> Iterator[str]:
    """Lines for a page: megabytes and milliseconds of an SAE's update by width and link."""
    for d_sae in widths:
        traffic = slowest(n_ranks, d_sae, d_in, d_in, batch)
        times = " | ".join(f"{1e3 * traffic.seconds(link):.2f}" for link in LINKS)
        yield f"| {d_sae:,} | {traffic.sent_bytes / 1e6:.1f} | {times} |"


def _sum(n_ranks: int, n_bytes: int) -> Traffic:
    """A ring: every rank passes on its part twice around."""
    return Traffic(2 * (n_ranks - 1) * n_bytes // n_ranks, 2 * (n_ranks - 1))


def _all(n_ranks: int, n_bytes: int) -> Traffic:
    """A ring once around."""
    return Traffic((n_ranks - 1) * n_bytes, n_ranks - 1)


def _tree(n_ranks: int, rank: int, counts: list[int], n: int, item: int) -> Traffic:
    """A sum in the shards' tree, see `reduce.TreeReduce`."""
    if n <= FEW:
        return _all(n_ranks, max(counts) * n * item)
    block = -(-n // n_ranks) * item
    gathered = _all(n_ranks, block)
    sent = (n_ranks - 1) * counts[rank] * block
    return Traffic(sent + gathered.sent_bytes, 1 + gathered.messages)
