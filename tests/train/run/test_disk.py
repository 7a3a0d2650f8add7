"""The estimate of what a run writes on a disk, and its refusal."""

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from scopeworks.train.run import disk as disk_module
from scopeworks.train.run.trainer import run
from scopeworks.train.settings import TrainSettings

Make = Callable[..., TrainSettings]
Usage = namedtuple("Usage", "total used free")


def estimate(monkeypatch: pytest.MonkeyPatch, one: TrainSettings) -> int:
    """The bytes that a run says it needs, on a disk that is full."""
    monkeypatch.setattr(disk_module, "_GIB", 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, -1))
    with pytest.raises(ValueError, match=r"disk must have room for ([\d.]+) GiB of check") as error:
        run([one])
    return int(float(str(error.value).split("room for ")[1].split()[0]))


def test_run_writes_at_most_what_is_asked_for(settings: Make, monkeypatch: pytest.MonkeyPatch):
    one = settings(width=2000, keep_checkpoints=3)
    with monkeypatch.context() as patch:
        needed = estimate(patch, one)
    assert not one.out.exists()
    (out,) = run([one])
    written = sum(path.stat().st_size for path in out.rglob("*.safetensors"))
    one_checkpoint = max(p.stat().st_size for p in (out / "checkpoints").iterdir())
    assert 0.95 * needed < written + one_checkpoint < 1.05 * needed


def test_checkpoints_elsewhere_need_no_disk(
    settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    here, there = settings("a", width=2000), {"checkpoints": f"memory://{tmp_path.name}/x"}
    with monkeypatch.context() as patch:
        assert estimate(patch, settings("b", width=2000, **there)) < 0.2 * estimate(patch, here)
