"""Ranks that share the latents of one SAE, played one after the other in one process.

Shows that a step gives the same bits whoever owns the shards, without a network: a rank runs until
it needs the others' parts, then the next one does.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar
from unittest import mock

from torch import Tensor

from scopeworks.train.kernels import (
    Node,
    Parameters,
    Reduce,
    RowBlocks,
    Share,
    TrainState,
    TreeSum,
    precision,
)
from scopeworks.train.kernels.cpu import backend
from scopeworks.train.kernels.cpu.workspace import Workspace

ResultT = TypeVar("ResultT")


class Ranks:
    """`n` threads of which one runs at a time; rank r after rank r − 1."""

    def __init__(self, n: int):
        self._n, self._turn, self._moved = n, 0, threading.Condition()
        self._rounds: list[list[Node]] = []
        self._calls = [0] * n
        self._workspaces = [Workspace() for _ in range(n)]

    def run(self, work: Callable[[int, Reduce], ResultT]) -> list[ResultT]:
        """Every rank's result of work(rank, reduce); the first error of one, if there is any."""
        results: dict[int, ResultT] = {}
        errors: list[BaseException] = []

        def one(rank: int) -> None:
            with self._moved:
                self._wait(rank)
                try:
                    results[rank] = work(rank, lambda nodes: self._reduce(rank, nodes))
                except BaseException as error:
                    errors.append(error)
                finally:
                    self._pass_on(rank)

        threads = [threading.Thread(target=one, args=(r,), daemon=True) for r in range(self._n)]
        # A process of its own would have a lock and a workspace of its own.
        with (
            mock.patch.object(precision, "_one_at_a_time", nullcontext()),
            mock.patch.object(backend, "_workspace"),
        ):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(timeout=0 if errors else 60)
        if errors:
            raise errors[0]
        assert sorted(results) == list(range(self._n)), "a rank waits for ever"
        assert len(set(self._calls)) == 1
        return [results[rank] for rank in range(self._n)]

    def _wait(self, rank: int) -> None:
        self._moved.wait_for(lambda: self._turn == rank)
        backend._workspace = self._workspaces[rank]

    def _pass_on(self, rank: int) -> None:
        self._turn = (rank + 1) % self._n
        self._moved.notify_all()

    def _reduce(self, rank: int, nodes: Sequence[Node]) -> Tensor:
        """See `Reduce`: the nodes of all ranks, in order."""
        call, self._calls[rank] = self._calls[rank], self._calls[rank] + 1
        if call == len(self._rounds):
            self._rounds.append([])
        self._rounds[call] += [Node(node.shard, node.total.clone()) for node in nodes]
        self._pass_on(rank)
        self._wait(rank)
        tree = TreeSum()
        for node in self._rounds[call]:
            tree.push(node.shard, node.total.clone())
        return tree.total()


def row_share(d_sae: int, rank: int, size: int, reduce: Reduce) -> Share:
    """The share of a rank that holds all latents and works on some rows of a batch.

    A gathering is a sum of tensors in which every rank has filled in its own part.
    """

    def gathered(mine: Tensor) -> Tensor:
        parts = mine.new_zeros(size, *mine.shape)
        parts[rank] = mine
        return reduce([Node(rank, parts)])

    def summed(mine: Tensor) -> Tensor:
        return reduce([Node(rank, mine)])

    return replace(Share.whole(d_sae), rows=RowBlocks(rank, size, gathered, summed))


def shares(d_sae: int, borders: Sequence[int]) -> list[Share]:
    """A share for every stretch between two borders, counted in shards."""
    whole = Share.whole(d_sae)
    edges = [0, *borders, whole.n_shards]
    return [replace(whole, first=first, last=last) for first, last in pairwise(edges)]


def part_of(state: TrainState, share: Share) -> TrainState:
    """What a rank holds of a state, in memory of its own."""
    mine = slice(share.first * share.size, share.first * share.size + share.n_latents)

    def cut(p: Parameters) -> Parameters:
        rows = p.W_enc.t()[mine].clone().t()
        b_dec, W_skip = p.b_dec.clone(), None if p.W_skip is None else p.W_skip.clone()
        own = (t[mine].clone() for t in (p.b_enc, p.W_dec, p.theta))
        b_enc, W_dec, theta = own
        return Parameters(rows, b_enc, W_dec, b_dec, theta, W_skip)

    groups = cut(state.parameters), cut(state.second_moments)
    return TrainState(
        *groups, state.last_update[mine].clone(), state.n_updates, state.entries_per_row
    )
