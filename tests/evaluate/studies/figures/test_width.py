"""The width study, on frontiers whose slope is known."""

import math

import pytest

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
    assert reading.verdict == verdict and "1 seed;" in reading.sentence


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
