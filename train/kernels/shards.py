"""The latent axis as virtual shards: what ranks own, and the order in which sums over latents run.

d_sae latents are cut into shards of one size; the last may be short. Every product and every sum
over latents runs shard by shard, and the shards' results are added in a fixed tree, neighbours
first:

    ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + s6)

So no number of a step depends on how many processes share the latents, as long as each owns whole
shards and all have the same libraries, processor and number of torch threads: a library may add in
another order with another number. A shard that adds nothing may be left out: x + 0 is x, but for
the sign of a zero, which no number depends on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .row_blocks import RowBlocks

MOST, LEAST = 64, 8
"""The most shards of an SAE, and into how many a narrow one is cut (or a few less)."""
FULL = 1024
"""Latents of a shard between these limits. Smaller shards cost more time: at 1,024 × 2,304 × 16,384
and L0 60 (Zen 5) shards of 1,024 cost a step 1%, of 512 over 3%."""

_LINE_BYTES = 64
"""A cache line."""


class Node(NamedTuple):
    """A subtree's sum: the first of its shards, and what they add up to."""

    shard: int
    total: Tensor


Reduce = Callable[[Sequence[Node]], Tensor]
"""Takes this rank's nodes in order; returns the sum of all ranks' nodes, the same on every rank.
Pushing the nodes of all ranks into a `TreeSum` in order gives that sum. The nodes' tensors are on
the step's device, and the reducer may overwrite them. The caller may overwrite the sum."""


def shard_size(d_sae: int) -> int:
    """Latents of a virtual shard, a function of the SAE's width alone."""
    return max(-(-d_sae // MOST), min(FULL, -(-d_sae // LEAST)))


class TreeSum:
    """Adds the shards' results in the tree's order and holds few of them at once.

    Shards are pushed in ascending order; some may be missing. The sum of a whole subtree is pushed
    under the number of its first shard. Results are added in place.
    """

    def __init__(self) -> None:
        self._held: list[tuple[int, Tensor]] = []

    def make_way(self, shard: int) -> int:
        """Adds up the subtrees that end before a shard; returns how many results are still held."""
        held = self._held
        while len(held) > 1 and _joins_below(held[-2][0], held[-1][0], shard):
            last, total = held.pop()[1], held[-1][1]
            total += last
            held[-1] = (held[-1][0], total)
        return len(held)

    def push(self, shard: int, value: Tensor) -> None:
        """Takes the result of the next shard."""
        self.make_way(shard)
        self._held.append((shard, value))

    def total(self) -> Tensor:
        """The sum of all results pushed, of which there must be at least one."""
        self.make_way(1 << 62)
        return self._held[0][1]


def _joins_below(a: int, b: int, c: int) -> bool:
    """Whether shards a and b meet further down in the tree than b and c do, a < b < c."""
    return (a ^ b).bit_length() < (b ^ c).bit_length()


def _alone(nodes: Sequence[Node]) -> Tensor:
    """`Reduce` for the owner of all shards."""
    (whole,) = nodes
    return whole.total


@dataclass(frozen=True)
class Share:
    """The part of a step that one process computes: some shards, or all shards of some rows.

    Attributes:
        d_sae: latents of the whole SAE.
        first, last: the shards owned, [first, last).
        reduce: adds this rank's parts to the others'; all ranks call it equally often.
        rows: which rows of a batch are this rank's, if every rank owns all shards.

    Raises:
        ValueError: the range of shards is empty or not inside the SAE.
    """

    d_sae: int
    first: int
    last: int
    reduce: Reduce = _alone
    rows: RowBlocks | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last <= self.n_shards:
            raise ValueError(
                f"shards must be some of the {self.n_shards} of {self.d_sae} latents, got "
                f"[{self.first}, {self.last})"
            )

    @classmethod
    def whole(cls, d_sae: int) -> "Share":
        """All shards: the share of a process that trains alone."""
        return cls(d_sae, 0, -(-d_sae // shard_size(d_sae)))

    @property
    def size(self) -> int:
        """Latents of a shard."""
        return shard_size(self.d_sae)

    @property
    def n_shards(self) -> int:
        """Shards of the whole SAE."""
        return -(-self.d_sae // self.size)

    @property
    def is_whole(self) -> bool:
        """Whether all shards are here."""
        return (self.first, self.last) == (0, self.n_shards)

    def my_rows(self, batch: int) -> slice:
        """The rows of a batch whose entries this process finds."""
        return slice(0, batch) if self.rows is None else self.rows.mine(batch)

    @property
    def n_latents(self) -> int:
        """Latents owned."""
        return min(self.last * self.size, self.d_sae) - self.first * self.size

    @property
    def mine(self) -> slice:
        """The latents owned, counted from the SAE's first."""
        return slice(self.first * self.size, self.first * self.size + self.n_latents)

    def latents(self, shard: int) -> slice:
        """A shard's latents, counted from the first one owned."""
        start = (shard - self.first) * self.size
        return slice(start, min(start + self.size, self.n_latents))

    def shards(self) -> range:
        """The shards owned."""
        return range(self.first, self.last)

    def nodes(self) -> Iterator[range]:
        """The largest subtrees of which all shards are owned, in order, each as its shards."""
        at, n = self.first, self.n_shards
        while at < self.last:
            width = 1
            while at % (2 * width) == 0 and min(at + 2 * width, n) <= self.last and width < n:
                width *= 2
            yield range(at, min(at + width, n))
            at += width

    def add(self, part: Callable[[int], Tensor]) -> Tensor:
        """Sum of part(shard) over all shards of the SAE; all parts have one shape and dtype."""
        nodes = []
        for shards in self.nodes():
            tree = TreeSum()
            for shard in shards:
                tree.push(shard, part(shard))
            nodes.append(Node(shards[0], tree.total()))
        return self.reduce(nodes)

    def count(self, n: Tensor) -> Tensor:
        """Sum of an integer tensor over ranks; the order of the sum does not matter."""
        return self.reduce([Node(self.first, n)])


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """a @ b of one shard's matrices, with the same bits whichever rank owns the shard."""
    # Where a matrix of odd width begins at another alignment, BLAS adds in another order.
    a, b = _aligned(a), _aligned(b)
    if out is None or _is_aligned(out):
        return torch.mm(a, b, out=out)
    return out.copy_(torch.mm(a, b))


def _aligned(matrix: Tensor) -> Tensor:
    """The matrix, or a copy of it that begins at a cache line (as all memory of torch's does)."""
    return matrix if _is_aligned(matrix) else matrix.clone()


def _is_aligned(matrix: Tensor) -> bool:
    return matrix.data_ptr() % _LINE_BYTES == 0
