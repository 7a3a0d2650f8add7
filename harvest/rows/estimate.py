"""HarvestEstimate: what a harvest will take, before anything is written.

Owns the arithmetic of bytes, and the short warm-up from which it scales them up. The model's family
counts the floating-point operations. `scopeworks harvest --dry-run` prints the estimate.
"""

import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from ...store.format.chunks.codecs import PRESETS
from ...store.format.values import Extremes, quantised, to_bits
from ...verbs import takes
from ..model.families import family_of
from ..settings import HarvestSettings
from .bucket_job import BucketHarvester
from .plan import Block, Plan
from .prepare import begun_spec, planned, prepare

_WARM_UP_BATCHES = 3
_FIRST_TOKENS = 16
_ALLOWED_S, _ALLOWED_SHARE = 20.0, 0.1
_SAMPLE_ROWS = 1024
"""Rows of a site that are compressed to see how small they get."""
_LABEL_BYTES = 12


@dataclass(frozen=True)
class HarvestEstimate:
    """What a harvest will take on this machine."""

    sequences: int
    rows: int
    flops: float
    """Floating-point operations of all forward passes, each up to the last site."""
    rows_per_s: float
    """Rows per second, forward pass and selection of rows, measured in a short warm-up."""
    site_bytes: dict[str, dict[str, float]]
    """Codec -> site -> bytes on disk, from the warm-up's rows compressed alone."""

    @property
    def hours(self) -> float:
        """Expected time of the forward passes; writing goes on beside them."""
        return self.rows / self.rows_per_s / 3600

    def __str__(self) -> str:
        lines = [
            f"{self.sequences:,} sequences, {self.rows:,} rows",
            f"{self.flops:.3g} FLOPs, {self.rows_per_s:,.0f} rows/s in the warm-up: "
            f"{self.hours:.2f} hours on this machine",
        ]
        for codec, sites in self.site_bytes.items():
            lines.append(f"codec {codec}: {(sum(sites.values()) + self._labels) / 1e9:.3f} GB")
            lines += [f"  {site}: {size / 1e9:.3f} GB" for site, size in sites.items()]
        return "\n".join(lines)

    @property
    def _labels(self) -> int:
        """Token, sequence and position of every row, before compression."""
        return self.rows * _LABEL_BYTES


@takes(HarvestSettings)
def estimate_harvest(settings: HarvestSettings) -> HarvestEstimate:
    """Estimates a harvest from its first batches, in 20 s or a tenth of its time; writes nothing.

    Args:
        settings: see `HarvestSettings`.

    Returns:
        The estimate: `sequences`, `rows`, `flops`, `rows_per_s`, `hours`, and `site_bytes` by codec
        and site. `print` shows it as `scopeworks harvest --dry-run` does.

    Raises:
        OSError, ValueError: as `harvest` does before it writes.
    """
    started = time.perf_counter()
    begun = begun_spec(settings)
    job, _ = prepare(settings, begun)
    plan = planned(settings, job, begun)
    rows, seconds_per_token = _warm_up(job, plan, started)
    context = job.sequences.shape[1]
    n_tokens = plan.n_sequences * context
    return HarvestEstimate(
        sequences=plan.n_sequences,
        rows=plan.rows,
        flops=flops_per_token(job, context) * n_tokens,
        rows_per_s=plan.rows / (n_tokens * seconds_per_token),
        site_bytes={
            codec: {site: _bytes_per_row(codec, x) * plan.rows for site, x in rows.items()}
            for codec in PRESETS
        },
    )


def flops_per_token(job: BucketHarvester, context: int) -> float:
    """Multiplications and additions of one token's forward pass up to the last site."""
    config, last = job.model.config, max(job.sites, key=lambda site: site.depth)
    return family_of(config).flops_per_token(config, context, last.layer, last.kind)


def _warm_up(
    job: BucketHarvester, plan: Plan, started: float
) -> tuple[dict[str, torch.Tensor], float]:
    """The rows of the largest batch that was run, and seconds per token in batches of its size.

    Batches grow, beginning with part of a sequence, so that a slow model shows its speed in a few
    tokens. No batch is run that would take the estimate beyond 20 s and a tenth of the harvest.
    """
    n_tokens = plan.n_sequences * job.sequences.shape[1]
    rows, taken, sizes = {}, {}, _sizes(job, plan)
    for size, following in pairwise([*sizes, 0]):
        block = _block(job, size)
        begun = time.perf_counter()
        rows = job.rows(block)
        now = time.perf_counter()
        taken.setdefault(size, []).append((now - begun) / block.tokens.size)
        allowed = max(_ALLOWED_S, _ALLOWED_SHARE * n_tokens * taken[size][-1])
        if now - started + following * taken[size][-1] > allowed:
            break
    same = taken[max(taken)]
    return rows, sum(same[1:] or same) / len(same[1:] or same)


def _sizes(job: BucketHarvester, plan: Plan) -> list[int]:
    """Tokens of the batches to run: doubled until a batch is whole, then a few whole ones."""
    whole = min(job.batch_sequences, plan.n_sequences) * job.sequences.shape[1]
    growing = []
    while not job.model.compiled and (size := _FIRST_TOKENS << len(growing)) < whole:
        growing.append(size)
    return growing + [whole] * (1 + _WARM_UP_BATCHES)


def _block(job: BucketHarvester, size: int) -> Block:
    """The first tokens: whole sequences, or the beginning of one."""
    context = job.sequences.shape[1]
    tokens = np.asarray(job.sequences[: max(1, size // context)])[:, :size]
    flat = np.flatnonzero(job.mask.kept(tokens))
    return Block(tokens, flat // tokens.shape[1], flat % tokens.shape[1], flat)


def _bytes_per_row(codec: str, rows: torch.Tensor) -> float:
    """Compressed bytes per row of a sample."""
    preset, rows = PRESETS[codec], rows[:_SAMPLE_ROWS]
    stored = to_bits(rows, preset.collected)
    if preset.dtype == "int8":
        extremes = Extremes(rows.shape[1])
        extremes.add(stored)
        stored, _ = quantised(stored, extremes.scale())
    return len(preset.encode(stored)) / len(rows)
