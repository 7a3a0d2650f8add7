"""The importance study, on means whose order is known."""

import pytest

from scopeworks.evaluate.studies.figures import importance
from scopeworks.evaluate.study.study import LackError
from scopeworks.tests.evaluate.studies.documents import SCENE, evaluation, sae


def documents(sparse: float, dense: float, error: float | None = 0.01) -> dict:
    """Two SAEs a site with these means of r_L0."""
    saes = [
        sae(
            f"{kind}.3",
            l0=l0,
            importance={
                "n_tokens": 50,
                "r_l0": mean,
                "r_l0_stderr": error,
                "r_l0_histogram": [10, 40],
            },
        )
        for kind in ("attn_out", "mlp_out")
        for l0, mean in ((10.0, sparse), (40.0, dense))
    ]
    return {"attributed": [evaluation(one) for one in saes]}


@pytest.mark.parametrize(
    ("sparse", "dense", "error", "verdict"),
    [
        (0.8, 0.5, 0.01, "holds"),
        (0.5, 0.8, 0.01, "does not hold"),
        (0.8, 0.5, 0.2, "cannot be told"),
        (0.8, 0.5, None, "cannot be told"),
    ],
)
def test_reading(sparse, dense, error, verdict):
    reading = importance.read(importance.points(documents(sparse, dense, error)))
    assert reading.verdict == verdict
    assert reading.numbers["mlp_out.3"]["densest_minus_sparsest"][0] == pytest.approx(
        dense - sparse
    )


def test_points_are_the_mean_and_the_bins():
    points = importance.points(documents(0.8, 0.5))
    assert [p.value for p in points[:3]] == [0.8, 0.2, 0.8]
    assert (points[2]["from"], points[2]["to"]) == (0.5, 1.0)
    assert [plot.name for plot in importance.plots(points)] == ["mean", "distribution"]


def test_saes_of_other_widths_are_no_prices():
    narrow, wide, *rest = (d["saes"][0] for d in documents(0.8, 0.5)["attributed"])
    wide["d_sae"] = 8192
    with pytest.raises(LackError, match="two λs or more at one site, width and seed"):
        importance.points({"a": [evaluation(narrow, wide)]})
    both = [narrow, wide, *rest, narrow | {"l0": 80.0}]
    reading = importance.read(importance.points({"a": [evaluation(*both)]}))
    assert set(reading.numbers) == {
        "attn_out.3, width 2,048",
        "attn_out.3, width 8,192",
        "mlp_out.3",
    }


def test_two_sequences_give_no_verdict():
    found = documents(0.8, 0.5)
    found["attributed"] = [d | {"tokens": {"n_sequences": 2}} for d in found["attributed"]]
    points = importance.points(found)
    assert {(point.low, point.high) for point in points} == {(None, None)}
    assert importance.read(points).verdict == "cannot be told"


def test_what_was_not_attributed_is_refused():
    with pytest.raises(LackError, match=r"study importance must have .*scopeworks sweep"):
        importance.points({"a": [evaluation(sae())]})


def test_variants_ask_for_attribution():
    (variant,) = importance.variants(SCENE)
    assert variant.evaluate == {"importance": True} and len(variant.sae[0]["site"]) == 3
