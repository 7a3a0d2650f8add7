"""The language model's loss, with and without something spliced in.

Owns next-token losses, the splice that leaves special positions alone, and what a splice costs and
recovers. Hooks are `harvest.hooks`; what is spliced in is the caller's.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from ..harvest.hooks import decoder_of, replace
from ..harvest.sites import Site

if TYPE_CHECKING:
    from ..harvest.model import LanguageModel

MAX_LOGITS = 2**26
"""Logits held at once (256 MiB in float32): with Gemma's 256k tokens a whole batch of them would
not fit.
"""


def ordinary(
    ids: Int[Tensor, "batch seq"], special: Int[Tensor, " n"]
) -> Bool[Tensor, "batch seq"]:
    """Where a token is none of the special ones: the positions that count in every mean."""
    return ~torch.isin(ids, special)


def predicting(keep: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
    """Where a prediction counts: the position and the token to be predicted are both ordinary."""
    counted = torch.zeros_like(keep)
    counted[:, :-1] = keep[:, :-1] & keep[:, 1:]
    return counted


def token_losses(lm: "LanguageModel", ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
    """Cross-entropy in nats of the token after each position; 0 at the last one, which has none.

    As `Gemma2ForCausalLM` computes it (final soft-cap included), but in parts of the tokens and
    with float32 from the logits on, whatever the model's dtype.
    """
    hidden = decoder_of(lm)(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = ids[:, 1:]
    size = max(1, MAX_LOGITS // lm.model.config.vocab_size)
    parts = zip(hidden.flatten(0, 1).split(size), targets.flatten().split(size), strict=True)
    losses = torch.cat([_cross_entropy(lm, *part) for part in parts])
    return functional.pad(losses.unflatten(0, targets.shape), (0, 1))


def spliced_losses(
    lm: "LanguageModel",
    ids: Int[Tensor, "batch seq"],
    site: Site,
    values: Float[Tensor, "batch seq d"],
    where: Bool[Tensor, "batch seq"],
) -> Float[Tensor, "batch seq"]:
    """`token_losses` with `values` in place of the site's activations at the positions `where`; the
    others stay.
    """

    def splice(x: Tensor) -> Tensor:
        return torch.where(where[..., None], values.to(x.dtype), x)

    with replace(lm, site, splice):
        return token_losses(lm, ids)


def recovered_share(clean: float, spliced: float, ablated: float) -> float | None:
    """(ablated − spliced) / (ablated − clean): 1 for a perfect splice, 0 for one as bad as the
    ablation.

    May leave [0, 1]: above if the splice helps the model, below if it hurts more than the ablation.
    None if the ablation costs nothing, where the share means nothing.
    """
    cost = ablated - clean
    return (ablated - spliced) / cost if cost > 0 else None


class PairedDelta:
    """Mean difference of two losses per token, with its standard error over sequences.

    Tokens of one sequence are not independent, so the error is that of a ratio of sums over
    sequences: sqrt(S/(S−1) · Σ_s (D_s − m·n_s)²) / Σ_s n_s for S sequences with differences D_s
    over n_s tokens and mean m.
    """

    def __init__(self) -> None:
        self._deltas: list[Tensor] = []
        self._counts: list[Tensor] = []

    def add(
        self,
        counted: Bool[Tensor, "batch seq"],
        loss: Float[Tensor, "batch seq"],
        base: Float[Tensor, "batch seq"],
    ) -> None:
        """Adds a batch of sequences."""
        delta = torch.where(counted, loss.double() - base.double(), 0.0)
        self._deltas.append(delta.sum(1).cpu())
        self._counts.append(counted.sum(1).cpu())

    def mean_and_error(self) -> tuple[float, float | None]:
        """Mean and standard error in nats per token; no error from a single sequence."""
        delta, count = torch.cat(self._deltas), torch.cat(self._counts).double()
        n = len(delta)
        mean = delta.sum() / count.sum()
        if n == 1:
            return float(mean), None
        spread = (delta - mean * count).square().sum() * n / (n - 1)
        return float(mean), float(spread.sqrt() / count.sum())


def _cross_entropy(lm: "LanguageModel", hidden: Tensor, targets: Tensor) -> Tensor:
    """Losses of rows of final hidden states."""
    logits = lm.model.lm_head(hidden).float()
    cap = lm.model.config.final_logit_softcapping
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return functional.cross_entropy(logits, targets.long(), reduction="none")
