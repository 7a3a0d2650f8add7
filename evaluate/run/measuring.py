"""The passes over the sequences that measure a group of SAEs.

Owns their order: the first finds each target site's mean, the second most figures. More firing
counts, importance and top activations follow on request.
"""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...console import Progress, progress
from ...harvest.model.hooks import forward_until
from ...harvest.model.sites import Site, site_width
from ..measure.importance import importance
from ..measure.inputs import HeldOut, PlacedSAE
from ..measure.lm_loss import has_target
from ..measure.metrics import MeanActivation
from ..measure.passes import MainPass, SAEMeter
from ..measure.top_activations import LatentSearch
from ..settings import EvaluateSettings
from .clean_runs import CleanRuns

if TYPE_CHECKING:
    from ...harvest.model.loading import LanguageModel

SUBSET_FIGURES = (
    *("n_tokens", "l0", "fvu", "cosine", "delta_loss", "delta_loss_stderr", "kl"),
    *("recovered_share", "intervals"),
)


@torch.no_grad()
def evaluate_many(
    lm: "LanguageModel",
    candidates: list[PlacedSAE],
    held_out: HeldOut,
    settings: EvaluateSettings,
    bar: Progress | None = None,
) -> dict[str, Any]:
    """Measures SAEs: everything `evaluate` does between loading and writing.

    All SAEs share the clean pass and the ablations. An SAE's figures are the same, bit for bit,
    whichever other SAEs are measured with it.

    Args:
        lm: the language model.
        candidates: the SAEs with their sites, from `candidate`.
        held_out: the sequences, from `open_held_out`.
        settings: its paths and n_sequences are not used.
        bar: shows the progress; by default a new one.

    Returns:
        `clean`, `baselines` and `saes` of the JSON (docs/evaluate.md).
    """
    batch = settings.batch_for(held_out.context, lm.device)
    firing_stop = min(settings.firing_sequences or held_out.n, len(held_out.sequences))
    n_passes = 2 + bool(settings.top_latents) + settings.importance
    total = n_passes * held_out.n + max(0, firing_stop - held_out.n)
    with progress("evaluate", total, "sequences") if bar is None else nullcontext(bar) as shown:
        targets = _in_order(candidate.target for candidate in candidates)
        sites = _in_order([*targets, *(candidate.site for candidate in candidates)])
        runs = CleanRuns(lm, held_out, batch, sites, targets)
        means = _site_means(lm, runs, targets, held_out, shown)
        main = MainPass(lm, candidates, means, held_out.context, settings.splice_special)
        for sequences, clean, x in runs.losses():
            main.add(sequences, clean, x)
            shown.advance(len(sequences))
        _count_firing(lm, main.saes, held_out, firing_stop, batch, shown)
        result = main.result()
        extras = {}
        if settings.importance:
            extras["importance"] = importance(lm, candidates, held_out, batch, settings.seed, shown)
        if settings.top_latents:
            extras["top_activations"] = _top_activations(lm, runs, main.saes, settings, shown)
    for name, values in extras.items():
        for entry, value in zip(result["saes"], values, strict=True):
            entry[name] = value
    return result


def evaluate_subsets(
    lm: "LanguageModel",
    candidates: list[PlacedSAE],
    subsets: dict[str, HeldOut],
    settings: EvaluateSettings,
    bar: Progress | None = None,
) -> dict[str, Any]:
    """The main figures of every SAE on each subset of the text.

    E x, and so the FVU, is the subset's own.
    """
    plain = {"top_latents": 0, "importance": False, "firing_sequences": None}
    found = {}
    for name, held_out in subsets.items():
        result = evaluate_many(lm, candidates, held_out, settings.model_copy(update=plain), bar)
        found[name] = {
            "n_sequences": held_out.n,
            "clean_loss": result["clean"]["loss"],
            "saes": [
                {figure: entry[figure] for figure in ("name", *SUBSET_FIGURES)}
                for entry in result["saes"]
            ],
        }
    return found


def _count_firing(
    lm: "LanguageModel",
    meters: list[SAEMeter],
    held_out: HeldOut,
    stop: int,
    batch: int,
    bar: Progress,
) -> None:
    """Counts firing latents on sequences after the evaluated ones, up to `stop`.

    The model runs only up to the sites.
    """
    sites = {meter.candidate.site for meter in meters}
    for sequences in held_out.batches(batch, lm.device, held_out.n, stop):
        x = forward_until(lm, sequences.ids, sites)
        for meter in meters:
            meter.count_firing(x[str(meter.candidate.site)], sequences.keep)
        bar.advance(len(sequences))


def _site_means(
    lm: "LanguageModel",
    runs: CleanRuns,
    targets: list[Site],
    held_out: HeldOut,
    bar: Progress,
) -> dict[Site, Tensor]:
    """E x [d] of every target site over the evaluated positions, float64."""
    means = {site: MeanActivation(site_width(site, lm.config)) for site in targets}
    n_predictions = 0
    for sequences, x in runs.activations(targets):
        for site, mean in means.items():
            mean.add(x[site], sequences.keep)
        n_predictions += int(has_target(sequences.keep).sum())
        bar.advance(len(sequences))
    if n_predictions == 0:
        raise ValueError(
            f"held-out sequences must hold two ordinary tokens in a row, or there is no loss to "
            f"measure, got none in {held_out.n} of {held_out.context} tokens (BOS, EOS and PAD are "
            "not ordinary); tokenize with a context of at least 3, or other text"
        )
    return {site: mean.value for site, mean in means.items()}


def _top_activations(
    lm: "LanguageModel",
    runs: CleanRuns,
    meters: list[SAEMeter],
    settings: EvaluateSettings,
    bar: Progress,
) -> list[list[dict[str, Any]]]:
    """Each SAE's chosen latents with their snippets, in one pass up to the last site."""
    searches = [
        LatentSearch(meter.candidate, meter.features.fired, meter.n_firing_tokens, settings)
        for meter in meters
    ]
    for sequences, x in runs.activations(_in_order(search.site for search in searches)):
        for search in searches:
            search.add(sequences.ids, x[search.site], sequences.keep)
        bar.advance(len(sequences))
    return [search.result(lm.tokenizer) for search in searches]


def _in_order(sites: Iterable[Site]) -> list[Site]:
    """Each site once, sorted by depth, so that every process has the same order."""
    return sorted(set(sites), key=lambda site: (site.depth, str(site)))
