"""An SAE that was never trained, as a control: what its latents' explanations score, any would.

Owns its weights and thresholds, and the collecting of both SAEs' contexts. It fires as often as the
SAE it is a control of, latent by latent.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ....store import ActivationStore, TokenStore
from ....train.kernels.state import initial_parameters
from ....train.sae.config import SAEConfig
from ....train.sae.sae import SAE
from .collect import collect
from .contexts import blocks
from .sample_set import Samples
from .settings import SampleSettings


def with_twin(
    sae: SAE,
    store: ActivationStore,
    tokens: TokenStore,
    latents: Sequence[int],
    settings: SampleSettings | None = None,
    site: str | None = None,
) -> tuple[Samples, Samples]:
    """The contexts of some latents (`collect`), and those of as many of a random SAE that fire as
    often: its latent k stands beside `latents[k]`."""
    settings = settings or SampleSettings()
    samples = collect(sae, store, tokens, latents, settings, site)
    site = site or sae.config.site
    assert site is not None
    twin = random_twin(sae, store, site, samples.fired.tolist(), samples.rows, settings.seed)
    return samples, collect(twin, store, tokens, range(len(latents)), settings, site)


def random_twin(
    sae: SAE, store: ActivationStore, site: str, fired: Sequence[int], rows: int, seed: int
) -> SAE:
    """Latents as training starts them, whose thresholds let latent k fire in `fired[k]` of the
    store's first rows.

    Rows of the initial weights are drawn independently of one another, so K of them are drawn, not
    d_sae. θ_k lies at the (fired[k] + 1)-th largest of z = x @ W_enc[:, k]; not below 0, so that a
    latent that is to fire in most rows may fire in fewer: z > 0 holds in about half.

    Args:
        sae: the SAE of which this is a control.
        store: of the activations that it reads.
        site: where it reads.
        fired: rows in which each latent is to fire.
        rows: of so many.
        seed: of the weights.
    """
    config = sae.config
    start = initial_parameters(
        config.d_in,
        config.d_out,
        len(fired),
        seed=seed,
        transcoder=config.is_transcoder or config.d_in != config.d_out,
    )
    weights = start.W_enc.contiguous()
    return SAE(
        SAEConfig(
            d_in=config.d_in,
            d_out=config.d_out,
            d_sae=len(fired),
            site=config.site,
            target_site=config.target_site,
            transcoder=config.transcoder,
        ),
        W_enc=weights,
        b_enc=start.b_enc,
        W_dec=start.W_dec,
        b_dec=start.b_dec,
        theta=_thresholds(store, site, weights, np.asarray(fired), rows),
    )


def _thresholds(
    store: ActivationStore,
    site: str,
    weights: Float[Tensor, "d_in K"],
    fired: Int[np.ndarray, " K"],
    rows: int,
) -> Float[Tensor, " K"]:
    """The values that exactly so many of each latent's z lie above; of equals fewer.

    Only the largest are held: as many numbers as there are firings, and as many again.
    """
    n = np.minimum(fired + 1, rows)
    waiting: list[list[np.ndarray]] = [[np.empty(0, np.float32)] for _ in n]
    size, least = np.zeros(len(n), dtype=np.int64), np.full(len(n), -np.inf)
    for first, stop in blocks(rows):
        z = (store.read(site, first, stop) @ weights).numpy()
        for k, most in enumerate(n):
            above = z[z[:, k] > least[k], k]
            waiting[k].append(above)
            size[k] += len(above)
            if size[k] > 2 * most + len(z) or stop == rows:
                best = np.concatenate(waiting[k])
                best = np.partition(best, -most)[-most:]
                waiting[k], size[k], least[k] = [best], most, best[0]
    return torch.tensor(least, dtype=torch.float32).clamp_min_(0)
