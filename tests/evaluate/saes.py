"""SAEs with known or random weights for the random model of these tests."""

import torch

from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

_WIDTHS = {"attn_out": 64, "transcoder_in": 32, "mlp_in": 32, "mlp_out": 32, "resid_post": 32}


def width(site: str) -> int:
    """How wide the site is in the model `grouped`."""
    return _WIDTHS[site.partition(".")[0]]


def random_sae(
    site: str, target_site: str | None = None, d_sae: int = 48, seed: int = 0, skip: bool = False
) -> SAE:
    """Random weights under which about a third of the latents are active."""
    d_in = width(site)
    d_out = width(target_site or site)
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=generator)

    return SAE(
        SAEConfig(d_in=d_in, d_sae=d_sae, d_out=d_out, site=site, target_site=target_site),
        W_enc=normal(d_in, d_sae, scale=d_in**-0.5),
        b_enc=normal(d_sae, scale=0.1),
        W_dec=normal(d_sae, d_out, scale=0.5 * d_sae**-0.5),
        b_dec=normal(d_out, scale=0.1),
        theta=0.2 + normal(d_sae, scale=0.1).abs(),
        W_skip=normal(d_in, d_out, scale=0.1) if skip else None,
    )


def identity_sae(site: str) -> SAE:
    """x̂ = x exactly: one latent for each sign of each dimension."""
    d = width(site)
    eye = torch.eye(d)
    return SAE(
        SAEConfig(d_in=d, d_sae=2 * d, d_out=d, site=site),
        W_enc=torch.cat([eye, -eye], dim=1),
        b_enc=torch.zeros(2 * d),
        W_dec=torch.cat([eye, -eye]),
        b_dec=torch.zeros(d),
        theta=torch.zeros(2 * d),
    )


def constant_sae(site: str, value: torch.Tensor) -> SAE:
    """x̂ = value whatever x is; no latent ever fires."""
    d = width(site)
    return SAE(
        SAEConfig(d_in=d, d_sae=3, d_out=d, site=site),
        W_enc=torch.zeros(d, 3),
        b_enc=torch.zeros(3),
        W_dec=torch.zeros(3, d),
        b_dec=value.clone(),
        theta=torch.ones(3),
    )
