"""The ranks of one run, seen from one of them: which rank this is, and how it talks to the others.

`World` sends small messages through the rendezvous' store and tensors through `wire`, and notices
that another rank is gone. `joining` starts and ends the ranks.
"""

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...foreign import one_line
from ...machine import is_out_of_memory
from .bounded import Rendezvous
from .endings import Endings
from .place import RankPlace

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..kernels import Share
    from .traffic import Link
    from .wire import Wire

JOIN_S = 300.0
"""How long processes wait for each other at the start."""

_POLL_S, _ANSWER_S = 0.02, 0.3


class World:
    """The processes that train together, seen from one of them.

    Attributes:
        rank, size: this rank's number, and how many there are; a process alone is 0 of 1.
        hosts: every rank's host.
        update: number of the current update, for messages.
        limit_s: seconds that a rank may keep the others waiting.
        by_rows: whether ranks share the rows of a batch, and each holds the whole SAE; otherwise
            they share its latents.
        why: the reason for that choice.
        lost: whether ranks are ending; from then on signals are ignored, so that the first error is
            reported.
        endings: the reasons that ranks give when they end.
        rendezvous: the store for small messages; a process alone has none.
    """

    def __init__(
        self,
        place: RankPlace | None = None,
        rendezvous: Rendezvous | None = None,
        limit_s: float = JOIN_S,
    ):
        place = place or RankPlace()
        self.place, self.rank, self.size = place, place.rank, place.size
        self.update, self.lost, self._waits = 0, False, False
        self.rendezvous, self.limit_s = rendezvous, limit_s
        self._wire, self._n_calls = None, 0
        self.by_rows, self.why = False, ""
        self.endings = Endings(rendezvous, self.rank, self.size)
        self.hosts: Sequence[str] = [socket.gethostname()] * self.size
        if not self.is_alone:
            self.hosts = self.told(socket.gethostname())

    @property
    def is_alone(self) -> bool:
        """Whether there is only one process."""
        return self.size == 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def named(self, rank: int) -> str:
        """A rank and its host, for messages."""
        return f"rank {rank} on {self.hosts[rank]}"

    def facts(self) -> dict[str, Any]:
        """How many ranks there are and what they share, for records; {} for a process alone."""
        way = "rows" if self.by_rows else "latents"
        return {} if self.is_alone else {"ranks": self.size, "parallel": f"{way}: {self.why}"}

    def device(self, wanted: str) -> str:
        """The device of this rank: of `auto` and `cuda` on a machine with several cards, a card by
        the rank's number."""
        import torch

        if self.is_alone or wanted not in ("auto", "cuda") or not torch.cuda.is_available():
            return wanted
        return f"cuda:{self.place.rank_of_host % torch.cuda.device_count()}"

    def wire_for(self, wanted: str, device: "torch.device") -> str:
        """nccl if every rank of this host has a card of its own, otherwise gloo."""
        import torch

        several = wanted in ("auto", "cuda") or self.place.size_of_host == 1
        own_card = several and self.place.size_of_host <= torch.cuda.device_count()
        return "nccl" if device.type == "cuda" and own_card else "gloo"

    def link(self, backend: str) -> "Link":
        """The link assumed between the ranks, the slowest one; NVLink is never assumed."""
        from .traffic import LINKS, LOOPBACK

        if len(set(self.hosts)) > 1:
            return LINKS[-1]
        return LINKS[1] if backend == "nccl" else LOOPBACK

    def ranks_on(self, device: "torch.device") -> int:
        """The most ranks of this host that share one device of this kind."""
        import torch

        n_devices = torch.cuda.device_count() if device.type == "cuda" else 1
        return -(-self.place.size_of_host // max(1, n_devices))

    def wait_at_most(self, limit_s: float) -> None:
        """From now on any rank may keep the others waiting for limit_s seconds."""
        self.limit_s = limit_s
        if self.rendezvous is not None:
            self.rendezvous.limit_s = limit_s

    def connect(self, backend: str, device: "torch.device") -> None:
        """Opens the connections for tensors.

        Args:
            backend: gloo or nccl.
            device: this rank's.

        Raises:
            LostError: a rank does not connect.
        """
        if self.rendezvous is None or self._wire is not None:
            return
        from torch.distributed.distributed_c10d import PrefixStore

        from .wire import Wire

        store = PrefixStore("wire", self.rendezvous.raw)
        with self._noticed():
            self._wire = Wire(store, self.rank, self.size, backend, device, self.limit_s)
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        """While this rank waits, tells ranks that end that it is alive: it may be inside a
        library's call for longer than they wait for its reason."""
        with suppress(RuntimeError):
            while not self.lost and not (self._waits and self.endings.answer()):
                time.sleep(_ANSWER_S)

    def shares(self, d_sae: int) -> "list[Share]":
        """The ranks' shares of an SAE's latents; a single whole share if ranks share rows."""
        from .reduce import dealt

        return dealt(d_sae, 1 if self.by_rows else self.size)

    def share(self, d_sae: int) -> "Share":
        """This rank's share, with the functions that send sums or rows to the others."""
        from ..kernels import RowBlocks
        from .reduce import TreeReduce

        shares = self.shares(d_sae)
        if self.is_alone:
            return shares[0]
        if self.by_rows:
            return replace(shares[0], rows=RowBlocks(self.rank, self.size, self._all, self._sum))
        reduce = TreeReduce(self.wire, shares)

        def noticing(nodes: Any) -> "Tensor":
            with self._noticed():
                return reduce(nodes)

        return replace(shares[self.rank], reduce=noticing)

    def _all(self, mine: "Tensor") -> "Tensor":
        """Every rank's tensor of one shape."""
        with self._noticed():
            return self.wire.all(mine)

    def _sum(self, mine: "Tensor") -> "Tensor":
        """The ranks' tensors added up, in the library's order; the same on all of them."""
        with self._noticed():
            return self.wire.sum(mine)

    @property
    def wire(self) -> "Wire":
        """The connections for tensors, once they are open."""
        if self._wire is None:
            raise RuntimeError("ranks send tensors after `connect`")
        return self._wire

    def gathered(self, numbers: Sequence[int]) -> list[list[int]]:
        """Every rank's integers, by rank."""
        import torch

        if self.is_alone:
            return [list(numbers)]
        return self._all(torch.tensor(numbers, dtype=torch.int64)).tolist()

    def collected(self, mine: "Tensor", share: "Share") -> "Tensor | None":
        """On the first rank all ranks' tensors [latents, …], joined along the first axis; None on
        the others."""
        if self.is_alone or self.by_rows:
            return mine if self.is_first else None
        rows = [other.n_latents for other in self.shares(share.d_sae)]
        with self._noticed():
            return self.wire.collected(mine, rows)

    def in_order(self, mine: "Tensor", share: "Share", numbers: int) -> "Iterator[Tensor]":
        """On the first rank all ranks' tensors [latents, …] in order, in blocks of about `numbers`
        numbers; the others take part, and what they get is not used."""
        n_rows = max(1, numbers // max(1, mine[0].numel()))
        for rank, other in enumerate(self.shares(share.d_sae)):
            for start in range(0, other.n_latents, n_rows):
                n = min(n_rows, other.n_latents - start)
                if self.is_first or rank == self.rank:
                    rows = mine[start : start + n] if rank == self.rank else mine.new_empty(0)
                    yield self._passed(rank, rows, (n, *mine.shape[1:]))

    def _passed(self, rank: int, rows: "Tensor", shape: tuple[int, ...]) -> "Tensor":
        """See `in_order`."""
        if rank == 0:
            return rows
        with self._noticed():
            return self.wire.passed(rank, rows.new_empty(shape) if self.is_first else rows)

    def together(self, patient: bool = False) -> None:
        """A barrier: returns once all ranks are here. `patient` ranks wait without a limit."""
        self.told("", patient)

    def of_first(self, make: Callable[[], str]) -> str:
        """What the first rank's make() returns, on all ranks; if it fails, all end."""
        return self.told(make() if self.is_first else "")[0]

    def told(self, text: str, patient: bool = False) -> list[str]:
        """Every rank's text, by rank; `patient` ranks wait without a limit.

        Raises:
            LostError: a rank has ended, or is silent for limit_s.
        """
        if self.rendezvous is None:
            return [text]
        store, limit_s = self.rendezvous, math.inf if patient else self.limit_s
        with self._noticed():
            self._n_calls += 1
            keys = [f"told/{self._n_calls}/{rank}" for rank in range(self.size)]
            store.set(keys[self.rank], text)
            since = time.monotonic()
            while not store.check(keys):
                if self.endings.heard() or time.monotonic() - since > limit_s:
                    raise _lost("a rank has ended, or is silent")
                time.sleep(_POLL_S)
            return [store.get(key).decode() for key in keys]

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        """Turns the errors of a store or a wire, whose cause is another rank, into LostError."""
        try:
            self._waits = True
            yield
            self._waits = False
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise  # this rank's own error
            self.lost = True
            from .wire import LostError

            raise error if isinstance(error, LostError) else _lost(one_line(error)) from error

    def close(self) -> None:
        """Closes the connections to the other ranks."""
        if self._wire is not None:
            with suppress(RuntimeError):
                self._wire.close()
            self._wire = None


def _lost(why: str) -> RuntimeError:
    from .wire import LostError

    return LostError(why)
