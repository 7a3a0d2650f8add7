"""Runs `latents score`: scores explanations beside controls, and keeps the scores in the index."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ....store.place.ownership import owned
from ....verbs import takes
from ..explain.asking.asker import Asker, Question
from ..explain.asking.models import asker, estimate
from ..explain.inputs import samples_of, tokenizer_of
from ..explain.run import asked_lines
from ..explain.templates import check_folder
from ..files.explanations import (
    Explanations,
    LatentScore,
    Scores,
    Value,
    read_explanations,
    write_scores,
)
from ..files.folder import LatentIndex, open_index
from ..samples.sample_set import Samples
from .baseline import by_tables
from .controls import OWN
from .scorers.scorer import Scorer
from .scorers.table import SCORERS, TOKENS
from .settings import ScoreSettings
from .statistics import Evidence, Figure, Judged, figures
from .summary import strata, table
from .variants import ScoredVariant, variants

_ENOUGH = 0.5
"""Largest share of failed test contexts, firing or silent, with which a latent has a score."""


class LatentFigures(NamedTuple):
    """One latent's figures."""

    figures: dict[str, Figure]
    failed: int = 0
    """Contexts that could not be judged."""
    left_out: int = 0


ByLatent = dict[str, list[LatentFigures]]
"""Variant's name -> figures, by latent."""


@takes(ScoreSettings)
def score_latents(settings: ScoreSettings) -> list[str]:
    """Scores an index's explanations beside controls: shuffled ones, a random SAE's, and token
    unigrams.

    The scores are kept in the index, whose page shows them; with `dry_run` nothing is asked.

    Args:
        settings: see `ScoreSettings`.

    Returns:
        Lines that say what was found, what it took, and where it is.

    Raises:
        ValueError, OSError: an input is missing or not the index's, or a language model cannot be
            asked.
    """
    return list(score(settings))


def score(settings: ScoreSettings) -> Iterator[str]:
    """Scores, scorer by scorer; yields lines to show as they are found.

    Raises:
        ValueError, OSError: an input is missing or not the index's, or a language model cannot be
            asked.
    """
    check_folder(settings.prompts, [scorer.prompt for scorer in SCORERS.values()])
    index = open_index(settings.index)
    with owned(index.folder / "explanations", name="index"):
        found = _explanations(index, settings)
        settings = _with_places(settings, found)
        both = samples_of(index, found.drawn_by, settings)
        tokenizer = tokenizer_of(index, settings.model)
        told = variants(found, *both, tokenizer, settings.seed)
        asks = [name for name in settings.scorers if name != TOKENS]
        if settings.dry_run:
            questions = [q for name in asks for q in _questions(name, told, tokenizer, settings)]
            yield from (
                estimate(questions, settings, index.folder, tokenizer)
                if asks
                else ["scorer tokens asks no language model: nothing to pay"]
            )
            return
        if TOKENS in settings.scorers:
            by_variant = by_tables(*both, settings.seed)
            result = {
                name: [LatentFigures(one) for one in ones] for name, ones in by_variant.items()
            }
            yield from _written(
                index, _scores(TOKENS, None, "token unigrams", result, both[0], 0, settings)
            )
        if asks:
            with asker(settings, index.folder) as asking:
                for name in asks:
                    before = asking.counts.nonsense
                    result = _by_asking(name, told, tokenizer, asking, settings)
                    nonsense = asking.counts.nonsense - before
                    yield from _written(
                        index,
                        _scores(name, found, asking.name, result, both[0], nonsense, settings),
                    )
                yield from asked_lines(asking.counts)


def _explanations(index: LatentIndex, settings: ScoreSettings) -> Explanations:
    """The explanations asked for; by default a language model's, if there are some."""
    name = settings.explainer
    if name is None:
        has_llm = (index.folder / "explanations" / "llm.json").is_file()
        name = "llm" if has_llm else TOKENS
    found = read_explanations(index.folder, name)
    manifest = index.manifest
    for kind, name, wanted in (
        ("SAE", "sae", manifest.sae.fingerprint),
        ("rows", "store", manifest.store.key),
        ("tokens", "tokens", manifest.tokens.fingerprint),
    ):
        if found.drawn_by.get(name) != wanted:
            raise ValueError(
                f"explanations in {index.folder} must be of its {kind}, got another index's; "
                "explain again"
            )
    return found


def _with_places(settings: ScoreSettings, found: Explanations) -> ScoreSettings:
    """The settings, with the places that `explain` used where none are given."""
    names = ("sae", "store", "tokens", "model")
    known = {name: found.settings.get(name) for name in names if getattr(settings, name) is None}
    return settings.model_copy(update=known)


def _questions(
    name: str, told: Sequence[ScoredVariant], tokenizer: object, settings: ScoreSettings
) -> list[Question]:
    """All questions of a scorer."""
    scorer = _scorer(name, settings)
    return [
        question
        for variant in told
        for k, text in enumerate(variant.texts)
        if text is not None
        for question in scorer.questions(variant.samples, k, text, tokenizer)
    ]


def _scorer(name: str, settings: ScoreSettings) -> Scorer:
    return SCORERS[name](settings.prompts, settings.examples_per_prompt, settings.seed)


def _by_asking(
    name: str,
    told: Sequence[ScoredVariant],
    tokenizer: object,
    asking: Asker,
    settings: ScoreSettings,
) -> ByLatent:
    """Figures of every variant and latent, from a language model's answers."""
    scorer, result = _scorer(name, settings), ByLatent()
    for variant in told:
        by_latent = [
            [] if text is None else scorer.questions(variant.samples, k, text, tokenizer)
            for k, text in enumerate(variant.texts)
        ]
        flat = [question for questions in by_latent for question in questions]
        answers = iter(asking.ask_all(flat, f"{name}, {variant.name}"))
        result[variant.name] = [
            _figures(
                scorer.evidence(variant.samples, k, [next(answers) for _ in questions]),
                settings.seed + int(told[0].samples.latents[k]),
            )
            if variant.texts[k] is not None
            else LatentFigures({})
            for k, questions in enumerate(by_latent)
        ]
    return result


def _figures(evidence: Evidence, seed: int) -> LatentFigures:
    """A latent's figures; without values if too many of its contexts could not be judged."""
    judged = isinstance(evidence, Judged)
    said = evidence.said[:, None] if judged else evidence.predicted
    failed: np.ndarray = np.all(np.isnan(said), axis=1)
    found = figures(evidence, seed)
    for kind in (evidence.fires, ~evidence.fires):
        if kind.any() and failed[kind].mean() > _ENOUGH:
            found = {name: Figure(None) for name in found}
    return LatentFigures(found, int(failed.sum()), evidence.left_out if judged else 0)


def _scores(
    scorer: str,
    told: Explanations | None,
    by: str,
    result: ByLatent,
    samples: Samples,
    nonsense: int,
    settings: ScoreSettings,
) -> Scores:
    """The scorer's document.

    Args:
        told: the explanations that were scored; None for token tables.
    """
    latents, metrics = {}, list[str]()
    explainer, texts = (TOKENS, {}) if told is None else (told.explainer, told.texts)
    for k, latent in enumerate(samples.latents.tolist()):
        found = {variant: by_latent[k].figures for variant, by_latent in result.items()}
        metrics = metrics or list(found[OWN])
        latents[str(latent)] = LatentScore(
            text=texts.get(str(latent)),
            density=float(samples.density[k]),
            figures={
                variant: {
                    name: Value(value=f.value, interval=f.interval) for name, f in one.items()
                }
                for variant, one in found.items()
                if one
            },
            failed=sum(by_latent[k].failed for by_latent in result.values()),
            left_out=sum(by_latent[k].left_out for by_latent in result.values()),
        )
    if not metrics:
        raise ValueError(
            f"explanations by {explainer} must be there for a latent at least, got none of "
            f"{len(latents)}; explain other latents"
        )
    return Scores(
        scorer=scorer,
        metrics=metrics,
        explainer=explainer,
        by=by,
        settings=settings.kept(),
        latents=latents,
        strata=strata(latents, metrics),
        failed=sum(one.failed for one in latents.values()),
        left_out=sum(one.left_out for one in latents.values()),
        nonsense=nonsense,
    )


def _written(index: LatentIndex, scores: Scores) -> Iterator[str]:
    """Writes a scorer's document; yields its table and its path."""
    path: Path = write_scores(index.folder, scores)
    yield from table(scores)
    yield f"written: {path}"
