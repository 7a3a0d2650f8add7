"""Real processes, really killed: the same command continues, and no byte of the result tells."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from scopeworks.train.saved.metrics import METRICS_FILE, read_metrics

STEPS = 400
N_KILLS = int(os.environ.get("SCOPEWORKS_KILLS", "2"))
"""The long form, `SCOPEWORKS_KILLS=10`, takes eight minutes."""

TIMINGS = {"rows_per_s", "waiting_share"}


def command(name: str, store_url: str, out: Path, *more: str) -> list[str]:
    """A run of a few seconds with the sparse step, a steered λ and checkpoints seldom enough for
    lost work.
    """
    settings = ["width=768", f"steps={STEPS}", "batch=256", "lr=2e-3", "theta_start=0.5"]
    settings += ["bandwidth=0.05", "lr_warmup_steps=20", "sparsity_warmup_steps=50", "log_every=4"]
    settings += ["checkpoint_every=23", "measure_rows=512", "lr_decay_share=0.3"]
    words = [sys.executable, "-m", "scopeworks", name, "--store", store_url, "--out", str(out)]
    words += ["--site", "resid_post.3", "--device", "cpu", *more]
    return words + [word for pair in settings for word in ("--set", pair)]


def last_step(run: Path) -> int:
    """The step of the newest metrics line."""
    return read_metrics(run)[-1]["step"] if read_metrics(run) else 0


def run_until(words: list[str], run: Path, step: int) -> bool:
    """Runs the command and kills it once its metrics have come to `step`; False if it ended
    first.
    """
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=errors) as process,
    ):
        while process.poll() is None:
            if last_step(run) >= step:
                process.kill()
                return True
            time.sleep(0.005)
        errors.seek(0)
        assert process.returncode == 0, errors.read()
    return False


def kill_often(words: list[str], run: Path) -> None:
    """Kills at random steps, each after the one before, then to the end."""
    n_kills = 0
    for step in sorted(random.Random(3).sample(range(5, STEPS - 40), N_KILLS)):
        resume = ["--resume"] if n_kills else []
        n_kills += run_until([*words, *resume], run, step)
    assert n_kills == N_KILLS
    assert not run_until([*words, "--resume"], run, STEPS + 1)


def untimed(run: Path) -> list[dict]:
    """metrics.jsonl without what a clock has measured."""
    lines = (run / METRICS_FILE).read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMINGS} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    """The same bytes and the same metrics."""
    for name in ("sae.safetensors", f"checkpoints/step_{STEPS:09d}.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert untimed(one) == untimed(other)


@pytest.mark.slow
def test_killed_training_ends_the_same(store_url: str, tmp_path: Path):
    target = ("--target-l0", "12")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_until(command("train", store_url, whole, *target), whole, STEPS + 1)
    kill_often(command("train", store_url, killed, *target), killed)
    assert_same_run(whole, killed)


@pytest.mark.slow
def test_killed_sweep_ends_the_same(store_url: str, tmp_path: Path):
    members = ("--sparsity", "1e-3", "--target-l0", "12")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_until(command("sweep", store_url, whole, *members), whole / "none", 1)
    names = sorted(path.name for path in whole.iterdir() if path.is_dir())
    assert len(names) == 2
    kill_often(command("sweep", store_url, killed, *members), killed / names[-1])
    for name in names:
        assert_same_run(whole / name, killed / name)
