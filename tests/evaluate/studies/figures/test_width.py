"""The width study, on frontiers whose slope is known."""

import math

import pytest
from matplotlib.figure import Figure

from scopeworks.evaluate.studies.figures import width
from scopeworks.evaluate.study.study import LackError
from scopeworks.tests.evaluate.studies.documents import SCENE, evaluation, sae


def documents(doubling: float, noise: float = 0.0, seeds: tuple[int, ...] = (0, 1, 2)) -> dict:
    """Frontiers whose Δ loss changes by a factor with each doubling of the width."""
    saes = [
        sae(width=w, l0=l0 + i, delta_loss=level / (l0 + i), seed=seed, sparsity=0.01 / l0)
        for seed in seeds
        for i, w in enumerate((256, 512, 1024))
        for level in [doubling ** (i * (1 + noise * (seed - 1)))]
        for l0 in (10.0, 40.0)
    ]
    return {"widths": [evaluation(one) for one in saes]}


@pytest.mark.parametrize(
    ("doubling", "noise", "verdict"),
    [(0.8, 0.1, "holds"), (1.2, 0.1, "does not hold"), (0.8, 3.0, "cannot be told")],
)
def test_reading_over_seeds(doubling, noise, verdict):
    reading = width.read(width.points(documents(doubling, noise)))
    assert reading.verdict == verdict
    slope = reading.numbers["slope_of_log_delta_loss_a_doubling"]
    assert slope[0] == pytest.approx(math.log(doubling), rel=1e-4)
    assert f"changes Δ loss by {100 * (doubling - 1):+.1f}%" in reading.sentence


@pytest.mark.parametrize(
    ("doubling", "verdict"), [(0.8, "holds"), (1.3, "does not hold"), (1.0, "cannot be told")]
)
def test_one_seed_is_read_by_its_sequences(doubling, verdict):
    reading = width.read(width.points(documents(doubling, seeds=(0,))))
    assert reading.verdict == verdict and "(1 seed)" in reading.sentence


def crossing(seed: int, width: int) -> list[dict]:
    """Frontiers that cross: the wider, the steeper."""
    steep = 1 + 0.1 * math.log2(width / 256)
    return [
        sae(width=width, l0=l0, delta_loss=(30 / l0) ** (1 / steep) / 9, seed=seed)
        for l0 in (5.0, 40.0)
    ]


def test_frontiers_that_cross_are_read_over_their_l0s_and_the_turn_is_said():
    saes = [one for seed in (0, 1) for width in (256, 1024) for one in crossing(seed, width)]
    reading = width.read(width.points({"a": [evaluation(*saes)]}))
    slopes = [mean for mean, *_ in reading.numbers["slope_by_l0"].values()]
    assert slopes[0] < 0 < slopes[-1] and slopes == sorted(slopes)
    mean = reading.numbers["slope_of_log_delta_loss_a_doubling"][0]
    assert mean == pytest.approx(sum(slopes) / 5, rel=1e-4)
    assert "; the sign turns at the densest of them; " in reading.sentence
    assert "at L0 5, " in reading.sentence and "at L0 40; " in reading.sentence
    assert reading.numbers["l0"] == [5, 40]


def test_the_ends_are_named_of_the_seed_that_has_both():
    found = documents(0.8, seeds=(0, 1))["widths"]
    found = [d for d in found if d["saes"][0]["d_sae"] == 256 or d["saes"][0]["name"][-1] == "1"]
    points = width.points({"widths": found})
    sentence = width.read(points).sentence
    assert "(1 seed)" in sentence and "from width 256 to 1,024 it changes by -0.018" in sentence
    drawn = Figure().add_subplot()
    width.plots(points)[0].draw(drawn)
    assert drawn.get_legend_handles_labels()[1] == ["width 256", "width 512", "width 1,024"]


def test_one_sae_of_a_width_is_compared_at_its_own_l0():
    saes = [sae(width=256, l0=20.0, delta_loss=0.1)]
    saes += [sae(width=512, l0=l0, delta_loss=1 / l0) for l0 in (10.0, 40.0)]
    reading = width.read(width.points({"a": [evaluation(*saes)]}))
    assert reading.verdict == "holds" and "by -50.0% over L0s" in reading.sentence


def test_a_splice_that_helps_leaves_its_seed_out():
    found = documents(0.8)["widths"]
    found[0]["saes"][0]["delta_loss"] = -0.1
    sentence = width.read(width.points({"widths": found})).sentence
    assert "(2 seeds, 1 left out for a value that is not above 0)" in sentence


def test_frontiers_without_a_common_l0_cannot_be_told():
    saes = [sae(width=w, l0=l0) for w, l0 in ((256, 10.0), (512, 50.0))]
    reading = width.read(width.points({"a": [evaluation(*saes)]}))
    assert reading.verdict == "cannot be told" and "no L0 in common" in reading.sentence


def test_one_width_names_the_sweep():
    with pytest.raises(LackError, match=r"got only width 2048; make them: scopeworks sweep .*4096"):
        width.points({"a": [evaluation(sae())]})


def test_variants_are_ladders_of_three_seeds_and_plots_of_the_first():
    (variant,) = width.variants(SCENE)
    assert variant.sae[0]["width"] == [256, 512, 1024, 2048]
    assert variant.sae[0]["seed"] == [0, 1, 2] and variant.sae[0]["site"] == "resid_post.3"
    plots = width.plots(width.points(documents(0.8)))
    assert [plot.name for plot in plots] == ["delta_loss", "fvu"]
