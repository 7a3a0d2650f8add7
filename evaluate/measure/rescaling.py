"""Rescaling: an SAE on another model's activations, at the norms it was trained on.

Owns the factors between two models' norms and how they are folded into an SAE. `harvest` loads
models.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ...harvest.model.hooks import forward_until
from ...harvest.model.loading import load_model
from ...harvest.model.sites import Site
from ...harvest.model.vocabulary import tokenizer_fingerprint
from ...train.sae.sae import SAE
from ..settings import EvaluateSettings
from .inputs import HeldOut, PlacedSAE

if TYPE_CHECKING:
    from ...harvest.model.loading import LanguageModel


def rescaled(
    candidates: list[PlacedSAE],
    held_out: HeldOut,
    lm: "LanguageModel",
    settings: EvaluateSettings,
) -> list[PlacedSAE]:
    """The candidates, for activations scaled to the norms of the model `settings.norms_of`.

    Raises:
        OSError, ValueError: that model cannot be read, or it has another tokenizer or other sites.
    """
    name = str(settings.norms_of)
    other = load_model(name, lm.dtype, settings.device, settings.attention)
    if tokenizer_fingerprint(other.tokenizer) != tokenizer_fingerprint(lm.tokenizer):
        raise ValueError(
            f"norms_of must be a model with the tokenizer of {lm.name}, got {name} with another; "
            "pass the model that it was fine-tuned from"
        )
    sites = {site for one in candidates for site in (one.site, one.target)}
    batch = settings.batch_for(held_out.context, lm.device)
    factors = norm_factors(held_out, lm, other, sites, batch)
    return [_with_norms(one, factors[one.site], factors[one.target]) for one in candidates]


def _with_norms(one: PlacedSAE, before: float, after: float) -> PlacedSAE:
    """The candidate with the factors folded in and recorded."""
    noted = {"site": before, "target_site": after}
    return replace(one, sae=with_factors(one.sae, before, after), norm_factors=noted)


def norm_factors(
    held_out: HeldOut, lm: "LanguageModel", other: "LanguageModel", sites: set[Site], batch: int
) -> dict[Site, float]:
    """sqrt(E‖x_other‖² / E‖x‖²) of each site, over the positions that count; 1 where x is 0."""
    own, wanted = (_powers(held_out, model, sites, batch) for model in (lm, other))
    return {site: (wanted[site] / own[site]) ** 0.5 if own[site] else 1.0 for site in sites}


def with_factors(sae: SAE, before: float, after: float) -> SAE:
    """The SAE x ↦ SAE(before · x) / after, with the same latents.

    Its weights are W_enc · before, W_dec / after, b_dec / after and W_skip · before / after.
    """
    skip = sae.W_skip
    return replace(
        sae,
        W_enc=sae.W_enc * before,
        W_dec=sae.W_dec / after,
        b_dec=sae.b_dec / after,
        W_skip=None if skip is None else skip * (before / after),
    )


@torch.no_grad()
def _powers(
    held_out: HeldOut, lm: "LanguageModel", sites: set[Site], batch: int
) -> dict[Site, float]:
    """Σ‖x‖² of each site over the positions that count, summed in float64."""
    sums = dict.fromkeys(sites, 0.0)
    for sequences in held_out.batches(batch, lm.device):
        x = forward_until(lm, sequences.ids, sites)
        for site in sites:
            sums[site] += float(x[str(site)][sequences.keep].double().square().sum())
    return sums
