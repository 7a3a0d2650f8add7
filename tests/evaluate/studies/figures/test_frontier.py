"""The frontier study, on frontiers whose order is known."""

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure

from scopeworks.evaluate.studies.figures import frontier
from scopeworks.evaluate.study.study import LackError
from scopeworks.tests.evaluate.studies.documents import SCENE, evaluation, sae

KINDS = ("attn_out", "mlp_out", "resid_post")


def documents(wider: float, later: float, fvu: float = 1.0) -> dict:
    """Frontiers whose Δ loss at an L0 changes by these factors with width and depth, their FVU with
    depth by `fvu` times as much."""
    found = []
    for i, kind in enumerate(KINDS):
        for layer in (1, 3):
            for width in (512, 2048):
                level = 1 + i + 0.01 * ((i + layer + width) % 3)
                level *= wider ** (width == 2048) * later ** (layer == 3)
                for l0, sparsity in ((8.0 + i, 6e-3), (40.0 + layer, 3e-3)):
                    where, y = (f"{kind}.{layer}", width, l0), level / l0
                    one = sae(*where, delta_loss=y, fvu=y * fvu ** (layer == 3), sparsity=sparsity)
                    found.append(evaluation(one))
    return {"frontier": found}


@pytest.mark.parametrize(
    ("wider", "later", "verdict"),
    [
        (0.7, 0.8, "holds"),
        (1.3, 0.8, "does not hold"),
        (0.7, 1.5, "does not hold"),
        (0.7, 1.0, "cannot be told"),
    ],
)
def test_reading(wider, later, verdict):
    points = frontier.points(documents(wider, later))
    reading = frontier.read(points)
    assert reading.verdict == verdict
    ratio = reading.numbers["log_ratio_of_delta_loss"]["wider"]["mean"]
    assert ratio[1] <= ratio[0] <= ratio[2]
    assert f"a wider SAE's Δ loss is {wider:.1f}" in reading.sentence


def test_fvu_must_say_the_same():
    reading = frontier.read(frontier.points(documents(0.7, 0.8, fvu=2.0)))
    assert reading.verdict == "does not hold"
    loss, fvu = (
        reading.numbers[f"log_ratio_of_{m}"]["later"]["mean"] for m in ("delta_loss", "fvu")
    )
    assert loss[2] < 0 < fvu[1]
    assert "3 kinds of sites: lower), its FVU is 1.6" in reading.sentence
    assert "3 kinds of sites: higher)" in reading.sentence


def test_seeds_are_no_prices_and_are_compared_one_by_one():
    saes = [
        sae(width=width, l0=l0, delta_loss=level / l0, fvu=level / l0, seed=seed)
        for width in (256, 512)
        for seed, level in ((0, width), (1, 9 * width))
        for l0 in (10.0 + seed, 40.0)
    ]
    points = frontier.points({"saes": [evaluation(*saes)]})
    wider = frontier.read(points).numbers["log_ratio_of_delta_loss"]["wider"]
    assert wider["mean"][0] == pytest.approx(0.693147) == wider["densest"][0]
    axes = Figure().add_subplot()
    frontier.plots(points)[1].draw(axes)
    assert axes.get_legend_handles_labels()[1] == ["layer 3, width 256", "layer 3, width 512"]
    assert np.size(axes.get_lines()[0].get_xdata()) == 2
    alone = [one for one in saes if one["l0"] == 40.0]
    with pytest.raises(LackError, match="two λs or more at one site, width and seed"):
        frontier.points({"saes": [evaluation(*alone)]})


def test_sites_that_cannot_be_compared_are_counted():
    found = documents(0.7, 0.8)
    found["frontier"][0]["saes"][0]["delta_loss"] = -0.1
    reading = frontier.read(frontier.points(found))
    assert "(5 sites, 1 left out for a value that is not above 0: lower)" in reading.sentence
    left_out = reading.numbers["log_ratio_of_delta_loss"]["wider"]["left_out"]
    assert left_out == {"a value that is not above 0": 1}


def test_captions_name_their_figures():
    captions = [plot.caption for plot in frontier.plots(frontier.points(documents(0.7, 0.8)))]
    assert "(Figures 2, 17, 18)" in captions[0] and "(Figures 13, 14)" in captions[4]


def test_points_are_two_for_each_sae_with_their_intervals():
    points = frontier.points(documents(0.7, 0.8))
    assert len(points) == 2 * 24
    first = points[0]
    assert (first["metric"], first["site"], first["width"]) == ("delta_loss", "attn_out.1", 512)
    assert first.value is not None and first.low == pytest.approx(first.value - 0.001)
    assert first.n == 128


def test_two_saes_at_one_place_are_read_as_far_as_they_go():
    saes = [sae(l0=l0, delta_loss=1 / l0, half=None) for l0 in (10.0, 20.0)]
    reading = frontier.read(frontier.points({"saes": [evaluation(*saes)]}))
    assert reading.verdict == "cannot be told"
    nowhere = "a wider SAE's frontiers could be compared with a narrower one's nowhere; "
    assert nowhere in reading.sentence


def test_without_two_prices_the_sweep_is_named():
    with pytest.raises(LackError, match=r"scopeworks sweep .*--site resid_post.3 --width 2048"):
        frontier.points({"saes": [evaluation(sae())]})


def test_variants_are_two_depths_and_two_widths_at_the_suites_prices():
    (variant,) = frontier.variants(SCENE)
    (table,) = variant.sae
    assert table["site"] == [f"{kind}.{layer}" for layer in (1, 3) for kind in KINDS]
    assert table["width"] == [512, 2048] and table["sparsity"] == [1.5e-3, 3e-3, 6e-3, 1.2e-2]
    (more,) = frontier.variants(dataclasses.replace(SCENE, full=True, widths=(1024, 4096)))
    assert len(more.sae[0]["site"]) == 9 and more.sae[0]["width"] == [1024, 4096]


def test_plots_are_of_every_kind_by_both_metrics():
    names = [plot.name for plot in frontier.plots(frontier.points(documents(0.7, 0.8)))]
    assert names == [
        f"{metric}-{what}" for metric in ("delta_loss", "fvu") for what in ("sites", *KINDS)
    ]
