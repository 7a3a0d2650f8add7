"""The main pass: per batch one clean forward, two ablations per target site, one splice per SAE.

Owns what is summed over the sequences, and how the sums become the entries of the JSON. The metrics
themselves are in `metrics` and `lm_loss`; `evaluate.run` loads and writes.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...harvest.model.sites import Site
from ...store.read.variance import is_constant
from .declared.training_record import read_training
from .inputs import PlacedSAE, Sequences
from .intervals import Estimate, Interval, SequenceSums, ratio
from .lm_loss import (
    CleanRun,
    has_target,
    recovered_share,
    spliced_losses,
    spliced_losses_and_kl,
)
from .metrics import FeatureMeter, PositionMeans, VectorComparison
from .summaries import dimension_summary, firing_summary, json_list

if TYPE_CHECKING:
    from ...harvest.model.loading import LanguageModel


@dataclass(frozen=True)
class SharedRun:
    """A batch with what all SAEs share.

    Masks are bool [batch, seq], activations `x` [batch, seq, d] by site.
    """

    clean: CleanRun
    keep: Tensor
    """Positions that count."""
    counted: Tensor
    """Positions whose prediction counts."""
    where: Tensor
    """Positions that are spliced."""
    x: dict[Site, Tensor]


class SiteMeter:
    """A target site: its variance, and the loss with zeros or with its mean in its place."""

    def __init__(self, site: Site, mean: Tensor, context: int):
        self.site, self.mean = site, mean
        self.power, self.losses = PositionMeans(context), PositionMeans(context)
        self.sequences = SequenceSums()
        self._deviations = VectorComparison(len(mean))

    def add(self, lm: "LanguageModel", batch: SharedRun) -> Tensor:
        """Adds a batch; returns ‖x − E x‖² of every position, float64 [batch, seq]."""
        x = batch.x[self.site]
        mean = self.mean.to(x.device)
        ablated = {"zero": torch.zeros_like(x), "mean": mean.to(x.dtype).expand_as(x)}
        losses = {
            name: spliced_losses(lm, batch.clean, self.site, values, batch.where)
            for name, values in ablated.items()
        }
        self.losses.add(batch.counted, **losses)
        costs = {name: loss.double() - batch.clean.losses for name, loss in losses.items()}
        self.sequences.add(batch.counted, **costs)
        found = self._deviations(x, mean.expand_as(x), batch.keep)
        self.power.add(batch.keep, deviation=found["error"], square=found["square"])
        self.sequences.add(batch.keep, deviation=found["error"])
        return found["error"]

    @property
    def deviations(self) -> Tensor:
        """Σ (x − E x)² of each dimension, float64 [d]."""
        return self._deviations.squares

    @property
    def squares(self) -> Tensor:
        """Σ x² of each dimension, float64 [d]: Σ (x − E x)² + n (E x)²."""
        return self.deviations + self.power.n_tokens * self.mean.square()

    def result(self) -> dict[str, Any]:
        """The site's entry in `baselines`."""
        return {
            "zero_ablation_loss": self.losses.mean("zero"),
            "mean_ablation_loss": self.losses.mean("mean"),
            "mean_square": self.power.mean("square"),
            "variance": self.power.mean("deviation"),
            "by_position": {
                "zero_ablation_loss": json_list(self.losses.by_position("zero")),
                "mean_ablation_loss": json_list(self.losses.by_position("mean")),
                "mean_square": json_list(self.power.by_position("square")),
            },
        }


class SAEMeter:
    """One SAE: its reconstruction, its latents, and the loss with it in place."""

    def __init__(self, candidate: PlacedSAE, context: int):
        self.candidate, sae = candidate, candidate.sae
        self.features = FeatureMeter(sae.encode, sae.decode, sae.config.d_sae, sae.W_enc.device)
        self.reconstruction, self.losses = PositionMeans(context), PositionMeans(context)
        self.sequences = SequenceSums()
        self._errors = VectorComparison(sae.W_dec.shape[1])
        self.n_firing_tokens = 0

    def add(self, lm: "LanguageModel", batch: SharedRun, deviations: dict[Site, Tensor]) -> None:
        """Adds a batch; `deviations` is ‖x − E x‖² of every position, by target site."""
        target = batch.x[self.candidate.target]
        x_hat, l0 = self.count_firing(batch.x[self.candidate.site], batch.keep)
        found = self._errors(target, x_hat, batch.keep)
        values = {"l0": l0, **{name: found[name] for name in ("error", "cosine", "norm_ratio")}}
        deviation = deviations[self.candidate.target]
        values["token_fvu"] = torch.where(deviation > 0, found["error"] / deviation, 0.0)
        self.reconstruction.add(batch.keep, **values)
        self.sequences.add(batch.keep, **values)
        where = self.candidate.target, x_hat, batch.where
        spliced, kl = spliced_losses_and_kl(lm, batch.clean, *where)
        delta = spliced.double() - batch.clean.losses
        self.losses.add(batch.counted, spliced=spliced, delta=delta, kl=kl)
        self.sequences.add(batch.counted, delta=delta, kl=kl)

    def count_firing(self, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Counts which latents fire on activations of the SAE's site; returns x̂ and ‖f‖₀."""
        self.n_firing_tokens += int(keep.sum())
        return self.features(x, keep)

    def result(self, clean: PositionMeans, baseline: SiteMeter) -> dict[str, Any]:
        """The SAE's entry in `saes` of the JSON.

        Raises:
            ValueError: the SAE's reconstructions are not finite.
        """
        mse, sae = self.reconstruction.mean("error"), self.candidate.sae
        if not math.isfinite(mse):
            raise ValueError(
                f"SAE {self.candidate.name} must give finite reconstructions, got a mean squared "
                f"error of {mse}; "
                "its file is damaged or its training diverged"
            )
        losses = clean.mean("clean"), self.losses.mean("spliced")
        ablated = baseline.result()
        fvu = _fvu(mse, ablated)
        delta = self.sequences.mean("delta")
        firing = firing_summary(self.features.fired, self.n_firing_tokens)
        scaled = self.candidate.norm_factors
        return {
            "name": self.candidate.name,
            "path": self.candidate.path,
            "site": str(self.candidate.site),
            "target_site": str(self.candidate.target),
            "config": sae.config.model_dump(mode="json"),
            **({} if scaled is None else {"norm_factors": scaled}),
            "training": read_training(self.candidate.path),
            "d_sae": sae.config.d_sae,
            "n_tokens": self.reconstruction.n_tokens,
            "l0": self.reconstruction.mean("l0"),
            "mse": mse,
            "fvu": fvu,
            "token_fvu": None if fvu is None else self.reconstruction.mean("token_fvu"),
            "cosine": self.reconstruction.mean("cosine"),
            "norm_ratio": self.reconstruction.mean("norm_ratio"),
            "spliced_loss": losses[1],
            "delta_loss": delta.value,
            "delta_loss_stderr": delta.stderr,
            "kl": self.losses.mean("kl"),
            "recovered_share": recovered_share(*losses, ablated["mean_ablation_loss"]),
            "recovered_share_of_zero_ablation": recovered_share(
                *losses, ablated["zero_ablation_loss"]
            ),
            "intervals": self._intervals(baseline, fvu is None),
            "dead_share": firing["n_dead"] / sae.config.d_sae,
            "firing": firing,
            "weights": self.candidate.weights,
            "by_dimension": dimension_summary(
                self._errors.squares, baseline.deviations, baseline.squares
            ),
            "by_position": self._by_position(ablated["variance"]),
        }

    def _intervals(self, site: SiteMeter, constant: bool) -> dict[str, Interval | None]:
        """The 95% interval over sequences of every headline number."""
        own, shared = self.sequences, site.sequences
        found = {
            "l0": own.mean("l0"),
            "mse": own.mean("error"),
            "fvu": None if constant else ratio(own["error"], shared["deviation"]),
            "cosine": own.mean("cosine"),
            "delta_loss": own.mean("delta"),
            "kl": own.mean("kl"),
            "recovered_share": _recovered(own, shared, "mean"),
            "recovered_share_of_zero_ablation": _recovered(own, shared, "zero"),
        }
        return {name: value and value.interval for name, value in found.items()}

    def _by_position(self, variance: float) -> dict[str, Any]:
        """Curves over positions.

        Errors are in units of the variance over all positions, so their mean, weighted by the
        tokens at each position, is the FVU.
        """
        squares, losses = self.reconstruction, self.losses
        return {
            "delta_loss": json_list(losses.by_position("delta")),
            "delta_loss_stderr": json_list(losses.stderr_by_position("delta")),
            "kl": json_list(losses.by_position("kl")),
            "error": json_list(squares.by_position("error") / variance),
            "error_stderr": json_list(squares.stderr_by_position("error") / variance),
            "l0": json_list(squares.by_position("l0")),
        }


def _fvu(mse: float, baseline: dict[str, Any]) -> float | None:
    """mse over the site's variance; None if the site is constant."""
    constant = is_constant(baseline["variance"], baseline["mean_square"])
    return None if constant else mse / baseline["variance"]


def _recovered(own: SequenceSums, site: SequenceSums, ablation: str) -> Estimate | None:
    """1 − Σ D_s / Σ K_s, where D is the cost of the SAE and K that of the ablation.

    None unless K's interval is above 0: the delta method needs a denominator that is not 0.
    """
    cost = site.mean(ablation).interval
    if cost is None or cost[0] <= 0:
        return None
    return ratio(-own["delta"], site[ablation], offset=1.0)


class MainPass:
    """All meters, fed batch by batch."""

    def __init__(
        self,
        lm: "LanguageModel",
        candidates: list[PlacedSAE],
        means: dict[Site, Tensor],
        context: int,
        splice_special: bool,
    ):
        self._lm, self._splice_special = lm, splice_special
        self._clean, self._n_sequences = PositionMeans(context), 0
        self._n_tokens = torch.zeros(context, dtype=torch.int64)
        self.baselines = {site: SiteMeter(site, mean, context) for site, mean in means.items()}
        self.saes = [SAEMeter(candidate, context) for candidate in candidates]

    def add(self, sequences: Sequences, clean: CleanRun, x: dict[Site, Tensor]) -> None:
        """Adds a batch with its clean run and the activations of all sites."""
        keep, spliced = sequences.keep, sequences.is_text
        batch = SharedRun(
            clean=clean,
            keep=keep,
            counted=has_target(keep),
            where=torch.ones_like(spliced) if self._splice_special else spliced,
            x=x,
        )
        self._n_sequences += len(sequences)
        self._n_tokens += keep.sum(0).cpu()
        self._clean.add(batch.counted, clean=clean.losses)
        deviations = {site: meter.add(self._lm, batch) for site, meter in self.baselines.items()}
        for meter in self.saes:
            meter.add(self._lm, batch, deviations)

    def result(self) -> dict[str, Any]:
        """The entries `clean`, `baselines` and `saes` of the JSON."""
        baselines = {str(site): meter.result() for site, meter in self.baselines.items()}
        return {
            "clean": {
                "loss": self._clean.mean("clean"),
                "n_sequences": self._n_sequences,
                "n_predictions": self._clean.n_tokens,
                "by_position": {
                    "loss": json_list(self._clean.by_position("clean")),
                    "n_tokens": self._n_tokens.tolist(),
                    "n_predictions": self._clean.count.int().tolist(),
                },
            },
            "baselines": baselines,
            "saes": [
                meter.result(self._clean, self.baselines[meter.candidate.target])
                for meter in self.saes
            ],
        }
