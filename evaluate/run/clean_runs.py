"""The untouched passes over an evaluation's sequences, each computed once while memory lasts.

Owns what is kept between the passes. `lm_loss` decides what a splice needs of a clean run;
`harvest.model.hooks` makes a pass that is computed again give the same bits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...harvest.model.hooks import capture, forward_until
from ...harvest.model.sites import Site
from ...machine import free_memory
from ..measure.inputs import HeldOut, Sequences
from ..measure.lm_loss import CleanRun, untouched, with_losses

if TYPE_CHECKING:
    from ...harvest.model.loading import LanguageModel

MAX_KEPT_BYTES = 2**30
"""Limit of the activations and hidden states that are kept for later passes, if a quarter of the
device's free memory is not less."""

Activations = dict[Site, Tensor]


@dataclass(frozen=True)
class _Kept:
    sequences: Sequences
    run: CleanRun
    x: Activations


class CleanRuns:
    """The sequences of an evaluation, batch by batch, with the untouched model's activations.

    The first call of `activations` keeps the passes of the first batches, up to the unembedding.
    Batches that do not fit are computed again by each pass, only up to the layers it needs.
    """

    def __init__(
        self,
        lm: "LanguageModel",
        held_out: HeldOut,
        batch: int,
        sites: Iterable[Site],
        targets: Iterable[Site],
    ):
        """`sites` are all sites that are read, `targets` those that are replaced as well."""
        self._lm, self._held_out, self._batch = lm, held_out, batch
        self._sites, self._targets = list(sites), list(targets)
        self._left = min(MAX_KEPT_BYTES, free_memory(lm.device) // 4)
        self._kept: list[_Kept] = []
        self._common: list[Tensor] = []
        self._full = False

    def activations(self, sites: Iterable[Site]) -> Iterator[tuple[Sequences, Activations]]:
        """Each batch with the activations of some of the sites."""
        sites = list(sites)
        for kept in self._kept:
            yield kept.sequences, kept.x
        for sequences in self._rest():
            if not self._full and (kept := self._computed(sequences)) is not None:
                yield sequences, kept.x
            else:
                found = forward_until(self._lm, sequences.ids, sites)
                yield sequences, {site: found[str(site)] for site in sites}
        self._full = True

    def losses(self) -> Iterator[tuple[Sequences, CleanRun, Activations]]:
        """Each batch with its clean run, losses included, and the activations of all sites."""
        for kept in self._kept:
            yield kept.sequences, with_losses(self._lm, kept.run), kept.x
        for sequences in self._rest():
            run, x = self._pass(sequences)
            yield sequences, with_losses(self._lm, run), x

    def _rest(self) -> Iterator[Sequences]:
        """The batches that are not kept when it is called."""
        return self._held_out.batches(self._batch, self._lm.device, len(self._kept) * self._batch)

    def _pass(self, sequences: Sequences) -> tuple[CleanRun, Activations]:
        """The whole decoder on a batch."""
        with capture(self._lm, self._sites) as captured:
            run = untouched(self._lm, sequences.ids, self._targets)
        return run, {site: captured[str(site)] for site in self._sites}

    @torch.no_grad()
    def _computed(self, sequences: Sequences) -> _Kept | None:
        """A batch's pass, kept; None if it does not fit, and then no later one is kept either."""
        run, x = self._pass(sequences)
        n_common = len(self._common)
        run = replace(run, calls=self._shared(run.calls, {}))
        own = [run.last_hidden, *run.hidden.values(), *x.values(), *self._common[n_common:]]
        sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in own}
        self._left -= sum(sizes.values())
        if self._left < 0:
            self._full = True
            return None
        self._kept.append(_Kept(sequences, run, x))
        return self._kept[-1]

    def _shared(self, value: Any, seen: dict[int, Tensor]) -> Any:
        """The same arguments, but masks and rotations equal to an earlier batch's are replaced by
        the earlier ones, so that each is held once."""
        if isinstance(value, Tensor):
            if id(value) not in seen:
                seen[id(value)] = self._known(value)
            return seen[id(value)]
        if type(value) in (tuple, list):
            return type(value)(self._shared(item, seen) for item in value)
        if type(value) is dict:
            return {name: self._shared(item, seen) for name, item in value.items()}
        return value

    def _known(self, value: Tensor) -> Tensor:
        """The equal tensor of an earlier batch; if there is none, this one, which is remembered."""
        for known in self._common:
            if known.dtype == value.dtype and torch.equal(known, value):
                return known
        self._common.append(value)
        return value
