"""TensorBoard and W&B: lines arrive without a network, and a missing package is one line."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace

import pytest

from scopeworks.train.run.trainer import run
from scopeworks.train.settings import TrainSettings

Make = Callable[..., TrainSettings]


def test_tensorboard_gets_every_line(settings: Make):
    pytest.importorskip("tensorboard", reason="needs the extra `tensorboard`")
    reader = import_module("tensorboard.backend.event_processing.event_accumulator")
    (out,) = run([settings(tensorboard=True)])
    events = reader.EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert {"l0", "fvu", "lr", "sparsity"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("fvu")] == [10, 20, 30]


@pytest.mark.slow
def test_wandb_logs_offline(settings: Make, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb", reason="needs the extra `wandb`")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    members = [settings("a", wandb_project="p"), settings("b", seed=1, wandb_project="p")]
    for out in run(members):
        (file,) = (out / "wandb").glob("offline-run-*/run-*.wandb")
        assert b"theta_50" in file.read_bytes()


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_missing_package_is_named(settings: Make, monkeypatch: pytest.MonkeyPatch, package: str):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    asked = {"tensorboard": {"tensorboard": True}, "wandb": {"wandb_project": "p"}}
    monkeypatch.delenv("WANDB_MODE", raising=False)
    one = settings(**asked[package])
    with pytest.raises(ValueError, match=rf"{package} must be installed.*scopeworks\[{package}\]"):
        run([one])
    assert not one.out.exists()
    run([settings()])  # the folder is nobody's


def test_wandb_that_is_disabled_is_not_needed(settings: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (out,) = run([settings(wandb_project="p")])
    assert not (out / "wandb").exists()


def test_wandb_takes_its_own_switch_and_its_errors_are_one_line(
    settings: Make, monkeypatch: pytest.MonkeyPatch
):
    class Error(Exception):
        """Stands for wandb.Error."""

    asked: dict[str, object] = {}

    def init(**options: object) -> None:
        asked.update(options)
        raise Error("No API key configured\nUse `wandb login`")

    fake = SimpleNamespace(Error=Error, init=init)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(
        ValueError, match=r"wandb must be ready .*No API key configured; run wandb l"
    ):
        run([settings(wandb_project="p")])
    assert asked["mode"] == "online"
