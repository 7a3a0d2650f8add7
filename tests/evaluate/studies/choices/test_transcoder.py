"""The transcoder study on SAEs whose frontiers are known."""

import pytest
from matplotlib.figure import Figure

from scopeworks.evaluate.studies.choices import transcoder
from scopeworks.evaluate.study.study import Documents, LackError

from ..documents import SCENE, evaluation, sae


def documents(*factors: float) -> Documents:
    """SAEs of Δ loss 1 / L0 at as many layers; transcoders of that times a factor each."""
    found = []
    for layer, factor in enumerate(factors):
        for l0 in (10.0, 40.0):
            found.append(sae(f"mlp_out.{layer}", l0=l0, delta_loss=1 / l0, fvu=2 / l0))
            other = sae(f"transcoder_in.{layer}", l0=l0, delta_loss=factor / l0, fvu=3 / l0)
            found.append(other | {"target_site": f"mlp_out.{layer}"})
    found.append(sae("resid_post.3"))
    return {"saes": [evaluation(*found)]}


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ((1.5, 1.6, 1.4, 1.5), "holds"),
        ((0.7, 0.6, 0.7, 0.65), "does not hold"),
        ((0.5, 2.0, 1.1, 0.9), "cannot be told"),
    ],
)
def test_the_ratio_over_layers_decides(factors: tuple[float, ...], verdict: str):
    points = transcoder.points(documents(*factors))
    reading = transcoder.read(points)
    assert reading.verdict == verdict
    ratios = reading.numbers["log_ratio_by_layer"]
    assert [pow(2.718281828, value) for value in ratios.values()] == pytest.approx(factors, 1e-4)
    assert "its FVU by +50.0% (+50.0 to +50.0)" in reading.sentence
    names = [plot.name for plot in transcoder.plots(points)]
    assert names == ["layer-0", "layer-1", "layer-2", "layer-3", "layers"]


def test_losses_that_fall_are_left_out_and_said():
    reading = transcoder.read(transcoder.points(documents(1.5, -0.1, 1.6)))
    assert "2 layers (higher at 2; 1 more could not be compared)" in reading.sentence


def test_saes_alone_are_refused_with_the_sweep_that_makes_the_others():
    alone = {"saes": [evaluation(sae("mlp_out.1"))]}
    with pytest.raises(
        LackError, match=r"got MLP SAE; make them: scopeworks sweep .*--target-site"
    ):
        transcoder.points(alone)
    with pytest.raises(LackError, match="got neither"):
        transcoder.points({"saes": [evaluation(sae())]})


def test_six_layers_from_the_first_to_the_last():
    (variant,) = transcoder.variants(SCENE)
    saes, transcoders = variant.sae
    assert saes["site"] == [f"mlp_out.{layer}" for layer in range(6)]
    assert transcoders["target_site"] == "mlp_out"
    assert saes["target_l0"] == transcoders["target_l0"] == [10, 25, 60]


def test_the_legend_is_below_the_axes():
    axes = Figure().add_subplot()
    transcoder.plots(transcoder.points(documents(1.5, 1.6)))[-1].draw(axes)
    assert axes.get_legend() is None and len(axes.figure.legends) == 1
