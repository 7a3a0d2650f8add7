"""The frontier study, on frontiers whose order is known."""

import dataclasses

import pytest

from scopeworks.evaluate.studies.figures import frontier
from scopeworks.evaluate.study.study import LackError
from scopeworks.tests.evaluate.studies.documents import SCENE, evaluation, sae

KINDS = ("attn_out", "mlp_out", "resid_post")


def documents(wider: float, later: float, jitter: float = 0.01) -> dict:
    """Frontiers whose Δ loss at an L0 changes by these factors with width and depth."""
    found = []
    for i, kind in enumerate(KINDS):
        for layer in (1, 3):
            for width in (512, 2048):
                level = 1 + i + jitter * ((i + layer + width) % 3)
                level *= wider ** (width == 2048) * later ** (layer == 3)
                for l0, sparsity in ((8.0 + i, 6e-3), (40.0 + layer, 3e-3)):
                    where, y = (f"{kind}.{layer}", width, l0), level / l0
                    one = sae(*where, delta_loss=y, fvu=y, sparsity=sparsity)
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
    ratio = reading.numbers["log_ratio_of_delta_loss"]["wider"]
    assert ratio[1] <= ratio[0] <= ratio[2]
    assert f"a wider SAE's Δ loss is {wider:.1f}" in reading.sentence


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
    assert "could be compared with a narrower one's nowhere" in reading.sentence


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
