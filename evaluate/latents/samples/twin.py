"""The twin: an SAE that was never trained, as a control for scores of explanations.

Owns the twin's weights and thresholds, and collects both SAEs' contexts. Each latent of the twin
fires as often as the latent it is paired with.
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
    """The contexts of some latents (`collect`), and those of as many latents of a random SAE.

    The random SAE's latent k is paired with `latents[k]` and fires as often.
    """
    settings = settings or SampleSettings()
    samples = collect(sae, store, tokens, latents, settings, site)
    site = site or sae.config.site
    assert site is not None
    twin = random_twin(sae, store, site, samples.fired.tolist(), samples.rows, settings.seed)
    return samples, collect(twin, store, tokens, range(len(latents)), settings, site)


def random_twin(
    sae: SAE, store: ActivationStore, site: str, fired: Sequence[int], rows: int, seed: int
) -> SAE:
    """K latents as training starts them; latent k fires in `fired[k]` of the store's first rows.

    Initial directions are drawn independently of each other, so K of them suffice instead of d_sae.
    θ_k is the (fired[k] + 1)-th largest z = x @ W_enc[:, k], or 0 if that is below 0. A latent that
    should fire in most rows may therefore fire in fewer: z > 0 in about half of them.

    Args:
        sae: the SAE that this is a control for.
        store: the activations that the SAE reads.
        site: the site that it reads.
        fired: number of rows, of the first `rows`, in which each latent should fire.
        rows: number of rows that count.
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
    """θ of each latent: `fired[k]` of latent k's z are above it, or fewer if there are ties.

    Only the largest z are held: at most about twice as many numbers as there are firings.
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
