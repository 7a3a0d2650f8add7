"""The ratings study, on answers whose shares are known."""

import pytest

from scopeworks.evaluate.page.svg import picture
from scopeworks.evaluate.studies.figures import ratings
from scopeworks.evaluate.study.study import AbsentError

YES, MAYBE, NO = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
ALPHA = {"alpha": 0.6, "low": 0.5, "high": 0.7, "n": 40}


def rated(site: str, share: float, n: int, width: int = 512) -> dict:
    """An SAE of which this share of n latents is clear, the rarest ones first."""
    clear = round(share * n)
    said = [YES] * clear + [MAYBE if i % 2 else NO for i in range(n - clear)]
    return {
        "name": f"{site}-{width}-{share}",
        "site": site,
        "target_site": site,
        "d_sae": width,
        "l0": 20.0,
        "latents": [{"density": (i + 1) / 1000, "shares": one} for i, one in enumerate(said)],
    }


def documents(*saes: dict, agreement: dict = ALPHA) -> dict:
    found = {"saes": list(saes), "raters": 2, "agreement": agreement}
    return {"ratings": [{"model": {"name": "tiny"}, "saes": [], "ratings": found}]}


@pytest.mark.parametrize(
    ("shares", "n", "verdict"),
    [
        ((0.5, 0.5, 0.52), 400, "holds"),
        ((0.5, 0.9, 0.5), 100, "does not hold"),
        ((0.5, 0.5, 0.6), 30, "cannot be told"),
        ((0.5, 0.65, 0.5), 200, "cannot be told"),  # differ, but how much is not known
    ],
)
def test_reading(shares: tuple[float, ...], n: int, verdict: str):
    saes = [rated(f"resid_post.{k}", share, n) for k, share in enumerate(shares)]
    reading = ratings.read(ratings.points(documents(*saes)))
    assert reading.verdict == verdict
    assert "Agreement of raters: Krippendorff's alpha 0.6 [0.5, 0.7] on 40 latents." in (
        reading.sentence
    )
    assert f"resid_post.1: {100 * shares[1]:.0f}% (" in reading.sentence


def test_points_hold_every_share_with_its_interval():
    found = ratings.points(documents(rated("mlp_out.1", 0.4, 30), rated("mlp_out.2", 0.8, 30)))
    first = [p for p in found if p["site"] == "mlp_out.1"]
    assert [p.value for p in first[:3]] == pytest.approx([0.4, 0.3, 0.3])
    for p in first[:3]:
        assert p.low is not None and p.value is not None and p.high is not None
        assert p.low < p.value < p.high and p.n == 30
    by_third = {p["frequency"]: p.value for p in first[3:]}
    assert by_third == pytest.approx(
        {"rarest third": 1.0, "middle third": 0.2, "most frequent third": 0.0}
    )
    assert found[-1]["metric"] == ratings.ALPHA and found[-1].n == 40


def test_many_raters_of_a_latent_are_one_latent():
    """Halves, thirds and tenths of answers: the interval is that of as many latents."""
    mixed = rated("mlp_out.1", 0.5, 40)
    for one in mixed["latents"]:
        one["shares"] = [0.5, 0.3, 0.2]
    found = ratings.points(documents(mixed, rated("mlp_out.2", 0.5, 40)))
    both = [p for p in found if p["metric"] == "YES" and p["frequency"] == ratings.ALL]
    assert (both[0].low, both[0].high) == pytest.approx((both[1].low, both[1].high))


def test_saes_of_one_site_are_told_apart():
    wide, narrow = rated("mlp_out.1", 0.5, 30, 2048), rated("mlp_out.1", 0.6, 30)
    reading = ratings.read(ratings.points(documents(wide, narrow)))
    assert list(reading.numbers["yes"]) == ["mlp_out.1, width 2,048", "mlp_out.1, width 512"]
    same = ratings.read(ratings.points(documents(narrow, rated("mlp_out.1", 0.5, 30))))
    assert list(same.numbers["yes"]) == ["mlp_out.1-512-0.6", "mlp_out.1-512-0.5"]


def test_one_rated_sae_is_too_few():
    with pytest.raises(AbsentError, match="ratings of two SAEs or more, got those of 1; rate more"):
        ratings.points(documents(rated("mlp_out.1", 0.5, 30), rated("mlp_out.2", 0.5, 0)))


def test_agreement_that_is_not_defined_is_said():
    nothing = {"alpha": None, "low": None, "high": None, "n": 0}
    saes = [rated("mlp_out.1", 0.5, 30), rated("mlp_out.2", 0.5, 30)]
    reading = ratings.read(ratings.points(documents(*saes, agreement=nothing)))
    assert "Agreement of raters: cannot be told" in reading.sentence
    assert reading.numbers["alpha"] is None


def test_figures_are_drawn():
    points = ratings.points(documents(rated("mlp_out.1", 1.0, 30), rated("mlp_out.2", 0.0, 2)))
    plots = ratings.plots(points)
    assert all(picture(plot.draw, "svg").startswith(b"<?xml") for plot in plots)
    assert [plot.name for plot in plots] == ["shares", "frequency"]
    assert "(Figure 6)" in plots[0].caption
