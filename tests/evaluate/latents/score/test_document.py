"""Scores in indexes, as the study of simulation reads them."""

from pathlib import Path
from typing import Any

import pytest

from scopeworks.evaluate.latents.files.explanations import (
    LatentScore,
    Scores,
    Value,
    write_scores,
)
from scopeworks.evaluate.latents.score.document import documents
from scopeworks.evaluate.studies.figures import simulation
from scopeworks.tests.evaluate.latents import made_contents as made


def scored(folder: Path, scorer: str = "simulation", by: str = "a-model", **facts: Any) -> Path:
    """An index with scores of a scorer: r of 5 latents, one of which has none."""
    if not (folder / "index.json").is_file():
        made.write(folder, **facts)
    metric = "balanced_accuracy" if scorer == "detection" else "r"
    means = {"own": 0.6, "shuffled": 0.1, "random": 0.3}
    latents = {
        str(7 * k): LatentScore(
            density=0.01 * k,
            figures={
                kind: {metric: Value(value=None if k == 4 else mean + 0.01 * k)}
                for kind, mean in means.items()
            },
            failed=0,
        )
        for k in range(5)
    }
    found = Scores(
        scorer=scorer, metrics=[metric], explainer="llm", by=by, settings={}, latents=latents,
        strata=[], failed=0, nonsense=0,
    )  # fmt: skip
    write_scores(folder, found)
    return folder


def test_indexes_are_read_as_the_study_takes_them(tmp_path: Path):
    first = scored(tmp_path / "a", site="resid_post.3", name="first", fingerprint="a" * 16)
    second = scored(tmp_path / "b", site="mlp_out.1", name="second", fingerprint="b" * 16)
    found = simulation.points({"scored": documents([first, second])})
    means = {(p["sae"], p["of"]): p.value for p in found if p["metric"] == simulation.MEAN}
    assert means["resid_post.3", "own"] == pytest.approx(0.615)
    assert means["mlp_out.1", "random"] == pytest.approx(0.315)
    reading = simulation.read(found)
    assert reading.verdict == "holds"
    assert "over 8 latents, predicted by a-model from explanations by llm: " in reading.sentence
    assert "fire often enough" not in reading.sentence
    assert {p["latent"] for p in found} == {None, 0, 7, 14, 21}


def test_a_language_models_scores_are_taken_before_unigrams(tmp_path: Path):
    folder = scored(tmp_path, "tokens", "token unigrams")
    scored(folder, "detection", "other")
    assert documents([folder])[0]["simulation"]["simulator"] == "token unigrams"
    scored(folder)
    assert documents([folder])[0]["simulation"]["simulator"].startswith("a-model from")


def test_what_cannot_be_compared_is_refused(tmp_path: Path):
    mine, other = scored(tmp_path / "a"), scored(tmp_path / "b", by="b-model")
    with pytest.raises(
        ValueError, match=r"must have been scored alike, got a-model from .*; b-mod"
    ):
        documents([mine, other])
    made.write(tmp_path / "c")
    with pytest.raises(FileNotFoundError, match="must have scores of simulation, got none; run"):
        documents([tmp_path / "c"])
    with pytest.raises(FileNotFoundError, match="must be finished"):
        (tmp_path / "d").mkdir()
        documents([tmp_path / "d"])
