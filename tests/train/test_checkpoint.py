"""Checkpoints: what is written comes back, damage is an error, only the newest stay."""

from pathlib import Path

import pytest
import torch

from scopeworks.store.local import LocalFiles
from scopeworks.train.checkpoint import Checkpoint, Checkpoints


def checkpoint(step: int) -> Checkpoint:
    """A small one that differs by step."""
    tensors = {"a": torch.full((3,), float(step)), "n": torch.tensor(step)}
    return Checkpoint(step, tensors, {"step": step, "stream": {"row": 64 * step}})


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_newest_comes_back_equal_and_old_ones_go(tmp_path: Path, kind: str):
    url = str(tmp_path / "c") if kind == "local" else f"memory://{tmp_path.name}/c"
    folder = Checkpoints(url, keep=2)
    assert folder.newest() is None
    for step in (5, 10, 1000):
        folder.save(checkpoint(step))
    assert folder.steps() == [10, 1000]
    newest = Checkpoints(url, keep=2).newest()
    assert newest is not None
    assert newest.record == {"step": 1000, "stream": {"row": 64_000}}
    assert torch.equal(newest.tensors["a"], torch.full((3,), 1000.0))


def test_half_written_file_is_not_seen(tmp_path: Path):
    folder = Checkpoints(str(tmp_path), keep=2)
    folder.save(checkpoint(5))
    (tmp_path / "step_000000006.safetensors.partial").write_bytes(b"half")
    assert folder.steps() == [5]


def test_sweep_leaves_what_is_being_written(tmp_path: Path):
    folder, found = Checkpoints(str(tmp_path), keep=2), []
    abandoned = tmp_path / ".step_000000004.safetensors.0123456789ab.partial"
    foreign = tmp_path / ".notes.0123456789ab.partial"
    for path in (abandoned, foreign):
        path.write_bytes(b"half")

    def parts():
        yield b"half of "
        folder.sweep()  # as another process would
        found.extend(sorted(path.name for path in tmp_path.glob(".step_*.partial")))
        yield b"a checkpoint"

    LocalFiles(tmp_path).write("step_000000005.safetensors", parts())
    assert [name[:16] for name in found] == [".step_000000005."]
    assert (tmp_path / "step_000000005.safetensors").read_bytes() == b"half of a checkpoint"
    assert foreign.exists()


def test_damaged_file_is_named(tmp_path: Path):
    folder = Checkpoints(str(tmp_path), keep=2)
    folder.save(checkpoint(5))
    path = tmp_path / "step_000000005.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"step_000000005.safetensors is damaged"):
        folder.newest()
