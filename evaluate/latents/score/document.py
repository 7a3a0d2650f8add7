"""Scores in indexes, as the study of simulation reads them.

Owns the choice: a language model's simulation if an index has one, otherwise token unigrams'.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files.explanations import LatentScore, Scores, read_all
from ..files.manifest import read_manifest
from .controls import OWN, RANDOM, SHUFFLED
from .scorers.table import TOKENS

_SIMULATION, _R = "simulation", "r"


def documents(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """One document for each index, about its SAE.

    Raises:
        OSError: an index is unfinished or has no scores of simulation.
        ValueError: an index is damaged, or two have been scored in different ways.
    """
    found = [(folder, _scores(folder)) for folder in folders]
    ways = dict.fromkeys(_simulator(one) for _, one in found)
    if len(ways) > 1:
        raise ValueError(
            f"indexes must have been scored alike, got {'; '.join(ways)}; run `scopeworks latents "
            "score` on all of them with the same explainer and language model"
        )
    return [_document(folder, one) for folder, one in found]


def _scores(folder: Path) -> Scores:
    """An index's scores of simulation."""
    read_manifest(folder)
    _, every = read_all(folder)
    by_scorer = {one.scorer: one for one in every if _R in one.metrics}
    for name in (_SIMULATION, TOKENS):
        if name in by_scorer:
            return by_scorer[name]
    raise FileNotFoundError(
        f"index {folder} must have scores of simulation, got none; run `scopeworks latents "
        f"explain {folder}`, then `scopeworks latents score {folder}`"
    )


def _simulator(scores: Scores) -> str:
    """What predicted, and from whose explanations, in words."""
    if scores.scorer == TOKENS:
        return scores.by
    return f"{scores.by} from explanations by {scores.explainer}"


def _document(folder: Path, scores: Scores) -> dict[str, Any]:
    """One index, as an evaluation of its SAE with `simulation` beside it."""
    manifest = read_manifest(folder)
    sae = manifest.sae
    entry = sae.model_dump(include={"name", "site", "d_sae", "l0"})
    latents = [
        {"latent": int(latent), "density": one.density}
        | {kind: _r(one, kind) for kind in (OWN, SHUFFLED, RANDOM)}
        for latent, one in sorted(scores.latents.items(), key=lambda item: int(item[0]))
    ]
    return {
        "model": {"name": manifest.model},
        "text": f"{manifest.rows:,} cached rows",
        "saes": [entry | {"target_site": sae.target_site or sae.site}],
        "simulation": {
            "simulator": _simulator(scores),
            "latents": latents,
            "fire_enough": None,
        },
    }


def _r(score: LatentScore, kind: str) -> float | None:
    """Pearson's r of a latent, or of one of its controls."""
    figure = score.figures.get(kind, {}).get(_R)
    return None if figure is None else figure.value
