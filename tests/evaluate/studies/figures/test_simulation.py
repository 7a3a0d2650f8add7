"""The simulation study, on correlations that are known."""

import numpy as np
import pytest

from scopeworks.evaluate.page.svg import picture
from scopeworks.evaluate.studies.figures import simulation
from scopeworks.evaluate.study.study import LackError
from scopeworks.tests.evaluate.studies.documents import SCENE, evaluation, sae


def document(site: str, own: float, random: float, n: int = 40, spread: float = 0.1) -> dict:
    """r of n latents around two means, and 0.05 with another latent's explanation."""
    noise = np.random.default_rng(0).normal(0, spread, (3, n))
    latents = [
        {
            "latent": 3 * k,
            "density": (k + 1) / 1000,
            "own": own + noise[0, k],
            "shuffled": 0.05 + noise[1, k],
            "random": random + noise[2, k],
        }
        for k in range(n)
    ]
    found = {"simulator": "token unigrams", "latents": latents, "fire_enough": 1024}
    return evaluation(sae(site), simulation=found)


@pytest.mark.parametrize(
    ("second", "n", "verdict"),
    [
        ((0.5, 0.2), 40, "holds"),
        ((0.2, 0.5), 40, "does not hold"),
        ((0.3, 0.3), 8, "cannot be told"),
    ],
)
def test_reading(second: tuple[float, float], n: int, verdict: str):
    documents = [document("resid_post.3", 0.6, 0.2), document("mlp_out.3", *second, n=n)]
    reading = simulation.read(simulation.points({"simulated": documents}))
    assert reading.verdict == verdict
    assert f"over {40 + n} latents, predicted by token unigrams: resid_post.3 0." in (
        reading.sentence
    )
    assert reading.sentence.endswith(" (of its latents 50% fire often enough).")
    value, low, high = reading.numbers["resid_post.3"]["own_minus_random"]
    assert value == pytest.approx(0.4, abs=0.06) and low < value < high


def test_difference_is_paired_by_latent():
    """Latents that differ much from one another, but little from their twins."""
    found = document("resid_post.3", 0.5, 0.5, spread=0.0)
    for k, one in enumerate(found["simulation"]["latents"]):
        one |= {"own": 0.02 * k, "random": 0.02 * k - 0.01 - 0.001 * (k % 2)}
    reading = simulation.read(simulation.points({"simulated": [found]}))
    assert reading.verdict == "holds"
    assert reading.numbers["resid_post.3"]["own_minus_random"][0] == pytest.approx(0.0105)


def test_latents_without_r_are_left_out():
    found = document("resid_post.3", 0.5, 0.2)
    for one in found["simulation"]["latents"][:5]:
        one["random"] = None
    points = simulation.points({"simulated": [found]})
    means = {p["of"]: p.n for p in points if p["metric"] == simulation.MEAN}
    assert means == {"own": 40, "shuffled": 40, "random": 35}
    assert len(points) == 1 + 3 + 40 + 40 + 35
    simulation.read(points)


def test_too_few_latents_are_refused():
    found = document("resid_post.3", 0.5, 0.2, n=1)
    with pytest.raises(LackError, match=r"two latents or more .*got 1 of resid_post\.3 \(own\)"):
        simulation.points({"simulated": [found]})


def test_figures_and_variant():
    points = simulation.points({"simulated": [document("resid_post.3", 0.5, 0.2)]})
    plots = simulation.plots(points)
    assert all(picture(plot.draw, "svg").startswith(b"<?xml") for plot in plots)
    assert [plot.name for plot in plots] == ["violin", "frequency"]
    assert "token unigrams (Figure 7)" in plots[0].caption
    (variant,) = simulation.variants(SCENE)
    (table,) = variant.sae
    assert table["site"] == ["attn_out.3", "mlp_out.3", "resid_post.3"]
    assert table["sparsity"] == SCENE.sparsity
