"""Means by stratum, and the table that a person reads."""

import pytest

from scopeworks.evaluate.latents.files.explanations import LatentScore, Scores, Value
from scopeworks.evaluate.latents.score.summary import strata, table


def latent(density: float, **values: float | None) -> LatentScore:
    figures = {name: {"r": Value(value=value)} for name, value in values.items()}
    return LatentScore(density=density, figures=figures, failed=0)


def scored(latents: dict[str, LatentScore], failed: int = 0, left_out: int = 0) -> Scores:
    return Scores(
        scorer="simulation",
        metrics=["r"],
        explainer="llm",
        by="m",
        settings={},
        latents=latents,
        strata=strata(latents, ["r"]),
        failed=failed,
        left_out=left_out,
        nonsense=0,
    )


def test_strata_are_by_density_and_differences_are_of_pairs():
    found = strata(
        {
            "1": latent(0.5, own=0.75, shuffled=0.25),
            "2": latent(0.1, own=0.5, shuffled=None),
            "3": latent(0.01, own=None, shuffled=0.5),
            "4": latent(0.00001),
        },
        ["r"],
    )
    assert [(one.name, one.n) for one in found] == [
        ("all", 2),
        ("≥ 10%", 2),
        ("1–10%", 0),
        ("< 0.01%", 0),
    ]
    assert found[0].means["own"]["r"].value == pytest.approx(0.625)
    assert found[0].means["shuffled"]["r"].value == pytest.approx(0.375)
    assert found[0].above["shuffled"]["r"].value == pytest.approx(0.5)
    assert found[3].means["own"]["r"].value is None


def test_sixteen_latents_have_an_interval():
    latents = {str(i): latent(0.05, own=0.5 + i / 100, shuffled=0.5) for i in range(16)}
    lines = list(table(scored(latents)))
    low, high = strata(latents, ["r"])[0].means["own"]["r"].interval or (0, 0)
    # t(0.975, 15) = 2.1314; the standard deviation of 0 … 15 is 4.7610.
    assert (high - low) / 2 == pytest.approx(2.1314 * 0.047610 / 4, rel=1e-4)
    assert lines[2].split() == [
        *["all", "16", "0.575", "±0.025", "0.500", "±0.000", "0.075", "±0.025", "shuffled"]
    ]


def test_what_has_no_score_or_failed_is_said():
    latents = {"1": latent(0.5, own=0.5), "2": latent(0.1)}
    lines = list(table(scored(latents, failed=7, left_out=3)))
    assert lines[-3].startswith("1 latents have no score: ")
    assert lines[-2] == "7 test contexts could not be judged: their answers were nonsense"
    assert lines[-1].startswith("3 test contexts were left out: ")
