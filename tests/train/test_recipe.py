"""The recipe by a run's length: its ends, its course, and what is given by hand."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.settings import resolve
from scopeworks.train.recipe import of_length, of_site
from scopeworks.train.run.trainer import run
from scopeworks.train.settings import TrainSettings

GOOD = {"store": "s", "site": "resid_post.1", "width": 64, "out": "o"}
FIELDS = TrainSettings.model_fields
updates = st.integers(1, 2_000_000)


def auto(**values: Any) -> TrainSettings:
    return resolve(TrainSettings, None, **(GOOD | {"recipe": "auto"} | values))


@pytest.mark.parametrize("steps", [250_000, 10**6])
@pytest.mark.parametrize(("batch", "d"), [(64, 128), (4096, 2304)])
def test_long_runs_are_the_report_s(steps: int, batch: int, d: int):
    found = of_length(steps) | of_site(steps, batch, d) | of_site(steps, batch, d, True)
    assert found == {name: FIELDS[name].default for name in found}
    assert len(found) == 7


def test_values_of_short_and_middle_runs():
    assert of_length(1_500) == {
        "lr_warmup_steps": 100,
        "lr_decay_share": 0.2,
        "beta2": 0.985,
        "sparsity_warmup_steps": 150,
    }
    short = {"lr": 6e-3, "theta_start": 0.1503, "bandwidth": 0.0999}
    assert of_site(1_500, 1_024, 128) == pytest.approx(short, rel=1e-3)
    half = 79_057  # half way, in logarithms, from 25,000 to 250,000
    assert of_length(half) == pytest.approx(
        {
            "lr_warmup_steps": 1_000,
            "lr_decay_share": 0.1,
            "beta2": 1 - (1e-2 * 1e-3) ** 0.5,
            "sparsity_warmup_steps": 7_905,
        },
        rel=1e-4,
    )
    rate = (1e-3 * 7e-5) ** 0.5 * (128 / 2_048) ** 0.25
    assert of_site(half, 4_096, 2_048)["lr"] == pytest.approx(rate, rel=1e-4)


def test_rate_of_short_runs_goes_by_batch_and_width():
    base = of_site(1_500, 1_024, 128)["lr"]
    assert of_site(1_500, 256, 128)["lr"] == pytest.approx(base / 2)
    assert of_site(1_500, 1_024, 512)["lr"] == pytest.approx(base / 2)
    assert of_site(1_500, 4_096, 128)["lr"] == of_site(1_500, 1_024, 64)["lr"] == base
    assert of_site(1_500, 1, 128 * 64)["lr"] == 7e-5


@pytest.mark.parametrize(
    ("batch", "d", "transcoder"), [*itertools.product([64, 8192], [16, 4608], [False, True])]
)
def test_every_setting_changes_one_way_with_the_length(batch: int, d: int, transcoder: bool):
    lengths = [round(10 ** (i / 8)) for i in range(50)]
    found = [of_length(n) | of_site(n, batch, d, transcoder) for n in lengths]
    for name in ("lr", "theta_start", "bandwidth"):
        assert [one[name] for one in found] == sorted((one[name] for one in found), reverse=True)
    for name in ("beta2", "lr_warmup_steps", "sparsity_warmup_steps"):
        assert [one[name] for one in found] == sorted(one[name] for one in found)
    decays = [one["lr_decay_share"] for one in found if one["lr_decay_share"]]
    assert decays == sorted(decays, reverse=True)


@given(steps=updates, batch=st.integers(1, 65_536), d=st.integers(1, 16_384))
def test_settings_of_any_length_are_taken(steps: int, batch: int, d: int):
    assert auto(steps=steps, batch=batch).resolved_for(d).steps == steps


def test_what_is_given_by_hand_wins():
    by_hand = {"lr": 1e-4, "beta2": 0.9, "theta_start": 0.02, "lr_warmup_steps": 0}
    settings = auto(steps=1_500, **by_hand).resolved_for(128)
    assert {name: getattr(settings, name) for name in by_hand} == by_hand
    assert settings.bandwidth == of_site(1_500, 4_096, 128)["bandwidth"]
    assert settings.resolved_for(2304) == settings
    # ... also where it is the report's own value
    assert auto(steps=1_500, bandwidth=1e-3).resolved_for(128).bandwidth == 1e-3


def test_report_is_the_default_and_points_to_the_recipe():
    plain = resolve(TrainSettings, None, **GOOD)
    assert plain.recipe == "report" and plain.resolved_for(128) == plain
    with pytest.raises(
        ValueError, match=r"sparsity_warmup_steps must be .*; recipe auto chooses settings that fit"
    ):
        resolve(TrainSettings, None, **GOOD, steps=2_000)


def test_the_recipe_itself_is_no_part_of_what_a_run_is():
    by_recipe = auto(steps=1_500).resolved_for(128)
    by_name = {name: getattr(by_recipe, name) for name in of_length(1) | of_site(1, 1, 1)}
    by_hand = resolve(TrainSettings, None, **GOOD, steps=1_500, **by_name)
    assert by_recipe.identity() == by_hand.identity()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"recipe": "best"}, "recipe must be 'report' or 'auto', got 'best'"),
        ({"steps": 0}, "steps must be greater than 0"),
        ({"steps": "many"}, "steps must be a whole number"),
        ({"batch": -1}, "batch must be greater than 0"),
        ({"steps": 100, "lr_decay_share": 0.99}, "lr_warmup_steps must be below steps"),
    ],
)
def test_wrong_values_are_errors_of_their_own(wrong: dict[str, Any], text: str):
    with pytest.raises(ValueError, match=text):
        auto(**wrong)


def test_a_run_records_what_the_recipe_gave_and_continues_by_hand(store_url: str, tmp_path: Path):
    values: dict[str, Any] = {"site": "resid_post.3", "width": 32, "steps": 15, "batch": 64}
    values |= {"store": store_url, "out": tmp_path / "a", "measure_rows": 64, "device": "cpu"}
    run([resolve(TrainSettings, None, recipe="auto", **values)])
    written = json.loads((tmp_path / "a" / "config.json").read_text())["settings"]
    expected: dict[str, Any] = of_length(15) | of_site(15, 64, 16)
    assert {name: written[name] for name in expected} == expected
    run([resolve(TrainSettings, None, recipe="auto", **values)])  # is done
    run([resolve(TrainSettings, None, **values, **expected)])  # the same run
    with pytest.raises(ValueError, match=r"other settings \(bandwidth: .*; lr: .*; theta_start: "):
        run([resolve(TrainSettings, None, **values, **of_length(15))])
