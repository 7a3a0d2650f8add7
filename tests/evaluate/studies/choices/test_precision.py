"""The precision study on SAEs whose differences are known."""

import pytest

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
