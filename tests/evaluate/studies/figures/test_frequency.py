"""The frequency study, on histograms whose means are known."""

import pytest

from scopeworks.evaluate.studies.figures import frequency
from scopeworks.evaluate.study.study import LackError
from scopeworks.tests.evaluate.studies.documents import SCENE, evaluation, sae

EDGES = [-4.0, -3.0, -2.0, -1.0, 0.0]


def documents(narrow: list[int], wide: list[int], dense: int = 2) -> dict:
    """Two widths with these histograms."""
    saes = [
        sae(
            width=w,
            firing={
                "n_tokens": 1000,
                "log10_edges": EDGES,
                "histogram": counts,
                "n_above_10_percent": dense,
            },
        )
        for w, counts in ((100, narrow), (200, wide))
    ]
    return {"counted": [evaluation(one) for one in saes]}


@pytest.mark.parametrize(
    ("narrow", "wide", "dense", "verdict"),
    [
        ([0, 10, 80, 10], [10, 150, 40, 0], 2, "holds"),
        ([10, 80, 10, 0], [0, 10, 150, 40], 2, "does not hold"),
        ([0, 10, 80, 10], [10, 150, 40, 0], 0, "does not hold"),
        ([0, 50, 50, 0], [0, 101, 99, 0], 2, "cannot be told"),
    ],
)
def test_reading(narrow, wide, dense, verdict):
    reading = frequency.read(frequency.points(documents(narrow, wide, dense)))
    assert reading.verdict == verdict
    assert f"{dense} of 100, {dense} of 200 latents" in reading.sentence


def test_means_and_shares_are_those_of_the_latents():
    points = frequency.points(documents([0, 0, 100, 0], [0, 0, 200, 0]))
    means = [p for p in points if p["metric"] == frequency.MEAN]
    assert [(p.value, p.low, p.n) for p in means] == [(-1.5, -1.5, 100), (-1.5, -1.5, 200)]
    dense = next(p for p in points if p["metric"] == frequency.DENSE)
    assert dense.value == 0.02 and dense.low is not None and dense.high is not None
    assert 0.002 < dense.low < 0.02 < dense.high < 0.08


def test_one_width_names_the_sweep():
    found = documents([0, 0, 1, 0], [0, 0, 1, 0])
    found["counted"] = found["counted"][:1]
    with pytest.raises(LackError, match="got only width 100; make them: scopeworks sweep"):
        frequency.points(found)


def test_more_sequences_are_counted_than_evaluated():
    import dataclasses

    (variant,) = frequency.variants(SCENE)
    assert variant.evaluate == {"firing_sequences": 8 * 128}
    (variant,) = frequency.variants(dataclasses.replace(SCENE, full=True))
    assert variant.evaluate == {"firing_sequences": 20_000}
