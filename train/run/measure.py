"""Measures a trained SAE on stored rows: L0, FVU and the share of latents that never fire.

Runs the folded SAE on raw activations, as its users will, shard by shard and rank by rank. Does not
evaluate on text: see `evaluate`.
"""

import math

import torch
from torch import Tensor

from ...machine import DTYPES
from ..kernels import Parameters, Share
from ..kernels.precision import exact_products
from ..kernels.shards import product
from ..sae.config import SAEConfig, public_name
from ..settings import TrainSettings
from .fold import fold
from .rows import TrainingRows

MAX_ENTRIES = 1 << 25  # of one dense [rows, latents of a shard] block: 128 MiB of float32


def measure(
    parameters: Parameters,
    settings: TrainSettings,
    source: TrainingRows,
    stream_state: dict[str, int],
    share: Share,
) -> tuple[SAEConfig, dict[str, Tensor]]:
    """The SAE's config with its quality, measured on the next `measure_rows` rows of the stream,
    and the folded tensors of the latents held here.

    If the run is shorter than an epoch, it has not trained on those rows. FVU's denominator is the
    variance of the whole site from the store's commits; its numerator and L0 are means over the
    measured rows.

    Raises:
        OverflowError: the squared error is not finite.
    """
    pre_bias = settings.target_site is None
    tensors = fold(parameters, source.normaliser, source.target_normaliser, pre_bias, share)
    n_batches = -(-settings.measure_rows // settings.batch)
    error, unit, device = 0.0, _unit(source.target_normaliser), parameters.theta.device
    fired = torch.zeros(share.n_latents, dtype=torch.int64, device=device)
    with (
        torch.no_grad(),
        exact_products(device.type),
        source.batches(stream_state, device, share.rows) as batches,
    ):
        for _ in range(n_batches):
            x, target = batches.whole_raw(batches.read())
            for part, wanted in _parts(x, target, share.size):
                x_hat = _reconstructed(tensors, share, part, fired)
                exact = ((wanted - x_hat) / unit).square().sum(dtype=torch.float64)
                error += float(exact)
    n_rows = n_batches * settings.batch
    active, dead = share.count(torch.stack([fired.sum(), (fired == 0).sum()])).tolist()
    scale = source.variance * (source.target_normaliser / unit) ** 2
    if not math.isfinite(error):
        raise OverflowError(f"got a squared error of {error} after the last update")
    l0, wanted_l0 = active / n_rows, settings.target_l0
    found = {
        "l0": l0,
        "l0_off_target": None if wanted_l0 is None else l0 / wanted_l0 - 1,
        "fvu": error / n_rows / scale,
        "dead_share": dead / settings.width,
        "measured_rows": n_rows,
    }
    return _config(settings, source).model_copy(update=found), tensors


def _unit(normaliser: float) -> float:
    """The power of two at or below C, which errors are divided by before they are squared: rows of
    any size stay in float32's range, and dividing by a power of two rounds nothing."""
    return 2.0 ** math.floor(math.log2(normaliser))


def _reconstructed(tensors: dict[str, Tensor], share: Share, x: Tensor, fired: Tensor) -> Tensor:
    """x̂ of raw rows [rows, d_in] over all latents, computed as `SAE` does, but shard by shard. Adds
    to `fired` the number of rows in which each latent held here fires.
    """
    W_enc_rows = tensors["W_enc"].t()

    def part(shard: int) -> Tensor:
        mine = share.latents(shard)
        z = product(x, W_enc_rows[mine].t()) + tensors["b_enc"][mine]
        f = torch.where(z > tensors["theta"][mine], z, 0).relu_()
        fired[mine] += (f > 0).sum(0)
        return product(f, tensors["W_dec"][mine])

    x_hat = share.add(part) + tensors["b_dec"]
    return x_hat + product(x, tensors["W_skip"]) if "W_skip" in tensors else x_hat


def _parts(x: Tensor, target: Tensor, latents: int) -> list[tuple[Tensor, Tensor]]:
    """The rows in blocks whose dense features of this many latents fit `MAX_ENTRIES`."""
    rows = max(1, MAX_ENTRIES // latents)
    return list(zip(x.split(rows), target.split(rows), strict=True))


def _config(settings: TrainSettings, source: TrainingRows) -> SAEConfig:
    """What is known before measuring."""
    provenance = source.store.provenance
    return SAEConfig(
        d_in=source.d_in,
        d_sae=settings.width,
        d_out=source.d_out,
        site=settings.site,
        target_site=settings.target_site,
        model=None if (model := provenance.get("model")) is None else public_name(str(model)),
        model_fingerprint=_text(provenance.get("model_fingerprint")),
        model_dtype=dtype if (dtype := provenance.get("dtype")) in DTYPES else None,
        context=provenance.get("context"),
        tokens=_text(provenance.get("tokens")),
        split=_text(provenance.get("split")),
        normaliser=source.normaliser,
        target_normaliser=source.target_normaliser if settings.target_site else None,
        target_l0=settings.target_l0,
        trained_rows=settings.steps * settings.batch,
    )


def _text(value: object) -> str | None:
    """A provenance entry as text."""
    return None if value is None else str(value)
