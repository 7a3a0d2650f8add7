"""Two runs in one folder: the second is told, or waits; nothing is written twice."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scopeworks.train.run import member as member_module
from scopeworks.train.run.trainer import run
from scopeworks.train.saved.metrics import read_metrics
from scopeworks.train.settings import TrainSettings
from scopeworks.train.sweeps.sweep import sweep

Make = Callable[..., TrainSettings]


def meanwhile(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> list[str]:
    """Runs `action` before the fifth update of the next run; returns what it raises."""
    update, errors = member_module.Member.update, []

    def interrupted(self: member_module.Member, *arguments: object):
        if self.step == 5 and not errors:
            errors.append("none")
            try:
                action()
            except ValueError as error:
                errors[:] = [str(error)]
        return update(self, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(member_module.Member, "update", interrupted)
    return errors


def test_second_run_in_a_folder_is_refused_and_harms_nobody(
    settings: Make, monkeypatch: pytest.MonkeyPatch
):
    one = settings(log_every=1)
    errors = meanwhile(monkeypatch, lambda: run([one]))
    (out,) = run([one])
    assert f"out must be of one run at a time, got {out}, which process {os.getpid()}" in errors[0]
    assert [line["step"] for line in read_metrics(out)] == list(range(1, 31))
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


def test_second_sweep_in_a_folder_is_refused(
    settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    members = [settings("s/a"), settings("s/b", seed=1)]
    other = [settings("s/c", seed=2)]  # other members, but the same sweep.json
    errors = meanwhile(monkeypatch, lambda: sweep(other, tmp_path / "s"))
    sweep(members, tmp_path / "s")
    assert "must be of one run at a time" in errors[0]
    assert not (tmp_path / "s" / "c").exists()


def test_two_outs_with_the_same_local_checkpoints_are_refused(
    settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    shared = str(tmp_path / "checkpoints")
    errors = meanwhile(monkeypatch, lambda: run([settings("b", checkpoints=shared)]))
    run([settings("a", checkpoints=shared)])
    assert f"got {shared}, which process" in errors[0]
    assert not settings("b").out.exists()


@pytest.mark.slow
def test_identical_commands_at_once_leave_one_run(store_url: str, tmp_path: Path):
    words = [sys.executable, "-m", "scopeworks", "train", "--store", store_url, "--width", "64"]
    words += ["--site", "resid_post.3", "--steps", "300", "--batch", "64", "--device", "cpu"]
    words += ["--set", "lr_warmup_steps=20", "--set", "sparsity_warmup_steps=50"]
    words += ["--set", "log_every=1", "--set", "checkpoint_every=20", "--out", str(tmp_path / "a")]
    words += ["--wait"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(words, **pipes) for _ in range(3)]
    texts = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], texts
    assert len({out for out, _ in texts}) == 1
    assert [line["step"] for line in read_metrics(tmp_path / "a")] == list(range(1, 301))
