"""The subsets study, on subsets whose order is known."""

import pytest

from scopeworks.evaluate.studies.figures import subsets
from scopeworks.evaluate.study.study import LackError
from scopeworks.tests.evaluate.studies.documents import SCENE, evaluation, sae


def documents(half: float = 0.01, **values: float) -> dict:
    """Two SAEs on named subsets with these Δ losses."""
    saes = [sae(l0=20.0), sae(l0=90.0, sparsity=1e-3)]
    found = {
        name: {
            "n_sequences": 40,
            "clean_loss": 2.0,
            "saes": [
                {"name": one["name"], "l0": one["l0"], "delta_loss": value, "fvu": value}
                | {"intervals": {"delta_loss": [value - half, value + half], "fvu": None}}
                for one in saes
            ],
        }
        for name, value in values.items()
    }
    return {"subsets": [evaluation(*saes, subsets=found)]}


@pytest.mark.parametrize(("half", "verdict"), [(0.01, "holds"), (0.3, "cannot be told")])
def test_reading(half, verdict):
    reading = subsets.read(subsets.points(documents(half, code=0.3, prose=0.1, tables=0.2)))
    assert reading.verdict == verdict
    assert "code minus prose: 0.2" in reading.sentence
    assert list(reading.numbers["delta_loss"]) == ["prose", "tables", "code"]


def test_the_sae_nearest_an_l0_of_100_is_read():
    points = subsets.points(documents(code=0.3, prose=0.1))
    assert {point["sparsity"] for point in points} == {1e-3} and len(points) == 4
    assert [plot.name for plot in subsets.plots(points)] == ["delta_loss", "fvu"]


def test_one_subset_is_refused():
    with pytest.raises(LackError, match=r"two subsets .*got 1; .*--subset-field"):
        subsets.points(documents(code=0.3))


def test_the_suites_own_saes_are_measured():
    (variant,) = subsets.variants(SCENE)
    assert not variant.sae and variant.evaluate == {"subsets": True}
