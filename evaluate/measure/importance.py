"""How evenly a token's active latents matter for the prediction of the next token.

Owns the attribution of the correct next token's logit to latents, and its effective number. The
model's passes are in `lm_loss`.
"""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...harvest.model.hooks import capture
from ...harvest.model.sites import Site
from .inputs import HeldOut, PlacedSAE
from .lm_loss import clean_run, has_target, logits_of, rest_of_model

if TYPE_CHECKING:
    from ...console import Progress
    from ...harvest.model.loading import LanguageModel

HISTOGRAM_BINS = 20
"""Equal bins of r_L0 from 0 to 1."""


def attributions(
    f: Float[Tensor, "rows d_sae"],
    W_dec: Float[Tensor, "d_sae d_out"],
    gradient: Float[Tensor, "rows d_out"],
) -> Float[Tensor, "rows d_sae"]:
    """y = f ⊙ (W_dec ∇_x L): the first-order effect of each latent on L (Gemma Scope report).

    L is a scalar of each row, `gradient` is ∇_x L. To first order, L falls by y_j if latent j is
    set to 0.
    """
    return f * (gradient.to(W_dec.dtype) @ W_dec.T)


def effective_number(y: Float[Tensor, "rows d_sae"]) -> Float[Tensor, " rows"]:
    """exp(S(p)) with the entropy S(p) = −Σ p log p and p = abs(y) / Σ abs(y).

    1 if one latent has all the effect, ‖y‖₀ if all have the same, NaN for y = 0.
    """
    size = y.double().abs()
    p = size / size.sum(-1, keepdim=True)
    return torch.special.entr(p).sum(-1).exp()


def importance(
    lm: "LanguageModel",
    candidates: list[PlacedSAE],
    held_out: HeldOut,
    batch: int,
    seed: int,
    bar: "Progress",
) -> list[dict[str, Any]]:
    """r_L0 = exp(S(p)) / ‖y‖₀ of every SAE, on one predicted token per sequence.

    L is the correct next token's logit, as the model outputs it, minus the mean of all logits at
    that position; its gradient is taken at that position and at the model's own activations (the
    report leaves this open). The position is drawn by `seed` among those whose prediction counts.

    Returns:
        Per SAE the number of tokens, and the means of r_L0, exp(S) and ‖y‖₀ over them. Tokens at
        which no latent has an effect are left out of the means and counted separately. The
        standard error is over tokens, one a sequence: it holds for other sequences of the same
        documents.
    """
    targets = {candidate.target for candidate in candidates}
    sites = targets | {candidate.site for candidate in candidates}
    generator = torch.Generator().manual_seed(seed)
    numbers: list[list[Tensor]] = [[] for _ in candidates]
    for sequences in held_out.batches(batch, lm.device):
        bar.advance(len(sequences))
        rows, positions = draw_positions(has_target(sequences.keep), generator)
        ids = sequences.ids[rows]
        if not len(ids):
            continue
        at = torch.arange(len(ids), device=ids.device), positions
        with capture(lm, sites) as captured:
            clean = clean_run(lm, ids, targets)
        x = {site: captured[str(site)][at] for site in sites}
        gradients = {site: _gradient(lm, clean, site, captured[str(site)], at) for site in targets}
        for found, candidate in zip(numbers, candidates, strict=True):
            f = candidate.sae.encode(x[candidate.site])
            y = attributions(f, candidate.sae.W_dec, gradients[candidate.target])
            found.append(torch.stack([effective_number(y), (y != 0).sum(-1).double()]).cpu())
    return [_summary(torch.cat(found, dim=1)) for found in numbers]


def draw_positions(
    counted: Bool[Tensor, "batch seq"], generator: torch.Generator
) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]:
    """A random counted position of each sequence that has one: (sequences, positions)."""
    scores = torch.rand(counted.shape, generator=generator).to(counted.device)
    scores = torch.where(counted, scores, -1.0)
    best, positions = scores.max(dim=1)
    rows = torch.nonzero(best >= 0).flatten()
    return rows, positions[rows]


def _gradient(
    lm: "LanguageModel", clean: Any, site: Site, x: Tensor, at: tuple[Tensor, Tensor]
) -> Tensor:
    """∇_x L at one position per sequence, [rows, d]."""
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        hidden = rest_of_model(lm, clean, site, lambda _x: leaf)
        logits = logits_of(lm, hidden[at])
        correct = clean.ids[at[0], at[1] + 1]
        objective = logits.gather(1, correct[:, None]).sum() - logits.mean(1).sum()
        (gradient,) = torch.autograd.grad(objective, leaf)
    return gradient[at]


def _summary(numbers: Float[Tensor, "two tokens"]) -> dict[str, Any]:
    """Means over tokens with an effect, as JSON values."""
    effective, active = numbers[:, numbers[1] > 0]
    n, shares = len(active), effective / active
    bins = (shares * HISTOGRAM_BINS).long().clamp(0, HISTOGRAM_BINS - 1)
    return {
        "n_tokens": n,
        "n_without_effect": numbers.shape[1] - n,
        "r_l0": float(shares.mean()) if n else None,
        "r_l0_stderr": float(shares.std() / n**0.5) if n > 1 else None,
        "r_l0_histogram": torch.bincount(bins, minlength=HISTOGRAM_BINS).tolist(),
        "effective_latents": float(effective.mean()) if n else None,
        "active_latents": float(active.mean()) if n else None,
    }
