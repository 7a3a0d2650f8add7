"""The position study, on curves whose shape is known."""

import pytest

from scopeworks.evaluate.studies.figures import position
from scopeworks.evaluate.study.study import LackError
from scopeworks.tests.evaluate.studies.documents import SCENE, evaluation, sae

N = 64


def documents(first: float, late: float, error: float = 0.01) -> dict:
    """Three sites whose error goes from `first` to `late` after three tokens."""
    curve = [None, *[first] * 3, *[late] * (N - 4)]
    curves = {
        "error": curve,
        "error_stderr": [None, *[error] * (N - 1)],
        "delta_loss": curve,
    }
    clean = {"by_position": {"n_predictions": [0, *[10] * (N - 1)]}}
    saes = [sae(f"{kind}.3", by_position=curves) for kind in ("attn_out", "mlp_out", "resid_post")]
    return {"one sparsity": [evaluation(one, clean=clean) for one in saes]}


@pytest.mark.parametrize(
    ("first", "late", "error", "verdict"),
    [
        (0.1, 0.3, 0.01, "holds"),
        (0.3, 0.1, 0.01, "does not hold"),
        (0.1, 0.3, 0.2, "cannot be told"),
    ],
)
def test_reading(first, late, error, verdict):
    reading = position.read(position.points(documents(first, late, error)))
    assert reading.verdict == verdict
    assert reading.numbers["mlp_out.3"]["late_minus_first"][0] == pytest.approx(late - first)


def test_bins_cover_every_position_once_and_keep_the_mean():
    points = [p for p in position.points(documents(0.1, 0.3)) if p["metric"] == "error"]
    own = [p for p in points if p["site"] == "mlp_out.3"]
    covered = [i for p in own for i in range(p["first"], p["last"] + 1)]
    assert covered == list(range(1, N))
    assert sum(p.n or 0 for p in own) == 10 * (N - 1)
    assert own[0].low == pytest.approx(0.1 - 1.959964 * 0.01)


def test_curves_without_errors_have_no_interval():
    points = [p for p in position.points(documents(0.1, 0.3)) if p["metric"] == "delta_loss"]
    assert {(p.low, p.high) for p in points} == {(None, None)}


def test_two_sequences_give_no_verdict():
    found = documents(0.1, 0.3)["one sparsity"]
    few = [document | {"tokens": {"n_sequences": 2}} for document in found]
    assert position.read(position.points({"one sparsity": few})).verdict == "cannot be told"


def test_of_several_saes_of_a_site_the_middle_one_is_taken():
    found = documents(0.1, 0.3)
    curves = found["one sparsity"][0]["saes"][0]["by_position"]
    many = [sae(l0=l0, by_position=curves) for l0 in (5.0, 20.0, 80.0)]
    clean = found["one sparsity"][0]["clean"]
    points = position.points({"saes": [evaluation(*many, clean=clean)]})
    assert {point["l0"] for point in points} == {20.0}


def test_sequences_of_one_token_are_refused():
    curves = {"error": [None], "delta_loss": [None]}
    clean = {"by_position": {"n_predictions": [0]}}
    with pytest.raises(LackError, match="sequences of more than two tokens"):
        position.points({"a": [evaluation(sae(by_position=curves), clean=clean)]})


def test_variants_and_plots():
    (variant,) = position.variants(SCENE)
    assert variant.sae[0]["site"] == ["attn_out.3", "mlp_out.3", "resid_post.3"]
    plots = position.plots(position.points(documents(0.1, 0.3)))
    assert [plot.name for plot in plots] == ["error", "delta_loss"]
