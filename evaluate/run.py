"""The evaluation: SAEs + language model + held-out sequences -> numbers.

Owns the order of the passes and the JSON file. The first pass finds each target site's mean (the
model runs only as far as the last of them), the second everything else; after it, on request, more
firing counts, importances and the snippets of top activations.
"""

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..console import Progress, progress
from ..harvest.model.hooks import forward_until
from ..harvest.model.loading import load_model
from ..harvest.model.sites import Site, site_width
from ..harvest.tokens.splits import HELD_OUT
from ..store.place.files import check_can_be_written, write_file
from .evaluation_file import check_is_evaluation
from .measure.declared.causes import add_warnings
from .measure.importance import importance
from .measure.inputs import (
    Candidate,
    HeldOut,
    load_candidates,
    load_saes,
    model_dtype,
    open_held_out,
    subsets_of,
)
from .measure.lm_loss import predicting
from .measure.metrics import MeanActivation
from .measure.passes import MainPass, SAEMeter
from .measure.rescaling import rescaled
from .measure.top_activations import LatentSearch
from .settings import EvaluateSettings

if TYPE_CHECKING:
    from ..harvest.model.loading import LanguageModel
    from ..store import TokenStore

SUBSET_FIGURES = (
    *("n_tokens", "l0", "fvu", "cosine", "delta_loss", "delta_loss_stderr", "kl"),
    *("recovered_share", "intervals"),
)


def evaluate(settings: EvaluateSettings) -> dict[str, Any]:
    """Evaluates the SAEs of `settings` and writes the result to `settings.out`.

    Returns:
        The JSON written: settings, model, tokens, clean loss, baselines by site, and one entry per
        SAE in `saes`, in the order of `settings.sae`. docs/evaluate.md explains every field.

    Raises:
        ValueError, OSError: an input is missing or does not fit the others; nothing is written.
    """
    check_can_be_written(settings.out, "out")
    check_is_evaluation(settings.out)
    result = evaluation_of(settings)
    write_evaluation(settings.out, result)
    return result


def evaluation_of(settings: EvaluateSettings) -> dict[str, Any]:
    """What `evaluate` writes; nothing is written here, and `settings.out` is not looked at.

    Raises:
        ValueError, OSError: an input is missing or does not fit the others.
    """
    started = time.monotonic()
    saes = load_saes(settings)
    settings = settings.model_copy(update={"dtype": model_dtype(settings, saes)})
    lm = load_model(settings.model, settings.dtype, settings.device, settings.attention)
    place = settings.place(settings.tokens)
    tokens, held_out = open_held_out(place, lm, settings.n_sequences, settings.positions)
    subsets = subsets_of(tokens, settings.n_sequences, lm) if settings.subsets else {}
    candidates = load_candidates(settings, saes, lm)
    if settings.norms_of is not None:
        candidates = rescaled(candidates, held_out, lm, settings)
    measured = evaluate_many(lm, candidates, held_out, settings)
    add_warnings(measured["saes"], lm, candidates, held_out)
    return {
        "settings": settings.model_dump(mode="json"),
        "model": {"name": lm.name, "fingerprint": lm.fingerprint, "dtype": lm.dtype},
        "tokens": _tokens_record(tokens, held_out, settings.n_sequences),
        **measured,
        "subsets": evaluate_subsets(lm, candidates, subsets, settings),
        "seconds": round(time.monotonic() - started, 1),
    }


@torch.no_grad()
def evaluate_many(
    lm: "LanguageModel",
    candidates: list[Candidate],
    held_out: HeldOut,
    settings: EvaluateSettings,
) -> dict[str, Any]:
    """Everything `evaluate` does between loading and writing; all SAEs share the clean pass and the
    ablations.

    Of `settings`, neither paths nor n_sequences are read here.
    """
    firing_stop = min(settings.firing_sequences or held_out.n, len(held_out.sequences))
    n_passes = 2 + bool(settings.top_latents) + settings.importance
    total = n_passes * held_out.n + max(0, firing_stop - held_out.n)
    with progress("evaluate", total, "sequences") as bar:
        means = _site_means(lm, candidates, held_out, settings, bar)
        main = MainPass(lm, candidates, means, held_out.context, settings.splice_special)
        for sequences in held_out.batches(settings.batch, lm.device):
            main.add(sequences)
            bar.advance(len(sequences))
        _count_firing(lm, main.saes, held_out, firing_stop, settings, bar)
        result = main.result()
        extras = {}
        if settings.importance:
            extras["importance"] = importance(
                lm, candidates, held_out, settings.batch, settings.seed, bar
            )
        if settings.top_latents:
            extras["top_activations"] = _top_activations(lm, main.saes, held_out, settings, bar)
    for name, values in extras.items():
        for entry, value in zip(result["saes"], values, strict=True):
            entry[name] = value
    return result


def evaluate_subsets(
    lm: "LanguageModel",
    candidates: list[Candidate],
    subsets: dict[str, HeldOut],
    settings: EvaluateSettings,
) -> dict[str, Any]:
    """The main figures of every SAE on each subset of the text; E x and so the FVU are the subset's
    own.
    """
    plain = {"top_latents": 0, "importance": False, "firing_sequences": None}
    found = {}
    for name, held_out in subsets.items():
        result = evaluate_many(lm, candidates, held_out, settings.model_copy(update=plain))
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
    settings: EvaluateSettings,
    bar: Progress,
) -> None:
    """Goes on counting firing latents after the evaluated sequences; the model runs only up to the
    sites.
    """
    sites = {meter.candidate.site for meter in meters}
    for sequences in held_out.batches(settings.batch, lm.device, held_out.n, stop):
        x = forward_until(lm, sequences.ids, sites)
        for meter in meters:
            meter.count_firing(x[str(meter.candidate.site)], sequences.keep)
        bar.advance(len(sequences))


def _site_means(
    lm: "LanguageModel",
    candidates: list[Candidate],
    held_out: HeldOut,
    settings: EvaluateSettings,
    bar: Progress,
) -> dict[Site, Tensor]:
    """E x of every target site over the very positions that are evaluated, float64, so that FVU is
    exact.
    """
    targets = {candidate.target for candidate in candidates}
    means = {site: MeanActivation(site_width(site, lm.config)) for site in targets}
    n_predictions = 0
    for sequences in held_out.batches(settings.batch, lm.device):
        x = forward_until(lm, sequences.ids, targets)
        for site, mean in means.items():
            mean.add(x[str(site)], sequences.keep)
        n_predictions += int(predicting(sequences.keep).sum())
        bar.advance(len(sequences))
    if n_predictions == 0:
        raise ValueError(
            f"held-out sequences must hold two ordinary tokens in a row, or there is no loss to "
            f"measure, got none in {held_out.n} of {held_out.context} tokens (BOS, EOS and PAD are "
            "not ordinary); tokenize with a context of at least 3, or other text"
        )
    return {site: means[site].value for site in sorted(targets, key=lambda site: site.depth)}


def _top_activations(
    lm: "LanguageModel",
    meters: list[SAEMeter],
    held_out: HeldOut,
    settings: EvaluateSettings,
    bar: Progress,
) -> list[list[dict[str, Any]]]:
    """For each SAE its chosen latents with their snippets, in one partial pass for all of them."""
    searches = [
        LatentSearch(meter.candidate, meter.features.fired, meter.n_firing_tokens, settings)
        for meter in meters
    ]
    sites = {search.site for search in searches}
    for sequences in held_out.batches(settings.batch, lm.device):
        x = forward_until(lm, sequences.ids, sites)
        for search in searches:
            search.add(sequences.ids, x[str(search.site)], sequences.keep)
        bar.advance(len(sequences))
    return [search.result(lm.tokenizer) for search in searches]


def _tokens_record(tokens: "TokenStore", held_out: HeldOut, asked: int) -> dict[str, Any]:
    """What was read: enough to tell whether two evaluations used the same sequences."""
    return {
        "url": tokens.url,
        "fingerprint": tokens.fingerprint,
        "split": HELD_OUT,
        "context": tokens.context,
        "n_sequences": held_out.n,
        "n_sequences_asked": asked,
        "fewer_than_asked": held_out.n < asked,
    }


def write_evaluation(path: Path, result: dict[str, Any]) -> None:
    """Writes the JSON, lists of numbers on one line each."""
    text = json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False)
    # JSON strings hold no line breaks, so only lists match.
    text = re.sub(r"\[\n[\s\d.,eE+\-nul]*\]", lambda m: " ".join(m[0].split()), text)
    write_file(path, (text + "\n").encode())
