"""The study of transfer, on frontiers whose ratios are known."""

import dataclasses
import math

import pytest
from matplotlib.figure import Figure

from scopeworks.evaluate.studies.figures import transfer
from scopeworks.evaluate.study.study import LackError
from scopeworks.tests.evaluate.studies.documents import SCENE, evaluation, sae

SCENE = dataclasses.replace(SCENE, model="base", twin="base-it", rollouts="talk")
LAYERS = (1, 3, 4)


def documents(loss: float, fvu: float, home: float = 1.5, rescaled: float = 1.2) -> dict:
    """Frontiers of three layers: base SAEs' Δ loss and FVU on the twin are so many times the
    twin's SAEs', their FVU on the twin's prompts so many times that at home."""
    found: dict[str, list] = {}
    factors = {"base-rollout": (loss, fvu), "base-prompt": (loss, home), "twin-rollout": (1, 1)}
    factors |= {"twin-prompt": (1, 1), "base-at-home": (1, 1), "base-rescaled": (loss, rescaled)}
    for variant, (a, b) in factors.items():
        for layer in LAYERS:
            for l0, sparsity in ((8.0 + layer, 6e-3), (40.0 + layer, 3e-3)):
                jitter = 1 + 0.02 * layer * variant.startswith("base-r")
                y = {"delta_loss": a * jitter / l0, "fvu": b / jitter / l0}
                one = sae(f"resid_post.{layer}", 2048, l0, sparsity=sparsity, **y)
                found.setdefault(variant, []).append(evaluation(one))
    return found


@pytest.mark.parametrize(
    ("loss", "fvu", "verdict"),
    [
        (1.0, 1.5, "holds"),
        (1.0, 0.7, "does not hold"),
        (1.8, 2.5, "does not hold"),
        (1.0, 1.12, "cannot be told"),
    ],
)
def test_reading(loss, fvu, verdict):
    reading = transfer.read(transfer.points(documents(loss, fvu)))
    assert reading.verdict == verdict
    low, high = reading.numbers["delta_loss_ratio"][1:]
    assert low < reading.numbers["delta_loss_ratio"][0] < high
    gap = reading.numbers["fvu_ratio_over_delta_loss_ratio"]
    assert "(3 sites)" in reading.sentence
    shown = f"{gap[0]:.3g} ({gap[1]:.3g} to {gap[2]:.3g}) times (3 sites) the Δ loss's"
    assert f"the FVU's ratio is {shown}" in reading.sentence


def test_ratios_are_those_of_the_frontiers():
    numbers = transfer.read(transfer.points(documents(1.1, 1.4))).numbers
    mean = math.exp(sum(math.log(1 + 0.02 * layer) for layer in LAYERS) / 3)
    assert numbers["delta_loss_ratio"][0] == pytest.approx(1.1 * mean, rel=1e-4)
    assert numbers["fvu_ratio"][0] == pytest.approx(1.4 / mean, rel=1e-4)
    assert numbers["fvu_ratio_on_prompts"][0] == pytest.approx(1.5, rel=1e-4)
    assert numbers["fvu_on_twin_over_fvu_at_home"][0] == pytest.approx(1.5, rel=1e-4)
    rescaled = numbers["fvu_on_twin_over_fvu_at_home_with_base_norms"]
    assert rescaled[0] == pytest.approx(1.2 / mean, rel=1e-4)


def test_what_cannot_be_compared_is_not_told():
    apart = documents(1.0, 1.5)
    for document in apart["twin-rollout"]:
        document["saes"][0]["l0"] *= 100
    reading = transfer.read(transfer.points(apart))
    assert reading.verdict == "cannot be told"
    why = "(0 sites, 3 left out for no L0 in common)"
    assert f"Δ loss is not comparable {why} with that of SAEs of the twin" in reading.sentence


def test_sites_whose_splice_helps_are_left_out_and_counted():
    found = documents(1.0, 1.5)
    for document in found["base-prompt"]:
        if document["saes"][0]["site"] == "resid_post.1":
            document["saes"][0]["delta_loss"] = -0.01
        if document["saes"][0]["site"] == "resid_post.3":
            document["saes"][0]["delta_loss"] *= 1e-4
    reading = transfer.read(transfer.points(found))
    assert reading.numbers["delta_loss_ratio_on_prompts"] == [
        pytest.approx(0.01, rel=1e-3),
        None,
        None,
    ]
    assert reading.numbers["left_out"] == {
        "delta_loss_ratio_on_prompts": {"a value that is not above 0": 1}
    }
    assert (
        "On prompts, Δ loss is 0.01 (an interval over orders of magnitude, which tells nothing) "
        "times (2 sites, 1 left out for a value that is not above 0)" in reading.sentence
    )


def test_without_saes_the_study_itself_is_named():
    with pytest.raises(LackError, match=r"scopeworks study transfer SUITE\.toml"):
        transfer.points({})


def test_points_tell_whose_saes_read_whose_activations():
    points = transfer.points(documents(1.0, 1.5))
    assert len(points) == 2 * 6 * 6
    names = ("saes", "activations", "positions", "norms")
    assert {tuple(point[name] for name in names) for point in points} == {
        ("base", "twin", "rollout", "own"),
        ("base", "twin", "prompt", "own"),
        ("base", "twin", "prompt", "base"),
        ("base", "base", "prompt", "own"),
        ("twin", "twin", "rollout", "own"),
        ("twin", "twin", "prompt", "own"),
    }


def test_variants_share_two_sets_of_saes_at_three_depths():
    found = {one.name: one for one in transfer.variants(SCENE)}
    assert set(found) == set(transfer.MEASURED)
    for name, one in found.items():
        (table,) = one.sae
        assert table["site"] == [f"resid_post.{layer}" for layer in LAYERS]
        assert table["sparsity"] == [1.5e-3, 6e-3, 1.2e-2]
        assert one.evaluate["tokens"] == "talk" and one.evaluate["n_sequences"] == 256
        of_twin = name.startswith("twin")
        assert one.model == ("base-it" if of_twin else None)
        assert one.text == ({"packing": "chat"} if of_twin else {})
        crossed = name.startswith("base") and name != "base-at-home"
        assert one.evaluate.get("model") == ("base-it" if crossed else None)
        assert one.evaluate.get("other_model", False) is crossed
        assert one.evaluate.get("norms_of") == ("base" if name == "base-rescaled" else None)
    full = transfer.variants(dataclasses.replace(SCENE, full=True))[0]
    assert len(full.sae[0]["sparsity"]) == 4 and full.evaluate["n_sequences"] == 1024


@pytest.mark.parametrize(
    ("sites", "n_layers", "wanted"),
    [
        (["resid_post.3"], 6, [1, 3, 4]),
        (["resid_post.12"], 26, [5, 12, 19]),
        ([f"resid_post.{i}" for i in range(42)], 42, [9, 20, 31]),
        (["mlp_out.3"], 42, [9, 20, 31]),
        (["resid_post.0"], 1, [0]),
    ],
)
def test_depths_are_the_reports_as_far_as_the_suite_has_them(sites, n_layers, wanted):
    scene = dataclasses.replace(SCENE, sites=tuple(sites), n_layers=n_layers)
    assert transfer.sites(scene) == [f"resid_post.{layer}" for layer in wanted]


def test_plots_are_those_of_the_reports_figures():
    plots = transfer.plots(transfer.points(documents(1.0, 1.5)))
    figures = [int(plot.caption.split("(Figure ")[1].split(")")[0]) for plot in plots]
    assert sorted(figures) == [8, 19, 20, 21, 22, 23]
    assert len({plot.name for plot in plots}) == 6
    home = next(plot for plot in plots if plot.name == "fvu-home")
    axes = Figure().add_subplot()
    home.draw(axes)
    assert axes.get_legend_handles_labels()[1][:2] == ["layer 1, on base", "layer 1, on twin"]
