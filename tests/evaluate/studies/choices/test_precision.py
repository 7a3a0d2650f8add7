"""The precision study on SAEs whose differences are known."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from scopeworks.evaluate.studies.choices import precision
from scopeworks.evaluate.study.study import Documents, LackError

from ..documents import SCENE, evaluation, sae


def documents(*changes: float) -> Documents:
    """SAEs of several λs; in bfloat16 their Δ losses and FVUs differ by so much."""
    wide = [sae(l0=10.0 * (i + 1), sparsity=1e-3 * (i + 1)) for i in range(len(changes))]
    narrow = [
        entry | {"delta_loss": 0.1 * (1 + change), "fvu": 0.2 * (1 + change)}
        for entry, change in zip(wide, changes, strict=True)
    ]
    return {
        "float32": [evaluation(entry) for entry in wide],
        "bfloat16": [evaluation(entry) for entry in narrow],
    }


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ((0.001, 0.002, 0.0, 0.001), "holds"),
        ((0.03, 0.031, 0.03, 0.032), "does not hold"),
        ((0.03, -0.02, 0.01, 0.0), "cannot be told"),
    ],
)
def test_the_interval_against_the_margin_decides(changes: tuple[float, ...], verdict: str):
    points = precision.points(documents(*changes))
    reading = precision.read(points)
    assert reading.verdict == verdict
    mean = reading.numbers["change"]["delta_loss"][0]
    assert mean == pytest.approx(sum(changes) / 4, abs=5e-4)
    assert reading.numbers["change"]["l0"] == [0, 0, 0]
    assert "over 4 SAEs" in reading.sentence
    assert len(precision.plots(points)) == 1


def test_a_single_sae_is_refused():
    with pytest.raises(LackError, match=r"two SAEs or more, got 1.*scopeworks sweep"):
        precision.points(documents(0.0))


def test_the_same_sequences_are_read_twice():
    wide, narrow = precision.variants(SCENE)
    assert wide.evaluate == {"dtype": "float32", "sae_dtype": "float32", "n_sequences": 64}
    assert narrow.evaluate == {"dtype": "bfloat16", "sae_dtype": "bfloat16", "n_sequences": 64}
    assert not wide.sae and precision.STUDY.for_saes is not None
    assert precision.STUDY.for_saes(True)["float32"] == {"dtype": "float32", "sae_dtype": "float32"}


def test_each_site_and_width_is_a_curve_of_its_own():
    slots = [(f"resid_post.{layer}", width) for layer in range(2) for width in (16, 32)]
    saes = [
        sae(site, width, l0=l0, sparsity=1 / l0) for site, width in slots for l0 in (10.0, 20.0)
    ]
    points = precision.points({name: [evaluation(*saes)] for name in precision.TYPES})
    (plot,) = precision.plots(points)
    figure = Figure()
    plot.draw(axes := figure.add_subplot())
    _, labels = axes.get_legend_handles_labels()
    assert labels[:2] == [f"{name}, resid_post.0, width 16" for name in precision.TYPES]
    assert len(labels) == 2 * precision.MOST_PAIRS and "3 of 4 sites and widths" in plot.caption
    lines = [line for line in axes.get_lines() if len(np.asarray(line.get_xdata())) > 1]
    drawn = [list(np.asarray(line.get_xdata())) for line in lines]
    assert drawn.count([10.0, 20.0]) >= 6 and all(sorted(set(x)) == [10.0, 20.0] for x in drawn)
