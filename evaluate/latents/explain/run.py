"""The run of `scopeworks latents explain`: explains some latents and their random twins.

Owns the order of the work and the lines for the user. The explanations are kept in the index.
"""

from ....store.place.ownership import owned
from ....verbs import takes
from ..files.explanations import Explanations, read_explanations, write_explanations
from ..files.folder import LatentIndex, open_index
from ..files.manifest import read_places
from ..samples.sample_set import Samples
from .asking.asker import RequestCounts
from .asking.models import asker, estimate
from .explainers.llm import PROMPT
from .explainers.table import EXPLAINERS, Explainer, Sentences
from .inputs import chosen_latents, drawn_by, samples_of, tokenizer_of
from .settings import TOKENS, ExplainSettings
from .templates import check_folder


@takes(ExplainSettings)
def explain_latents(settings: ExplainSettings) -> list[str]:
    """Explains latents of an index in a sentence each, and as many of a random SAE as a control.

    The explanations are kept in the index, whose page shows them; with `dry_run` nothing is asked.

    Args:
        settings: see `ExplainSettings`.

    Returns:
        Lines that say what was found, what it took, and where it is.

    Raises:
        ValueError, OSError: an input is missing or does not belong to the index, or the language
            model cannot be asked.
    """
    check_folder(settings.prompts, [PROMPT])
    index = open_index(settings.index)
    settings = settings.with_places(read_places(index.folder))
    with owned(index.folder / "explanations", name="index"):
        return _explained(index, settings)


def _explained(index: LatentIndex, settings: ExplainSettings) -> list[str]:
    """The run, while this process holds the lock of the explanations."""
    explainer = EXPLAINERS[settings.kind](settings.prompts)
    latents = chosen_latents(index, settings)
    tokenizer = tokenizer_of(index, settings.model)
    by = drawn_by(index, latents, settings.sampling)
    both = samples_of(index, by, settings)
    if settings.dry_run:
        questions = [q for one in both for q in explainer.questions(one, tokenizer) if q]
        if settings.kind == TOKENS:
            return ["explainer tokens asks no language model: nothing to pay"]
        return estimate(questions, settings, index.folder, tokenizer)
    texts, twin, counts, name = _texts(explainer, both, tokenizer, settings, index)
    found = Explanations(
        explainer=settings.kind,
        by=name,
        drawn_by=by,
        settings=settings.kept(),
        texts={str(latent): text for latent, text in zip(latents, texts, strict=True)},
        twin={str(latent): text for latent, text in zip(latents, twin, strict=True)},
        failed=counts.failed,
        nonsense=counts.nonsense,
    )
    replaced = _replaced(index, found)
    path = write_explanations(index.folder, found)
    return [*lines(found, counts), *replaced, f"written: {path}"]


def _replaced(index: LatentIndex, found: Explanations) -> list[str]:
    """A line about explanations of other latents that are replaced; the kept answers stay."""
    try:
        before = read_explanations(index.folder, found.explainer)
    except (OSError, ValueError):
        return []
    gone = before.texts.keys() - found.texts.keys()
    if not gone:
        return []
    return [
        f"these replace explanations of {len(gone)} other latents; asked for together with them "
        "they are there again, and what was answered before is not asked again"
    ]


def _texts(
    explainer: Explainer,
    both: tuple[Samples, Samples],
    tokenizer: object,
    settings: ExplainSettings,
    index: LatentIndex,
) -> tuple[Sentences, Sentences, RequestCounts, str]:
    """(sentences of latents, sentences of twins, counts of requests, name of their author)."""
    if settings.kind == TOKENS:
        texts, twin = (explainer.texts(one, tokenizer, None) for one in both)
        return texts, twin, RequestCounts(), "token unigrams"
    with asker(settings, index.folder) as asking:
        texts, twin = (explainer.texts(one, tokenizer, asking) for one in both)
        return texts, twin, asking.counts, asking.name


def lines(found: Explanations, counts: RequestCounts) -> list[str]:
    """Lines to print about the explanations."""
    explained = sum(text is not None for text in found.texts.values())
    twins = sum(text is not None for text in found.twin.values())
    first = (
        f"{explained} of {len(found.texts)} latents explained by {found.by}, and {twins} of a "
        "random SAE beside them"
    )
    shown = [(latent, text) for latent, text in found.texts.items() if text is not None]
    rows = [f"{latent:>8}  {text}" for latent, text in shown[:10]]
    rows += [f"          … and {len(shown) - 10} more"] * (len(shown) > 10)
    return [first, *rows, *asked_lines(counts)]


def asked_lines(counts: RequestCounts) -> list[str]:
    """Lines to print about the requests."""
    if not counts.asked and not counts.kept:
        return []
    text = f"{counts.asked:,} requests answered now, {counts.kept:,} before"
    if counts.tokens_in:
        text += f"; {counts.tokens_in:,} tokens read and {counts.tokens_out:,} written"
    if not counts.nonsense:
        return [text]
    return [
        text,
        f"{counts.nonsense:,} answers were nonsense; {counts.failed:,} questions failed by it",
    ]
