"""What a trained SAE is worth on stored rows: L0, FVU and the share of latents that never fire.

Errors are squared in units of about C (`_unit`), so that rows may be as small or as large as
float32 holds.

Runs the folded SAE on raw activations, as its users will; evaluation on text is `evaluate`'s.
"""

import math

import torch
from torch import Tensor

from ...machine import DTYPES
from ..kernels import Parameters
from ..kernels.precision import exact_products
from ..sae.config import SAEConfig, public_name
from ..sae.sae import SAE
from ..settings import TrainSettings
from .fold import fold
from .rows import Source

MAX_ENTRIES = 1 << 25  # of one dense [rows, d_sae] block: 128 MiB of float32


def measure(
    parameters: Parameters,
    settings: TrainSettings,
    source: Source,
    stream_state: dict[str, int],
) -> SAE:
    """The folded SAE with its quality measured on the `measure_rows` rows that follow in the
    stream.

    Those rows are ones not trained on while the run is shorter than an epoch. FVU's denominator is
    the variance of the whole site from the store's commits; its numerator and L0 are means over the
    measured rows.
    """
    pre_bias = settings.target_site is None
    tensors = fold(parameters, source.normaliser, source.target_normaliser, pre_bias)
    sae = SAE(_config(settings, source), **tensors)
    n_batches = -(-settings.measure_rows // settings.batch)
    error, unit, device = 0.0, _unit(source.target_normaliser), sae.theta.device
    fired = torch.zeros(settings.width, dtype=torch.int64, device=device)
    with (
        torch.no_grad(),
        exact_products(device.type),
        source.batches(stream_state, device) as batches,
    ):
        for _ in range(n_batches):
            x, target = batches.next_raw()
            for part, wanted in _parts(x, target, settings.width):
                part_error, part_fired = _error_and_firing(sae, part, wanted, unit)
                error, fired = error + part_error, fired + part_fired
    n_rows = n_batches * settings.batch
    active = int(fired.sum())
    scale = source.variance * (source.target_normaliser / unit) ** 2
    if not math.isfinite(error):
        raise OverflowError(f"got a squared error of {error} after the last update")
    l0, wanted = active / n_rows, settings.target_l0
    sae.config = sae.config.model_copy(
        update={
            "l0": l0,
            "l0_off_target": None if wanted is None else l0 / wanted - 1,
            "fvu": error / n_rows / scale,
            "dead_share": float((fired == 0).double().mean()),
            "measured_rows": n_rows,
        }
    )
    return sae


def _unit(normaliser: float) -> float:
    """The power of two at or below C: dividing by it rounds nothing."""
    return 2.0 ** math.floor(math.log2(normaliser))


def _error_and_firing(sae: SAE, x: Tensor, target: Tensor, unit: float) -> tuple[float, Tensor]:
    """Σ‖(target − x̂) / unit‖² of some rows and the rows in which each latent fires; on its own, so
    that one block of dense features is held and not two.
    """
    f = sae.encode(x)
    error = ((target - sae.decode(f, x)) / unit).square().sum(dtype=torch.float64)
    return float(error), (f > 0).sum(0)


def _parts(x: Tensor, target: Tensor, width: int) -> list[tuple[Tensor, Tensor]]:
    """The rows in blocks whose dense features fit `MAX_ENTRIES`."""
    rows = max(1, MAX_ENTRIES // width)
    return list(zip(x.split(rows), target.split(rows), strict=True))


def _config(settings: TrainSettings, source: Source) -> SAEConfig:
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
