"""`scopeworks plan`: of presets, of options, of short runs, and against a run."""

import json

import pytest
from typer.testing import CliRunner

from scopeworks.pipelines.cli import app
from scopeworks.pipelines.run.runner import run_suite
from scopeworks.tests.pipelines.small_suite import suite


def invoke(*args: str) -> str:
    done = CliRunner().invoke(app, ["plan", *args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_preset_is_planned_with_prices_and_a_picture(tmp_path):
    picture = tmp_path / "plan.svg"
    prices = ["--price", "gpu-hour=2.5", "--price", "tb-month=20", "--bandwidth", "0.1"]
    shown = invoke("one-gpu-weekend", *prices, "--plot", str(picture))
    assert "one-gpu-weekend: 8 SAEs, one h100" in shown
    assert "float32, raw (the report) 4.6 TB; bfloat16, raw 2.3 TB; exact 1.6 TB" in shown
    assert "training would take" in shown and "harvesting once costs less" in shown
    assert picture.read_text(encoding="utf-8").count("<svg") == 1


def test_options_stand_for_a_suite():
    site = ["--model", "google/gemma-2-2b", "--site", "resid_post.12"]
    found = json.loads(invoke(*site, "--tokens", "500M", "--saes", "8", "--json"))
    assert found["saes"] == 8
    harvest = found["steps"][1]
    assert harvest["rows"] == 500_000_000
    assert found["activation_bytes"]["exact"] == pytest.approx(5e8 * 2304 * 11 / 8)


def test_an_sae_too_wide_for_a_device_is_planned_on_several():
    wide = ["one-gpu-weekend", "--set", "sae.width=1048576"]
    shown = invoke(*wide, "--set", "sae.target_l0=60")
    assert "more than the 80.0 GB of one h100" in shown and "lower `together`" not in shown
    way = "torchrun, each holding its share of the latents; predicted, several GPUs are untested"
    assert f"on several h100 ({way}):" in shown
    rows = [line.split()[0] for line in shown.splitlines()[-3:]]
    assert rows[0] == "1" and 1 < int(rows[1]) < 8 and rows[2] == "8"


def test_a_group_too_large_for_a_device_is_to_be_made_smaller():
    shown = invoke("one-gpu-weekend", "--set", "sae.width=262144")
    assert "of one h100: lower `together`, the SAEs that are trained at once" in shown
    assert "several" not in shown


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["demo", "--ranks", "2", "--device", "tpu-v3"], "ranks has no effect on a tpu-v3"),
        (["demo", "--ranks", "65"], "ranks must be at most the 8 shards of 2048 latents, got 65"),
        (["demo", "--tokens", "5M"], "--tokens has no effect on a suite"),
        (["--model", "google/gemma-2-2b"], "site must be given"),
        (["demo", "--price", "gpu=3"], "must be 'gpu-hour' or 'tb-month', got 'gpu'"),
        (["demo", "--price", "gpu-hour=nan"], "price.gpu-hour must be"),
        (["demo", "--price", "gpu-hour=-1"], "price.gpu-hour must be greater than 0"),
        (["demo", "--bandwidth", "0"], "bandwidth must be greater than 0, got 0.0"),
        (["demo", "--days", "inf"], "days must be a finite number, got inf"),
        (["demo", "--device", "h1"], "device must be one of h100"),
        (["demo", "--plot", "a.pdf"], "plot must end in .svg or .png"),
        (["demo", "--compare", "--set", "out=/nowhere"], "must have been run to compare"),
    ],
)
def test_bad_input_is_one_line(args, text):
    done = CliRunner().invoke(app, ["plan", *args])
    assert isinstance(done.exception, ValueError) and text in str(done.exception)


@pytest.mark.parametrize("text", ["many", "nan", "infB", "-4B", "M", "0"])
def test_tokens_are_numbers(text):
    site = ["--model", "google/gemma-2-2b", "--site", "resid_post.12"]
    done = CliRunner().invoke(app, ["plan", *site, "--tokens", text])
    assert f"tokens must be a number such as 500M or 4B, got '{text}'" in str(done.exception)


def test_hundreds_of_saes_are_planned():
    site = ["--model", "google/gemma-2-2b", "--site", "resid_post.12", "--tokens", "2.5e8"]
    assert json.loads(invoke(*site, "--saes", "400", "--json"))["saes"] == 400


def test_a_run_is_compared_with_its_plan(tmp_path):
    file = suite(tmp_path)
    run_suite(file)
    found = json.loads(invoke(str(file.path), "--compare", "--json"))
    assert found["actual_seconds"].keys() >= {"tokenize", "harvest", "train", "evaluate"}
    assert "predicted" in invoke(str(file.path), "--compare")


@pytest.mark.slow
def test_short_runs_give_this_machines_speed(tmp_path):
    file = suite(tmp_path)
    found = json.loads(invoke(str(file.path), "--measure", "--json"))
    assert found["device"] == "machine like this"
    assert all(step["seconds"] > 0 for step in found["steps"][:4])
    assert not (tmp_path / "out" / "stores").exists()
