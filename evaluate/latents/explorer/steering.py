"""SteeredModel: which latents fire in a text, and what a model writes once some are changed.

    x ← x + (f_new − f_old) · d        d: the latent's row of W_dec; at the site the SAE writes

What the SAE does not reconstruct stays in x, so with nothing changed the model is the model. Owns
the splice and the sampling; texts and requests are `playground`'s. A transcoder's f is of its own
site, and its d is added at its target.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ....harvest.model.hooks import capture, forward_until, replace
from ....harvest.model.sites import Site
from ....train.sae.sae import SAE


@dataclass(frozen=True)
class LatentChange:
    """What becomes of one latent, at every token from a position on."""

    latent: int
    kind: Literal["off", "add", "set"]
    """off: f_new = 0; add: f_new = f_old + value; set: f_new = value."""
    value: float = 0.0
    start: int = 0
    """Position of the first token at which it is changed."""


@dataclass(frozen=True)
class SteeredModel:
    """A model and an SAE of one of its sites.

    Attributes:
        model: transformers' causal model, or a `LanguageModel`.
        sae: on the model's device, float32.
        reads: the site whose activations it encodes.
        writes: the site at which its decoder rows are added.
    """

    model: Any
    sae: SAE
    reads: Site
    writes: Site

    def __repr__(self) -> str:
        model = self.model if hasattr(self.model, "as_setting") else type(self.model).__name__
        return f"SteeredModel({model}, {self.sae})"

    def features(self, ids: Int[Tensor, "1 seq"]) -> Float[Tensor, "seq d_sae"]:
        """f of every token of a text."""
        with torch.no_grad():
            x = forward_until(self.model, ids, [self.reads])[str(self.reads)]
            return self.sae.encode(x[0].float())

    @contextmanager
    def changed(self, changes: Sequence[LatentChange]) -> Iterator["_Splice"]:
        """Splices changes into every forward pass inside the block; each continues where the
        one before it ended, as passes with a cache do."""
        splice = _Splice(self.sae, changes)
        with ExitStack() as stack:
            if changes:
                same = self.reads == self.writes
                seen = stack.enter_context(capture(self.model, [self.reads])) if not same else None
                read = str(self.reads)
                stack.enter_context(
                    replace(
                        self.model,
                        self.writes,
                        lambda x: splice(x, x if seen is None else seen[read]),
                    )
                )
            yield splice

    def continued(
        self,
        ids: Int[Tensor, "1 seq"],
        changes: Sequence[LatentChange],
        n_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        stop: frozenset[int] = frozenset(),
    ) -> tuple[list[int], Float[Tensor, " vocabulary"]]:
        """What the model writes after a text.

        The token at each step is the one at a uniform number's place in the cumulative
        probabilities; the numbers depend on the seed alone, so that two continuations differ by
        what was changed.

        Args:
            ids: the text.
            changes: what becomes of latents; none for the model as it is.
            n_tokens: at most so many tokens.
            temperature: 0 takes the most probable token.
            seed: of the uniform numbers.
            stop: ids after which nothing more is written.

        Returns:
            The new tokens' ids, and the probabilities of the first of them at temperature 1.

        Raises:
            ValueError: the model's numbers overflow under these changes.
        """
        uniform = torch.rand(n_tokens, generator=torch.Generator().manual_seed(seed))
        written: list[int] = []
        first: Tensor | None = None
        past, step = None, ids
        with torch.no_grad(), self.changed(changes):
            for u in uniform.tolist():
                got = _causal(self.model)(input_ids=step, past_key_values=past, use_cache=True)
                logits, past = got.logits[0, -1].float(), got.past_key_values
                if not logits.isfinite().all():
                    raise ValueError(
                        "value must leave the model's numbers finite; take smaller ones"
                    )
                first = logits.softmax(-1) if first is None else first
                written.append(_drawn(logits, temperature, u))
                if written[-1] in stop:
                    break
                step = ids.new_tensor([[written[-1]]])
        assert first is not None
        return written, first


class _Splice:
    """Changes an activation of shape [1, seq, d], whose tokens follow those seen before."""

    def __init__(self, sae: SAE, changes: Sequence[LatentChange]):
        self._sae, self._changes, self._seen = sae, changes, 0

    def __call__(self, x: Tensor, source: Tensor) -> Tensor:
        start, self._seen = self._seen, self._seen + x.shape[1]
        positions = torch.arange(start, self._seen, device=x.device)
        f = self._sae.encode(source.float())
        delta = torch.zeros_like(x, dtype=torch.float32)
        for change in self._changes:
            by = _difference(change, f[..., change.latent])
            by = torch.where(positions >= change.start, by, 0)
            delta += by[..., None] * self._sae.W_dec[change.latent]
        # In float32, and back only here: bfloat16 would round small steps away.
        return torch.where((delta != 0).any(-1, keepdim=True), x.float() + delta, x.float())


def _difference(change: LatentChange, f: Tensor) -> Tensor:
    """f_new − f_old."""
    if change.kind == "add":
        return torch.full_like(f, change.value)
    return (change.value if change.kind == "set" else 0.0) - f


def _causal(model: Any) -> Any:
    """transformers' model with the head that gives logits."""
    return model if hasattr(model, "lm_head") else model.model


def _drawn(logits: Float[Tensor, " vocabulary"], temperature: float, u: float) -> int:
    """The token at u of the cumulative probabilities; the most probable one at temperature 0."""
    if temperature <= 0:
        return int(logits.argmax())
    logits = logits.double()
    steps = ((logits - logits.max()) / temperature).softmax(-1).cumsum(-1)
    return min(int(torch.searchsorted(steps, u * float(steps[-1]), right=True)), len(steps) - 1)
