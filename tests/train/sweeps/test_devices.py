"""Devices: what --dask and --devices mean, and what they refuse."""

from typing import Any

import pytest
import torch

from scopeworks.train.settings import TrainSettings
from scopeworks.train.sweeps.devices import Devices, devices_of


def members(*devices: str) -> list[TrainSettings]:
    values: dict[str, Any] = {"store": "s", "site": "resid_post.1", "width": 64}
    return [
        TrainSettings.model_validate(values | {"out": f"o/{i}", "device": device})
        for i, device in enumerate(devices)
    ]


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_neither_is_this_process():
    assert devices_of(None, None, members("auto")) is None


@pytest.mark.usefixtures("four_gpus")
def test_devices_are_a_local_cluster_whose_workers_see_one_each(monkeypatch):
    found = devices_of(None, "cuda:2, cuda,cpu,cuda:2", members("auto"))
    assert found == Devices("local:4", ("2", "0", "", "2"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,1,GPU-abc")
    found = devices_of(None, "cuda:1,cuda:3", members("auto"))
    assert found == Devices("local:2", ("7", "GPU-abc"))


@pytest.mark.usefixtures("four_gpus")
def test_workers_of_a_local_cluster_take_one_gpu_each_unless_told():
    assert devices_of("local:3", None, members("auto")) == Devices("local:3", ("0", "1", "2"))
    assert devices_of("local:3", None, members("cpu")) == Devices("local:3")
    assert devices_of("tcp://a:1", None, members("auto")) == Devices("tcp://a:1")


def test_without_gpus_workers_see_what_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices_of("local:2", None, members("auto")) == Devices("local:2")


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("dask", "names", "of", "text"),
    [
        ("local:2", "cpu", ("auto",), r"devices must stand without dask, got cpu beside --dask"),
        ("nowhere", None, ("auto",), r"dask must be local:N, a scheduler's address"),
        (None, "cuda:4", ("auto",), r"devices must be there, got cuda:4 on a machine with 4 CUDA"),
        (None, "gpu", ("auto",), r"devices must be cpu, cuda or cuda:N with commas .* got 'gpu'"),
        (None, "cpu,", ("auto",), r"devices must be cpu, cuda or cuda:N with commas .* got ''"),
        (None, "cpu", ("cpu",), r"device has no effect beside devices"),
        ("local:2", None, ("auto", "cpu"), r"device must be equal .*, got auto, cpu"),
    ],
)
def test_what_cannot_be_is_refused(dask, names, of, text):
    with pytest.raises(ValueError, match=text):
        devices_of(dask, names, members(*of))
