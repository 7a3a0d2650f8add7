"""The bandwidth study on SAEs whose answers are known."""

import math

import pytest
from matplotlib.figure import Figure

from scopeworks.evaluate.studies.choices import bandwidth
from scopeworks.evaluate.study.study import Documents, LackError

from ..documents import SCENE, evaluation, sae

START, SCALE = 0.15, 4.0


def one(epsilon: float, l0: float, fvu: float, moved: float, seed: int, price: float = 6e-3):
    """An SAE whose median θ has moved so far, in units of its start."""
    weights = {"theta": {"0.50": SCALE * START * (1 + moved)}}
    entry = sae(l0=l0, fvu=fvu, sparsity=price, seed=seed, dead_share=0.0, weights=weights)
    entry["config"]["normaliser"] = SCALE
    entry["training"]["settings"] |= {"bandwidth": epsilon, "theta_start": START}
    return evaluation(entry)


def documents(large_fvu: float = 0.5, still: float = -0.05, spread: float = 0.0) -> Documents:
    """The recipe's ε 0.1 with its frontier FVU = 0.5 · (L0 / 5)^-½, and 1e-4 and 1."""
    recipe, others = [], []
    for seed in range(3):
        jitter = 1 + spread * (seed - 1)
        recipe.append(one(0.1, 20.0, 0.25 * jitter, -0.6, seed))
        others.append(one(1.0, 5.0, large_fvu / jitter, 0.5, seed))
        others.append(one(1e-4, 20.0, 0.3, still, seed))
    recipe.append(one(0.1, 5.0, 0.5, -0.6, 0, price=1.2e-2))
    return {"recipe": recipe, "others": others}


@pytest.mark.parametrize(
    ("large_fvu", "still", "spread", "verdict"),
    [
        (0.5, -0.05, 0.01, "holds"),
        (0.2, -0.05, 0.01, "does not hold"),
        (0.5, -0.5, 0.01, "does not hold"),
        (0.26, -0.05, 0.2, "cannot be told"),
    ],
)
def test_both_ends_of_the_ladder_decide(
    large_fvu: float, still: float, spread: float, verdict: str
):
    points = bandwidth.points(documents(large_fvu, still, spread))
    reading = bandwidth.read(points)
    assert reading.verdict == verdict
    assert (reading.numbers["smallest"], reading.numbers["largest"]) == (1e-4, 1.0)
    assert "ε 1 gives 0.25 (0.25 to 0.25) times the L0" in reading.sentence
    names = [plot.name for plot in bandwidth.plots(points)]
    assert names == ["l0", "fvu", "theta_moved", "frontier"]


def test_a_theta_that_does_not_move_at_all_has_moved_less_than_half_as_far():
    reading = bandwidth.read(bandwidth.points(documents(still=0.0, spread=0.01)))
    assert reading.verdict == "holds"
    assert reading.numbers["log_ratio_at_smallest"]["theta_moved"][2] < math.log(1e-6)


def test_a_ladder_that_ends_at_the_recipes_is_not_compared_with_itself():
    found = documents()
    saes = [document["saes"][0] for document in found["others"]]
    small = [e for e in saes if e["training"]["settings"]["bandwidth"] < 0.1]
    large = [e for e in saes if e["training"]["settings"]["bandwidth"] > 0.1]
    for others, words in ((small, "no ε above the recipe's 0.1"), (large, "no ε below")):
        ladder = {"recipe": found["recipe"], "others": [evaluation(entry) for entry in others]}
        reading = bandwidth.read(bandwidth.points(ladder))
        assert reading.verdict == "cannot be told" and words in reading.sentence


def test_bandwidths_are_drawn_at_powers_of_ten():
    plot = bandwidth.plots(bandwidth.points(documents()))[0]
    axes = Figure().add_subplot()
    plot.draw(axes)
    shown = [tick.get_text() for tick in axes.get_xticklabels()]
    assert shown == ["10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]


def test_fvu_is_compared_with_the_recipes_frontier():
    numbers = bandwidth.read(bandwidth.points(documents())).numbers
    assert numbers["fvu_over_frontier"] == pytest.approx({"0.0001": 0.2, "1": 0.0}, abs=1e-4)


def test_unknown_thetas_tell_nothing():
    found = documents()
    for document in (*found["recipe"], *found["others"]):
        document["saes"][0].pop("weights")
    points = bandwidth.points(found)
    assert bandwidth.read(points).verdict == "cannot be told"
    assert "theta_moved" not in [plot.name for plot in bandwidth.plots(points)]


def test_saes_of_one_bandwidth_are_refused():
    with pytest.raises(LackError, match="the recipe's ε and of others"):
        bandwidth.points({"recipe": documents()["recipe"]})


def test_bandwidths_are_around_the_recipes():
    scene = SCENE
    recipe, others = bandwidth.variants(scene)
    assert (recipe.name, others.name) == ("recipe", "others")
    assert [table["bandwidth"] for table in others.sae] == [1e-6, 1e-5, 1e-4, 3e-4, 3e-3, 1e-2]
    assert all("bandwidth" not in table for table in recipe.sae)
    assert recipe.sae[1]["sparsity"] == [1.5e-3, 3e-3, 1.2e-2]
