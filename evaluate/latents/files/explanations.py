"""Explanations and scores in an index: one file per explainer and per scorer, and a page script.

Owns `explanations/*.json`, `scores/*.json`, and `data/explanations.js`, which is made from all of
them. The keys of latents are their numbers as text. Files that an older index left in the folder,
of another SAE or of other rows or tokens, are ignored.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ....foreign import Document, read_document
from ....store.place.files import json_bytes, write_file
from .manifest import Manifest, read_manifest
from .scripts import call

EXPLANATIONS, SCORES, SCRIPT = "explanations", "scores", "data/explanations.js"

_MOST_BYTES = 2**28

Latent = Annotated[str, Field(pattern=r"^\d{1,8}$")]
Text = Annotated[str, Field(max_length=4096)]
Name = Annotated[str, Field(max_length=200)]


class Explanations(Document):
    """One explainer's explanations of some latents, and of as many latents of a random SAE."""

    format: Literal["latent-explanations"] = "latent-explanations"
    version: Annotated[str, Field(pattern=r"^1\.\d{1,4}$")] = "1.0"
    explainer: Name
    by: Text
    """The language model, or the table, that wrote the explanations."""
    drawn_by: dict[str, Any]
    """Everything that decides which samples were shown; see `samples/samples_file`."""
    settings: dict[str, Any]
    """The run's settings."""
    texts: dict[Latent, Text | None]
    """By latent; None if the latent never fires, or if all answers were nonsense."""
    twin: dict[Latent, Text | None]
    """The same for the random SAE's latent that is paired with each."""
    failed: int = Field(ge=0)
    """Latents, of both SAEs, for which the language model gave only nonsense."""
    nonsense: int = Field(ge=0)
    """Answers that are no explanation."""


class Value(Document):
    """A figure and its 95% interval."""

    value: float | None
    interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None


class LatentScore(Document):
    """One latent's figures, by variant (own, shuffled, random, tokens), then metric."""

    text: Text | None = None
    """The explanation that was scored; None for token tables."""
    density: float
    """Share of rows in which it fires."""
    figures: dict[Name, dict[Name, Value]]
    failed: int = Field(ge=0)
    """Test contexts, over all variants, without a usable answer."""
    left_out: int = Field(default=0, ge=0)
    """Test contexts, over all variants, that no question could be made of."""


class Stratum(Document):
    """Means over the latents of a stratum of firing frequency, by variant, then metric."""

    name: Text
    n: int = Field(ge=0)
    """Latents that have a figure with their own explanation."""
    means: dict[Name, dict[Name, Value]]
    above: dict[Name, dict[Name, Value]]
    """Mean of own minus control, over latents that have both."""


class Scores(Document):
    """One scorer's scores of explanations, beside controls."""

    format: Literal["latent-scores"] = "latent-scores"
    version: Annotated[str, Field(pattern=r"^1\.\d{1,4}$")] = "1.0"
    scorer: Name
    metrics: Annotated[list[Name], Field(min_length=1)]
    """The main one first."""
    explainer: Name
    by: Text
    """The language model, or the table, that predicted."""
    drawn_by: dict[str, Any] = Field(default={})
    """The index's SAE, rows and tokens; see `origin`."""
    settings: dict[str, Any]
    latents: dict[Latent, LatentScore]
    strata: list[Stratum]
    """All latents first."""
    failed: int = Field(ge=0)
    """Test contexts without a usable answer."""
    left_out: int = Field(default=0, ge=0)
    """Test contexts that no question could be made of."""
    nonsense: int = Field(ge=0)
    """Answers that are not of the form asked for."""


def write_explanations(folder: Path, found: Explanations) -> Path:
    """Writes an explainer's file and the page's script; returns the file."""
    path = folder / EXPLANATIONS / f"{found.explainer}.json"
    write_file(path, json_bytes(found.model_dump(mode="json")))
    write_file(folder / SCRIPT, script(folder))
    return path


def write_scores(folder: Path, found: Scores) -> Path:
    """Writes a scorer's file, with the index it belongs to, and the page's script; returns the
    file."""
    found = found.model_copy(update={"drawn_by": origin(read_manifest(folder))})
    path = folder / SCORES / f"{found.scorer}.json"
    write_file(path, json_bytes(found.model_dump(mode="json")))
    write_file(folder / SCRIPT, script(folder))
    return path


def read_explanations(folder: Path, explainer: str) -> Explanations:
    """An explainer's file.

    Raises:
        OSError: there is no such file.
        ValueError: it is damaged.
    """
    path = folder / EXPLANATIONS / f"{explainer}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"explanations by {explainer} must be in {folder}, got none; run `scopeworks latents "
            f"explain {folder} --explainer {explainer}`"
        )
    return read_document(Explanations, _data(path), str(path))


def origin(manifest: Manifest) -> dict[str, str]:
    """The SAE, rows and tokens that explanations and scores of an index belong to."""
    return {
        "sae": manifest.sae.fingerprint,
        "store": manifest.store.key,
        "tokens": manifest.tokens.fingerprint,
    }


def read_all(
    folder: Path, manifest: Manifest | None = None
) -> tuple[list[Explanations], list[Scores]]:
    """All explanations and scores of an index, sorted by file name.

    A language model's explanations come first.

    Args:
        folder: the index's.
        manifest: of an index that is being made in it; by default that of the finished one.

    Raises:
        OSError: there is no finished index.
        ValueError: a file is damaged.
    """
    of = origin(manifest or read_manifest(folder))
    texts = [read_document(Explanations, _data(path), str(path)) for path in _files(folder, 0)]
    scores = [read_document(Scores, _data(path), str(path)) for path in _files(folder, 1)]
    texts = [one for one in texts if _is_of(one.drawn_by, of)]
    scores = [one for one in scores if _is_of(one.drawn_by, of)]
    return sorted(texts, key=lambda one: one.explainer != "llm"), scores


def _is_of(drawn_by: dict[str, Any], of: dict[str, str]) -> bool:
    return all(drawn_by.get(name) == value for name, value in of.items())


def script(folder: Path, manifest: Manifest | None = None) -> bytes:
    """The page's script: `scopeworks.explanations({latent: {text, by, scores}})`; arguments and
    errors as `read_all`."""
    found = shown_explanations(folder, manifest)
    return call("explanations", {str(latent): one for latent, one in found.items()})


def shown_explanations(folder: Path, manifest: Manifest | None = None) -> dict[int, dict[str, Any]]:
    """What pages show: latent -> `text`, `by`, and `scores` by scorer, in the latents' order.

    Scores of an explanation that is not the one shown are left out. Arguments and errors are those
    of `read_all`.
    """
    explanations, scores = read_all(folder, manifest)
    found: dict[str, dict[str, Any]] = {}
    for one in explanations:
        for latent, text in one.texts.items():
            if text is not None:
                found.setdefault(latent, {"text": text, "by": one.by, "scores": {}})
    for one in scores:
        for latent, score in one.latents.items():
            if latent in found and score.text in (None, found[latent]["text"]):
                found[latent]["scores"][one.scorer] = shown(score, one.metrics[0])
    return {int(latent): found[latent] for latent in sorted(found, key=int)}


def shown(score: LatentScore, metric: str) -> dict[str, Any]:
    """A latent's score as its page shows it."""
    figures = {
        variant: by_metric[metric]
        for variant, by_metric in score.figures.items()
        if metric in by_metric
    }
    own = figures.pop("own", Value(value=None))
    return {
        "value": _rounded(own.value),
        "interval": None if own.interval is None else [_rounded(v) for v in own.interval],
        "metric": metric,
        "controls": {name: {"value": _rounded(one.value)} for name, one in figures.items()},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _files(folder: Path, which: int) -> Iterator[Path]:
    """The files of explanations (0) or scores (1)."""
    paths = sorted((folder / (EXPLANATIONS, SCORES)[which]).glob("*.json"))
    yield from (path for path in paths if not path.name.startswith("."))  # the lock


def _data(path: Path) -> bytes:
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise ValueError(f"{path} must have at most {_MOST_BYTES:,} bytes, got {size:,}")
    return path.read_bytes()
