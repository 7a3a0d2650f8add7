"""The command for a bare GPU machine, at toy sizes on the CPU: it runs, and it finds faults."""

import csv
import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def run(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """benchmarks/gpu.sh with this interpreter."""
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), str(out), *options]
    environment = os.environ | {"PYTHON": sys.executable, "WHEELS": str(out / "none")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_toy_run_does_every_part_and_says_what_it_found(tmp_path):
    quick = ("correctness", "race", "steps", "harvest")
    done = run(tmp_path / "out", "--toy", "--only", *quick)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert not (out / "gpu_skipped.csv").exists(), done.stdout
    checks = rows(out / "gpu_correctness.csv") + rows(out / "gpu_race.csv")
    assert {row["verdict"] for row in checks} == {"right"}
    assert {"strided", "bad", "dead", "alive"} < {row.get("case") for row in checks}
    steps = rows(out / "gpu_steps.csv")
    names = {"encoder product bfloat16", "triton/screened", "triton/sparse", "triton/dense"}
    assert names < {row["name"] for row in steps}
    assert {row["rates"] for row in steps} == {"", "equal", "lognormal"}
    columns = {"batch", "d", "width", "dtype", "median_ms", "q1_ms", "device", "versions", "commit"}
    assert columns < set(steps[0])
    harvest = rows(out / "gpu_harvest.csv")
    assert [row["case"] for row in harvest] == ["forward", "harvest 1 site", "harvest 3 sites"]
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table in done.stdout
    again = run(out, "--toy")
    assert again.returncode == 1
    assert "OUT must be a folder without results, got" in again.stderr


def test_machine_without_a_gpu_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = run(tmp_path / "out", "--only", "race")
    assert done.returncode == 1
    skipped = [(row["part"], row["reason"]) for row in rows(tmp_path / "out" / "gpu_skipped.csv")]
    assert skipped == [("race", "no CUDA device")]


@pytest.mark.slow
def test_toy_ranks_leave_what_one_process_does(tmp_path):
    done = run(tmp_path / "out", "--toy", "--only", "ranks")
    assert done.returncode == 0, done.stderr
    found = {row["case"]: row["verdict"] for row in rows(tmp_path / "out" / "gpu_ranks.csv")}
    assert found == {"1 rank, gloo": "right", "2 ranks on one card, train": "right"}


def test_ranks_that_leave_something_else_are_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    gpu_ranks, run_result = map(importlib.import_module, ("gpu_ranks", "run_result"))
    left = {"alone": ("a", [], "c"), "by 2": ("a", [], "c"), "by 3": ("a", [1], "d")}
    monkeypatch.setattr(gpu_ranks, "write_store", lambda folder, rows, d: "store")
    monkeypatch.setattr(gpu_ranks, "train", lambda *_: None)
    monkeypatch.setattr(run_result, "result", lambda out: left[out.name])
    two, three = gpu_ranks.of_command(SimpleNamespace(toy=True), tmp_path, (2, 3))
    two()
    with pytest.raises(AssertionError, match="metrics, checkpoint differ"):
        three()


@pytest.mark.slow
def test_wrong_result_is_shown_and_ends_with_an_error(tmp_path):
    """A kernel that forgets the last latent of each row, put in by the interpreter's start-up."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('TRITON_INTERPRET') == '1':\n"
        "    from scopeworks.train.kernels.triton import backend, lists\n"
        "    def list_by_row(entries, batch):\n"
        "        found = lists.list_by_row(entries, batch)\n"
        "        found.start[-1] -= 1\n"
        "        return found\n"
        "    backend.list_by_row = list_by_row\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        done = run(tmp_path / "out", "--toy", "--only", "correctness")
    assert done.returncode == 1
    verdicts = [row["verdict"] for row in rows(tmp_path / "out" / "gpu_correctness.csv")]
    assert any(verdict.startswith("WRONG: AssertionError") for verdict in verdicts)
    assert "right" in verdicts
    assert "WRONG" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
