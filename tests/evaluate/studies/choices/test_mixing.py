"""The mixing study on SAEs whose frontiers are known."""

import math

import pytest
from matplotlib.figure import Figure

from scopeworks.evaluate.studies.choices import mixing
from scopeworks.evaluate.study.study import Documents, LackError

from ..documents import SCENE, evaluation, sae

ROWS = {"sequence": 1, "small": 4096, "bucket": 65536, "usual": None, "perfect": mixing.ALL_ROWS}


def documents(noise: float = 0.002, **excess: float) -> Documents:
    """SAEs on the frontier FVU = L0^-½, times 1 + excess by order; Δ loss a tenth of it."""
    found = []
    for order, rows in ROWS.items():
        for seed in range(3):
            for price, l0 in ((3e-3, 30.0 + seed), (6e-3, 15.0 + seed)):
                factor = (1 + excess.get(order, 0.0)) * (1 + noise * seed * (order == "perfect"))
                value = factor / math.sqrt(l0)
                entry = sae(l0=l0, fvu=value, delta_loss=value / 10, sparsity=price, seed=seed)
                entry["training"]["settings"] |= {"shuffle_rows": rows, "batch": 1024}
                share = {"measured": 0.2 if rows == 1 else 1e-3, "perfect": 1e-3, "batches": 8}
                found.append(evaluation(entry, mixing=share))
    return {"orders": found}


@pytest.mark.parametrize(
    ("excess", "noise", "verdict"),
    [
        (0.0, 0.002, "holds"),
        (-0.005, 0.001, "holds"),
        (-0.05, 0.002, "does not hold"),
        (-0.01, 0.02, "cannot be told"),
    ],
)
def test_a_perfect_shuffle_helps_or_does_not(excess: float, noise: float, verdict: str):
    points = mixing.points(documents(noise, perfect=excess, sequence=0.1))
    reading = mixing.read(points)
    assert reading.verdict == verdict
    change = reading.numbers["change"]["fvu"]
    assert change["sequence"] == pytest.approx([0.1, 0.1, 0.1], abs=1e-6)
    assert change["perfect"][0] == pytest.approx(excess + noise, abs=noise / 20 + 1e-4)
    assert change["small"] == pytest.approx([0, 0, 0], abs=1e-9)
    assert reading.numbers["row_pairs_of_one_sequence"]["sequence"] == 0.2
    assert "no shuffle +10.0% (+10.0 to +10.0)" in reading.sentence
    assert [plot.name for plot in mixing.plots(points)] == ["orders", "mixing"]


def test_one_seed_tells_nothing():
    few = {"orders": [d for d in documents()["orders"] if d["saes"][0]["name"].endswith("-0")]}
    assert mixing.read(mixing.points(few)).verdict == "cannot be told"


def test_saes_of_one_order_are_refused():
    usual = [
        d
        for d in documents()["orders"]
        if d["saes"][0]["training"]["settings"].get("shuffle_rows") is None
    ]
    with pytest.raises(LackError, match="usual order and of a perfect shuffle"):
        mixing.points({"orders": usual})


def test_every_order_has_the_same_prices_and_seeds():
    (variant,) = mixing.variants(SCENE)
    orders = {table.get("shuffle_rows") for table in variant.sae}
    assert orders == {1, 4096, 65536, None, mixing.ALL_ROWS}
    assert len(variant.sae) == 5 * mixing.SEEDS
    assert all(table["seed"] == table["stream_seed"] for table in variant.sae)
    assert all(table["sparsity"] == [3e-3, 6e-3] for table in variant.sae)
    assert {table["width"] for table in variant.sae} == {512}


def test_the_legend_is_below_the_axes():
    axes = Figure().add_subplot()
    mixing.plots(mixing.points(documents(sequence=0.1)))[0].draw(axes)
    assert axes.get_legend() is None and len(axes.figure.legends) == 1
