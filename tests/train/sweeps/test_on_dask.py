"""Sweeps on Dask workers: each member's files are those of one trained alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Timer
from typing import Any

import psutil
import pytest
import torch

from scopeworks.store.place.ownership import owned
from scopeworks.train.run.trainer import run
from scopeworks.train.saved.metrics import METRICS_FILE
from scopeworks.train.settings import TrainSettings
from scopeworks.train.sweeps import group_task, on_dask
from scopeworks.train.sweeps.devices import Devices, kind_of
from scopeworks.train.sweeps.group_task import SweepOrder, train_group, versions
from scopeworks.train.sweeps.on_dask import train_on_dask
from scopeworks.train.sweeps.prepare import sent
from scopeworks.train.sweeps.sweep import sweep
from scopeworks.workers import cluster

Make = Callable[..., TrainSettings]
TIMINGS = {"rows_per_s", "waiting_share"}


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two workers in this process."""
    from distributed import LocalCluster

    local: Any = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    )
    with local:
        yield local.scheduler_address


def contents(folder: Path) -> dict[str, Any]:
    """Path in a run's folder -> what it holds, without times and places."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == METRICS_FILE:
            lines = map(json.loads, path.read_text().splitlines())
            found[name] = [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]
        elif name == "config.json":
            found[name] = json.loads(path.read_bytes())
            found[name]["settings"].pop("out")
        elif path.is_file():
            found[name] = path.read_bytes()
    assert found
    return found


def members(make: Make, root: str) -> list[TrainSettings]:
    """Five SAEs on two streams."""
    own = [{"sparsity": 1e-3}, {"sparsity": 3e-3}, {"target_l0": 6.0}, {"seed": 1}, {"batch": 32}]
    return [make(f"{root}/{i}", **values) for i, values in enumerate(own)]


def test_members_on_two_workers_are_those_trained_alone(
    settings: Make, scheduler: str, tmp_path: Path
):
    for one in members(settings, "alone"):
        run([one])
    folders = sweep(members(settings, "dask"), tmp_path / "dask", dask=scheduler)
    assert folders == [tmp_path / "dask" / str(i) for i in range(5)]
    for i in range(5):
        assert contents(tmp_path / "dask" / str(i)) == contents(tmp_path / "alone" / str(i))
    table = json.loads((tmp_path / "dask" / "sweep.json").read_bytes())["members"]
    assert [row["measured"] for row in table] == [True] * 5


def test_lines_of_all_members_come_to_the_command(settings: Make, scheduler: str):
    seen: dict[Path, list[int]] = {}

    def watch(one: TrainSettings, line: dict[str, Any]) -> None:
        seen.setdefault(one.out, []).append(line["step"])

    many = [settings("a"), settings("b", seed=1)]
    train_on_dask([many], Devices(scheduler), watch=watch)
    for one in many:
        assert seen[one.out][:2] == [10, 20]  # the last may come after its task has ended


def test_an_error_in_one_group_is_one_line_and_the_others_are_trained(
    settings: Make, scheduler: str, tmp_path: Path
):
    bad = settings("s/bad", lr=1e30, batch=32)
    with pytest.raises(ValueError, match=r"^loss of \S*/bad must be finite") as raised:
        sweep([bad, settings("s/good")], tmp_path / "s", dask=scheduler)
    assert "\n" not in str(raised.value)
    assert (tmp_path / "s/good/sae.safetensors").is_file()
    assert not (tmp_path / "s/bad/sae.safetensors").exists()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("the device is on fire"), "the device is on fire"),
        (OSError("the disk is on fire"), "the disk is on fire"),
        (RuntimeError("CUDA error: on fire"), "RuntimeError: CUDA error: on fire"),
    ],
)
def test_an_error_that_names_no_member_is_given_its_name(
    settings: Make, scheduler: str, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
):
    def fails(group: list[TrainSettings], *_: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr(group_task, "run", fails)
    with pytest.raises(ValueError, match=rf"^a: {text}; b: {text}$"):
        train_on_dask([[settings("a"), settings("b", seed=1)]], Devices(scheduler))


def test_a_member_that_no_workers_memory_holds_is_refused_before_anything_is_written(
    settings: Make, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(group_task, "free_memory", lambda _device: 2 * 10**6)
    with pytest.raises(ValueError, match=r"memory must hold .* for a \(width 48, batch 64\)"):
        train_on_dask([[settings("a")]], Devices(scheduler))
    assert not (tmp_path / "a").exists()


def test_workers_of_another_version_or_without_the_package_are_refused(
    settings: Make, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told = iter([{"torch": "1"}, {"torch": "2"}, {"torch": "2"}])
    monkeypatch.setattr(on_dask, "versions", lambda: {"torch": "1"})
    monkeypatch.setattr(group_task, "versions", lambda: next(told))
    with pytest.raises(ValueError, match=r"the command's versions, one has torch: '1' → '2'"):
        train_on_dask([[settings("a")]], Devices(scheduler))

    def missing() -> None:
        raise ModuleNotFoundError("No module named 'scopeworks'")

    monkeypatch.setattr(group_task, "versions", missing)
    with pytest.raises(ValueError, match=r"every worker must have the command's scopeworks, one"):
        train_on_dask([[settings("a")]], Devices(scheduler))
    assert not (tmp_path / "a").exists()


def test_a_worker_that_comes_late_and_differs_trains_nothing(
    settings: Make, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    def kind(device: torch.device) -> dict[str, str]:
        asked.append(device.type)
        return {"device": device.type, "numba": "1" if len(asked) <= 2 else "2"}

    monkeypatch.setattr(group_task, "kind_of", kind)
    with pytest.raises(ValueError, match=r"every worker must .* at tcp://\S+ has numba: '1' → '2'"):
        train_on_dask([[settings("a")]], Devices(scheduler))
    assert not (tmp_path / "a").exists()


def test_a_signal_while_there_is_no_worker_ends_the_command(settings: Make, tmp_path: Path):
    from distributed import LocalCluster

    local: Any = LocalCluster(n_workers=0, processes=False, protocol="tcp", dashboard_address=":0")
    with local:
        stopped = Timer(1.0, os.kill, [os.getpid(), signal.SIGINT])
        stopped.start()
        with pytest.raises(KeyboardInterrupt):
            train_on_dask([[settings("a")]], Devices(local.scheduler_address))
        stopped.join()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_checkpoints_and_the_same_command_continues(
    settings: Make, scheduler: str, tmp_path: Path, number: int, code: int
):
    many = {"steps": 300, "log_every": 5, "checkpoint_every": 1000, "keep_checkpoints": 1}
    alone = settings("alone", **many)
    run([alone])

    def stop(_settings: TrainSettings, line: dict[str, Any]) -> None:
        if line["step"] == 5:
            os.kill(os.getpid(), number)

    one = settings("dask", **many)
    with pytest.raises((SystemExit, KeyboardInterrupt)) as stopped:
        train_on_dask([[one]], Devices(scheduler), watch=stop)
    assert getattr(stopped.value, "code", 130) == code
    (checkpoint,) = (one.out / "checkpoints").iterdir()
    assert 5 <= int(checkpoint.stem.removeprefix("step_")) < 300
    train_on_dask([[one]], Devices(scheduler))
    assert contents(one.out) == contents(alone.out)


def test_a_group_whose_command_is_gone_stops_with_a_checkpoint(settings: Make, scheduler: str):
    from distributed import Client

    one = settings("a", steps=100_000, checkpoint_every=100_000)
    kind = kind_of(torch.device("cpu"))
    order = SweepOrder(
        sweep="gone", resume=False, n_threads=1, devices=(), versions=versions(), kind=kind
    )
    client: Any = Client(scheduler)
    begun = client.submit(train_group, order, [0], [sent(one)], pure=False)
    deadline = time.monotonic() + 60
    while not (one.out / METRICS_FILE).is_file():
        assert time.monotonic() < deadline, begun
        time.sleep(0.02)
    client.close()
    while not list((one.out / "checkpoints").glob("step_*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_group_whose_folder_another_process_keeps_is_one_line(
    settings: Make, scheduler: str, monkeypatch: pytest.MonkeyPatch
):
    """As a halted worker does that no nanny can kill."""
    one, prepared = settings("a"), on_dask.prepared
    monkeypatch.setattr(group_task, "STALLED_S", 0.5)
    with ExitStack() as stack:

        def taken(*arguments: Any) -> Any:
            found = prepared(*arguments)
            stack.enter_context(owned(one.out))
            return found

        monkeypatch.setattr(on_dask, "prepared", taken)
        text = rf"^out must be .*/a, which process {os.getpid()} on .* still owns after 0\.5 s"
        with pytest.raises(ValueError, match=text):
            train_on_dask([[one]], Devices(scheduler))


@pytest.mark.slow
def test_a_group_of_a_halted_worker_is_continued_and_said(
    settings: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster, "SILENT_S", 12.0)  # a worker that imports torch is silent too
    many = {"steps": 600, "checkpoint_every": 50}
    alone, halted = settings("alone", **many), []
    run([alone])

    def halt(_settings: TrainSettings, line: dict[str, Any]) -> None:
        if line["step"] >= 200 and not halted:
            halted.append(owner_of(one.out))
            os.kill(halted[0], signal.SIGSTOP)

    one = settings("dask", **many)
    try:
        train_on_dask([[one]], Devices("local:2"), watch=halt)
        assert not psutil.pid_exists(halted[0])
    finally:
        for pid in filter(psutil.pid_exists, halted):
            os.kill(pid, signal.SIGKILL)
    said = capsys.readouterr().err
    assert said.count("has not answered for 12 s") == 1
    assert contents(one.out) == contents(alone.out)


def owner_of(folder: Path) -> int:
    """The process that trains into a folder."""
    return json.loads((folder / ".owner.json").read_bytes())["pid"]


def command(store_url: str, out: Path, *more: str) -> list[str]:
    """A sweep of eight SAEs with a steered λ, and checkpoints seldom enough for lost work."""
    words = [sys.executable, "-m", "scopeworks", "sweep", "--store", store_url, "--out", str(out)]
    words += ["--site", "resid_post.3", "--width", "512", "--steps", "400", "--batch", "128"]
    for price in (4e-4, 6e-4, 1e-3, 2e-3, 3e-3, 4e-3):
        words += ["--sparsity", str(price)]
    words += ["--target-l0", "6", "--target-l0", "12", "--recipe", "auto", "--device", "cpu", *more]
    settings = ["log_every=4", "checkpoint_every=23", "measure_rows=512"]
    return words + [word for pair in settings for word in ("--set", pair)]


def workers(pid: int) -> list[psutil.Process]:
    """The worker processes of a sweep's command."""
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if "--multiprocessing-fork" in " ".join(child.cmdline())]


@pytest.mark.slow
@pytest.mark.parametrize(("allowed", "at"), [("3", (60, 180)), ("0", (120,))])
def test_a_sweep_whose_workers_are_killed_ends_the_same(
    store_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: str,
    at: tuple[int, ...],
):
    """As Dask counts deaths: within what it allows, and beyond, where the group is sent again."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", allowed)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(store_url, whole), check=True)
    with subprocess.Popen(command(store_url, killed, "--dask", "local:2")) as process:
        for step in at:
            deadline = time.monotonic() + 120
            while max((lines(path) for path in killed.glob("*")), default=0) * 4 < step:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            max(workers(process.pid), key=psutil.Process.create_time).kill()
        assert process.wait() == 0
    names = sorted(path.name for path in whole.iterdir() if path.is_dir())
    assert len(names) == 8
    for name in names:
        assert contents(killed / name) == contents(whole / name), name


def lines(run: Path) -> int:
    """Lines of a run's metrics."""
    path = run / METRICS_FILE
    return path.read_bytes().count(b"\n") if path.is_file() else 0
