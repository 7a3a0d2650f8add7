"""Why an SAE is far from what its files declare: the usual causes, tried on a few tokens.

Owns the trials: the SAE at every other site of its width, on activations scaled as trainers scale
them, and with BOS counted or not. `doubts` says which SAEs need them.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ....harvest.model.families import family_of
from ....harvest.model.hooks import forward_until
from ....harvest.model.sites import Site, site_width
from ....train.sae.sae import SAE
from ..inputs import HeldOut, PlacedSAE
from ..metrics import MAX_FEATURE_VALUES
from ..rescaling import with_factors
from .doubts import FAR, doubts, is_far, seen_before

if TYPE_CHECKING:
    from ....harvest.model.loading import LanguageModel

_SAMPLE_TOKENS = 512
_SAMPLE_BYTES = 2**28  # of all sites' activations; a large model gets fewer tokens
USUAL = (
    "Usual causes are another site, inputs that were scaled in training, and BOS among the tokens; "
    "none of them could be shown on a few tokens"
)


@dataclass(frozen=True)
class ActivationSample:
    """Activations [tokens, d] of every site, float32, and which tokens count."""

    x: dict[Site, Tensor]
    keep: Tensor
    first: Tensor
    """Whether a token is the first of its sequence."""


@dataclass(frozen=True)
class Trial:
    """An SAE under another assumption (`cause`), and the L0 and FVU it then has."""

    cause: str
    l0: float
    fvu: float | None = None
    """None if it cannot be compared with the measured FVU."""


def add_warnings(
    entries: list[dict[str, Any]],
    lm: "LanguageModel",
    candidates: list[PlacedSAE],
    held_out: HeldOut,
    tokens: str | None = None,
) -> None:
    """Sets `warnings` in every entry of an evaluation.

    If there is anything to explain, the model runs once more, over a few tokens. `tokens` is the
    fingerprint of the token store.
    """
    sample = None
    for entry, candidate in zip(entries, candidates, strict=True):
        clauses = doubts(entry)
        seen = None if tokens is None else seen_before(entry["config"], tokens)
        entry["warnings"] = [] if seen is None else [seen]
        if not clauses:
            continue
        if sample is None:
            sample = sample_of(lm, held_out)
        why = explanation(candidate, entry["config"], sample, lm.fingerprint)
        entry["warnings"].append(f"{'; '.join(clauses)}. {why}")


def say_warnings(entries: list[dict[str, Any]]) -> None:
    """Prints the entries' warnings on stderr."""
    for entry in entries:
        for warning in entry["warnings"]:
            print(f"warning: SAE {entry['name']}: {warning}", file=sys.stderr)


@torch.no_grad()
def sample_of(lm: "LanguageModel", held_out: HeldOut) -> ActivationSample:
    """Activations of the first held-out tokens at all sites of the model."""
    layers = range(lm.config.num_hidden_layers)
    sites = [Site(kind, layer) for kind in family_of(lm.config).sites for layer in layers]
    bytes_a_token = 4 * sum(site_width(site, lm.config) for site in sites)
    n_tokens = max(16, min(_SAMPLE_TOKENS, _SAMPLE_BYTES // bytes_a_token))
    x: dict[Site, list[Tensor]] = {site: [] for site in sites}
    keep: list[Tensor] = []
    for sequence in held_out.batches(1, lm.device):
        ids = sequence.ids[:, :n_tokens]
        captured = forward_until(lm, ids, sites)
        for site in sites:
            x[site].append(captured[str(site)][0].float())
        keep.append(sequence.keep[0, :n_tokens])
        if sum(map(len, keep)) >= n_tokens:
            break
    first = [torch.arange(len(part), device=part.device) == 0 for part in keep]
    joined = {site: torch.cat(parts)[:n_tokens] for site, parts in x.items()}
    return ActivationSample(joined, torch.cat(keep)[:n_tokens], torch.cat(first)[:n_tokens])


def explanation(
    candidate: PlacedSAE, config: dict[str, Any], sample: ActivationSample, fingerprint: str
) -> str:
    """A sentence with the likely cause."""
    trained_on = config.get("model_fingerprint")
    if trained_on is not None and trained_on != fingerprint:
        return f"It is measured on another model than {config['model']}, which it was trained on"
    best = likely(candidate, config, sample)
    if best is None:
        return USUAL
    fvu = "" if best.fvu is None else f", FVU {best.fvu:.3g}"
    return f"The likely cause: {best.cause} (L0 {best.l0:.3g}{fvu} there)"


@torch.no_grad()
def likely(candidate: PlacedSAE, config: dict[str, Any], sample: ActivationSample) -> Trial | None:
    """The likely cause, or None.

    A trial explains the figures if its L0 is as declared and its FVU is below 1 and below the
    measured one (far below, if no L0 is declared). Of several the one with the lowest FVU is taken.
    """
    if not sample.keep.any():
        return None
    declared = config.get("l0")
    l0, fvu = _figures(candidate.sae, *_rows(candidate, sample, sample.keep))
    bound = min(1.0, fvu if declared else fvu / FAR)

    def explains(trial: Trial) -> bool:
        if declared and is_far(trial.l0, declared):
            return False
        if trial.fvu is None:
            return bool(declared) and is_far(l0, declared)
        return trial.fvu < bound

    better = filter(explains, _trials(candidate, sample))
    return min(better, key=lambda trial: 1.0 if trial.fvu is None else trial.fvu, default=None)


def _trials(candidate: PlacedSAE, sample: ActivationSample) -> Iterator[Trial]:
    """The SAE under each of the usual causes."""
    sae, keep = candidate.sae, sample.keep
    x, target = _rows(candidate, sample, keep)
    for site, values in sample.x.items():
        if values.shape[1] == sae.config.d_in and site != candidate.site:
            there = values[keep]
            own = there if candidate.target == candidate.site else target
            yield Trial(f"it is an SAE of {site}", *_figures(sae, there, own))
    c_in, c_out = (float(rows.square().sum(1).mean().sqrt()) for rows in (x, target))
    for name, d_in, d_out in (("1", 1, 1), ("d", sae.config.d_in, sae.config.d_out)):
        if c_in and c_out:
            scaled = with_factors(sae, d_in**0.5 / c_in, d_out**0.5 / c_out)
            text = f"it reads inputs scaled so that E‖x‖² = {name}, which is not folded into it"
            yield Trial(text, *_figures(scaled, x, target))
    if not keep.all():  # BOS alone may be most of the variance
        l0, _ = _figures(sae, *_rows(candidate, sample, torch.ones_like(keep)))
        yield Trial("what it declares includes BOS, EOS and PAD, which do not count here", l0)
    later = keep & ~sample.first
    if later.any() and (keep & sample.first).any():
        text = "the first token of every sequence counts here, a BOS that the token store lacks"
        yield Trial(text, *_figures(sae, *_rows(candidate, sample, later)))


def _rows(candidate: PlacedSAE, sample: ActivationSample, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that the SAE reads and rows that it predicts, [n, d_in] and [n, d_out]."""
    return sample.x[candidate.site][keep], sample.x[candidate.target][keep]


def _figures(sae: SAE, x: Tensor, target: Tensor) -> tuple[float, float]:
    """(L0, FVU) on some rows; the FVU is infinite if all rows of `target` are equal."""
    size = max(1, MAX_FEATURE_VALUES // sae.config.d_sae)
    active, error = 0, 0.0
    for part, wanted in zip(x.split(size), target.split(size), strict=True):
        f = sae.encode(part)
        active += int((f > 0).sum())
        error += float((wanted.double() - sae.decode(f, part).double()).square().sum())
    spread = float((target.double() - target.double().mean(0)).square().sum())
    return active / len(x), error / spread if spread else float("inf")
