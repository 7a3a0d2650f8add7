"""The subsets study, on subsets whose order is known."""

from statistics import NormalDist

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


def test_the_widest_gap_of_many_subsets_is_no_difference_by_itself():
    """Errors alone: a value at each of the 22 normal quantiles, the outermost 4 errors apart."""
    values = {f"s{i:02}": NormalDist(1.0, 0.1).inv_cdf((i + 0.5) / 22) for i in range(22)}
    reading = subsets.read(subsets.points(documents(1.96 * 0.1, **values)))
    low, high = reading.numbers["worst_minus_best"][1:]
    assert high - low > 0 > low and reading.numbers["p"] > 0.3
    assert reading.verdict == "cannot be told" and "of 22 subsets" in reading.sentence


def test_two_sequences_give_no_verdict():
    found = documents(0.01, code=0.3, prose=0.1)
    for subset in found["subsets"][0]["subsets"].values():
        for one in subset["saes"]:
            one |= {"intervals": None, "delta_loss_stderr": 0.001}
    reading = subsets.read(subsets.points(found))
    assert reading.verdict == "cannot be told" and reading.numbers["p"] is None


def test_captions_end_with_their_bars():
    captions = [plot.caption for plot in subsets.plots(subsets.points(documents(a=0.3, b=0.1)))]
    assert captions[0].endswith("L0 90 (Figure 9). Bars: 95% intervals over sequences.")


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
