"""The sum over ranks, in the order of the shards' tree (`kernels.shards`).

A rank has the sums of the largest subtrees whose shards it owns (at most five, as `dealt` deals
them). Each rank receives one block of all these sums, adds it in the tree, and all gather the
blocks. So the sum has the bits of a single process's. A library's own sum would add in an order
that depends on the number of ranks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from ..kernels import Node, Share, TreeSum
from .wire import Wire

FEW = 4096
"""Largest number of elements for which every rank gets all nodes and adds them itself: one message
instead of two."""


def dealt(d_sae: int, n_ranks: int) -> list[Share]:
    """The shards of an SAE, dealt to ranks as evenly as whole shards can be; without a `reduce`.

    Raises:
        ValueError: there are more ranks than shards.
    """
    whole = Share.whole(d_sae)
    n = whole.n_shards
    if n_ranks > n:
        raise ValueError(
            f"ranks must be at most the {n} shards of {d_sae} latents, got {n_ranks}; start fewer "
            "processes, or train a wider SAE"
        )
    edges = [rank * n // n_ranks for rank in range(n_ranks + 1)]
    return [replace(whole, first=first, last=last) for first, last in pairwise(edges)]


class TreeReduce:
    """`kernels.Reduce` over a wire: every rank gets the sum of all ranks' nodes, bit for bit that
    of one process. The library adds integers, whose order does not matter."""

    def __init__(self, wire: Wire, shares: Sequence[Share]):
        """`shares` are the ranks', in order."""
        nodes = [[shards[0] for shards in share.nodes()] for share in shares]
        self._wire, self._firsts = wire, [first for firsts in nodes for first in firsts]
        self._counts = [len(firsts) for firsts in nodes]

    def __call__(self, nodes: Sequence[Node]) -> Tensor:
        """The sum, the same on every rank."""
        first = nodes[0].total
        if not first.is_floating_point():
            return self._wire.sum(first)
        assert len(nodes) == self._counts[self._wire.rank], "every node of this rank"
        reduced = self._of_few if first.numel() <= FEW else self._of_many
        return reduced(nodes).view(first.shape)

    def _of_few(self, nodes: Sequence[Node]) -> Tensor:
        """Every rank gets every node."""
        mine = nodes[0].total.new_zeros(max(self._counts), nodes[0].total.numel())
        for row, node in zip(mine, nodes, strict=False):
            row.copy_(node.total.reshape(-1))
        found = self._wire.all(mine)
        pairs = zip(found, self._counts, strict=True)
        return self._added(row for of_rank, n in pairs for row in of_rank[:n])

    def _of_many(self, nodes: Sequence[Node]) -> Tensor:
        """Every rank adds up one block of the elements; then all get all blocks."""
        n, size = nodes[0].total.numel(), self._wire.size
        block = -(-n // size)
        mine = nodes[0].total.new_zeros(size, len(nodes), block)
        for i, node in enumerate(nodes):
            flat = node.total.reshape(-1)
            for rank, part in enumerate(flat.split(block)):
                mine[rank, i, : len(part)] = part
        added = self._added(self._wire.exchanged(mine, self._counts))
        return self._wire.all(added).view(-1)[:n]

    def _added(self, values: Iterable[Tensor]) -> Tensor:
        """The sum of the nodes' values, given in order, in the tree."""
        tree = TreeSum()
        for first, value in zip(self._firsts, values, strict=True):
            tree.push(first, value)
        return tree.total()
