"""The frequency study, on histograms whose means are known."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from scopeworks.evaluate.studies.figures import frequency
from scopeworks.evaluate.study.study import LackError
from scopeworks.tests.evaluate.studies.documents import SCENE, evaluation, sae

EDGES = [-4.0, -3.0, -2.0, -1.0, 0.0]


def one(width: int, counts: list[int], dense: int = 2, site: str = "resid_post.3", **more) -> dict:
    """The evaluation of an SAE with this histogram."""
    firing = {"n_tokens": 1000, "log10_edges": EDGES, "histogram": counts}
    return evaluation(sae(site, width, firing=firing | {"n_above_10_percent": dense}, **more))


def documents(narrow: list[int], wide: list[int], dense: int = 2) -> dict:
    """Two widths with these histograms."""
    return {"counted": [one(100, narrow, dense), one(200, wide, dense)]}


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


LOW, HIGH = [0, 90, 10, 0], [0, 0, 10, 90]


def test_sites_and_prices_are_not_mixed_whatever_their_order():
    saes = [
        one(100, HIGH, sparsity=1e-3),
        one(400, LOW, sparsity=2e-3),
        one(100, LOW, sparsity=2e-3, seed=1),
        one(100, HIGH, sparsity=2e-3),
        one(200, HIGH, site="mlp_out.3", sparsity=2e-3),
        one(800, HIGH, site="mlp_out.3", sparsity=1e-3),
    ]
    for order in (saes, saes[::-1]):
        points = frequency.points({"saes": order})
        reading = frequency.read(points)
        assert reading.sentence.startswith("resid_post.3, λ 0.002: from width 100 to 400 ")
        assert reading.numbers["mean_log10_frequency"]["100"][0] == pytest.approx(-0.6)
        (plot,) = frequency.plots(points)
        axes = Figure().add_subplot()
        plot.draw(axes)
        assert axes.get_legend_handles_labels()[1] == ["width 100", "width 400"]
        assert "resid_post.3, λ 0.002 (Figure 5)" in plot.caption


def test_two_sequences_give_no_verdict():
    for dense in (0, 2):
        found = documents([0, 10, 80, 10], [10, 150, 40, 0], dense)["counted"]
        few = {"counted": [document | {"tokens": {"n_sequences": 2}} for document in found]}
        assert frequency.read(frequency.points(few)).verdict == "cannot be told"


def test_two_widths_at_different_prices_are_refused():
    saes = [one(100, HIGH, sparsity=1e-3), one(400, LOW, sparsity=2e-3)]
    with pytest.raises(
        LackError, match=r"one site and λ.* --width 100 --width 400 --sparsity 0.001"
    ):
        frequency.points({"saes": saes})


def test_curves_end_where_their_latents_do():
    (plot,) = frequency.plots(frequency.points(documents([90, 10, 0, 0], [0, 0, 10, 190])))
    axes = Figure().add_subplot()
    plot.draw(axes)
    assert [np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()] == [
        [-3.5, -2.5, -1.5],
        [-2.5, -1.5, -0.5],
    ]


def test_more_sequences_are_counted_than_evaluated():
    import dataclasses

    (variant,) = frequency.variants(SCENE)
    assert variant.evaluate == {"firing_sequences": 8 * 128}
    (variant,) = frequency.variants(dataclasses.replace(SCENE, full=True))
    assert variant.evaluate == {"firing_sequences": 20_000}
