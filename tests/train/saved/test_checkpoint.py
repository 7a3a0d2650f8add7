"""Checkpoints: what is written comes back, damage is an error, only the newest stay."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scopeworks.store.place.local import LocalFiles
from scopeworks.train.kernels import Share
from scopeworks.train.run.trainer import run
from scopeworks.train.saved.checkpoint import Checkpoint, Checkpoints
from scopeworks.train.settings import TrainSettings


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


@pytest.mark.parametrize(
    ("entry", "value", "text"),
    [
        ("step", "x", "step: input should be a valid integer"),
        ("step", -1, "step: input should be greater than 0"),
        ("stream", [1], "stream: input should be"),
        ("settings", None, "settings: input should be"),
        ("settings", {"steps": "many"}, "must: steps: input should be"),
        ("store", 7, "store: input should be"),
        ("store", {}, "rows is missing"),
        ("means", {"since": 0}, "n_updates is missing"),
        ("used", {"lr": -1, "sparsity": 0, "path": ""}, "lr: input should be"),
    ],
)
def test_record_with_wrong_types_is_refused_in_one_line(
    settings: Callable[..., TrainSettings], entry: str, value: object, text: str
):
    one = settings(steps=10, checkpoint_every=5)
    run([one])
    (one.out / "sae.safetensors").unlink()
    folder = Checkpoints(one.checkpoint_place, keep=2)
    newest = folder.newest()
    assert newest is not None
    folder.save(Checkpoint(newest.step, newest.tensors, newest.record | {entry: value}))
    with pytest.raises(ValueError, match=rf"checkpoint .*step_000000010.*{text}"):
        run([one])


def test_checkpoint_of_other_shapes_is_refused(settings: Callable[..., TrainSettings]):
    one = settings(steps=10, checkpoint_every=5)
    run([one])
    (one.out / "sae.safetensors").unlink()
    folder = Checkpoints(one.checkpoint_place, keep=2)
    newest = folder.newest()
    assert newest is not None
    for name, tensor in (("rows_idle", torch.zeros(3)), ("parameters.theta", torch.zeros(3))):
        folder.save(Checkpoint(newest.step, newest.tensors | {name: tensor}, newest.record))
        with pytest.raises(ValueError, match=r"must be of this run: .*3"):
            run([one])
    lacking = {name: t for name, t in newest.tensors.items() if name != "firing"}
    folder.save(Checkpoint(newest.step, lacking, newest.record))
    with pytest.raises(ValueError, match="must be of this run: 'firing'"):
        run([one])


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


def of_ranks(folder, theta: float, seed: int = 0) -> Checkpoint:
    """A checkpoint whose latents two ranks have written."""
    shares = [Share(64, 0, 4), Share(64, 4, 8)]
    tensors = {"theta": torch.full((32,), theta), "b_dec": torch.zeros(2)}
    one = Checkpoint(10, tensors, {"step": 10, "stream": {}, "settings": {"seed": seed}})
    for share in shares:
        Checkpoints(str(folder), keep=2).save_part(one, share)
    Checkpoints(str(folder), keep=2).save(one, shares)
    return one


def test_a_part_of_another_run_is_no_part(tmp_path):
    of_ranks(tmp_path / "a", 0.0)
    of_ranks(tmp_path / "b", 1.0, seed=1)
    load = Checkpoints(str(tmp_path / "a"), keep=2).load
    assert load(10).tensors["theta"].tolist() == [0.0] * 64
    name = "step_000000010.shards_04_08.safetensors"
    ranks_other = tmp_path / "a" / "step_000000010.shards_00_04.safetensors"
    for other in (tmp_path / "b" / name, ranks_other):
        (tmp_path / "a" / name).write_bytes(other.read_bytes())
        text = rf"its part {name} is another run's, moment's or rank's"
        with pytest.raises(ValueError, match=text):
            load(10)


def test_no_record_is_written_where_a_part_is_missing(tmp_path):
    one = of_ranks(tmp_path, 0.0)
    later = Checkpoint(20, one.tensors, one.record | {"step": 20})
    shares = [Share(64, 0, 4), Share(64, 4, 8)]
    there = Checkpoints(str(tmp_path), keep=1)
    there.save_part(later, shares[0])  # the other rank wrote to a disk of its own
    with pytest.raises(OSError, match=r"all ranks see them, but part step_000000020.shards_04_08"):
        there.save(later, shares)
    assert there.steps() == [10] and there.load(10).step == 10
