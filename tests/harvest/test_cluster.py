"""Harvest on Dask workers: the same bytes as one process, whatever happens to the workers."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from scopeworks.harvest import cluster
from scopeworks.harvest.harvest import HarvestSettings, harvest
from scopeworks.harvest.tokenize import TokenizeSettings, tokenize
from scopeworks.store import ActivationStore
from scopeworks.store.verify import verify

TIMEOUT_S = 600


@pytest.fixture(scope="module")
def tokens_dir(model_dir, tmp_path_factory):
    folder, out = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("out") / "tokens"
    (folder / "a.txt").write_text("".join(f"line {i}, of many\n" for i in range(900)))
    tokenize(
        TokenizeSettings(
            model=str(model_dir), text=[str(folder)], out=str(out), context=64, held_out=0.0
        )
    )
    return out


def settings(model_dir, tokens_dir, store, **changes) -> HarvestSettings:
    values = {"site": ["resid_post.*"], "dtype": "float32", "device": "cpu", "bucket_rows": 500}
    return HarvestSettings(
        model=str(model_dir), tokens=str(tokens_dir), store=str(store), **(values | changes)
    )


def files(folder) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def scheduler(monkeypatch):
    """The address of a scheduler with two workers in this process."""
    from distributed import LocalCluster

    cluster._job_here.cache_clear()
    local: Any = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    )
    with local:
        yield local.scheduler_address


def test_dask_workers_write_what_one_process_writes(model_dir, tokens_dir, tmp_path, scheduler):
    harvest(settings(model_dir, tokens_dir, tmp_path / "alone"))
    harvest(settings(model_dir, tokens_dir, tmp_path / "dask", dask=scheduler))
    assert len(list((tmp_path / "dask" / "commits").iterdir())) > 20
    assert files(tmp_path / "dask") == files(tmp_path / "alone")


def test_dask_refuses_a_worker_with_another_model(
    model_dir, other_model_dir, tokens_dir, tmp_path, scheduler, monkeypatch
):
    from scopeworks.harvest import harvest as module

    plain = module.prepare
    calls = []

    def prepare(given):
        calls.append(1)
        elsewhere = given.model_copy(update={"model": str(other_model_dir)})
        return plain(given if len(calls) == 1 else elsewhere)

    monkeypatch.setattr(module, "prepare", prepare)
    with pytest.raises(ValueError, match=r"every worker must have the same model.*fingerprint"):
        harvest(settings(model_dir, tokens_dir, tmp_path / "store", dask=scheduler))
    assert not ActivationStore.open(tmp_path / "store").rows


def test_dask_scheduler_that_does_not_answer_is_an_error(
    model_dir, tokens_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, "_CONNECT_S", 1)
    with pytest.raises(OSError, match=r"tcp://127\.0\.0\.1:9 does not answer within 1 s"):
        harvest(settings(model_dir, tokens_dir, tmp_path / "s", dask="tcp://127.0.0.1:9"))


@pytest.mark.parametrize("where", ["local:0", "local", "nowhere.json"])
def test_dask_must_be_a_cluster(where):
    with (
        pytest.raises(ValueError, match="dask must be local:N, a scheduler's address"),
        cluster.connect(where),
    ):
        pass


@pytest.mark.slow
def test_dask_worker_killed_three_times_changes_nothing(model_dir, tokens_dir, tmp_path):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    harvest(settings(model_dir, tokens_dir, alone))
    code = (
        "import sys\nfrom scopeworks.harvest.harvest import HarvestSettings, harvest\n"
        "if __name__ == '__main__':\n"
        "    harvest(HarvestSettings.model_validate_json(sys.argv[1]))\n"
    )
    (tmp_path / "run.py").write_text(code)
    wanted = settings(model_dir, tokens_dir, killed, dask="local:2").model_dump_json()
    driver = subprocess.Popen([sys.executable, str(tmp_path / "run.py"), wanted])
    try:
        for n_committed in (1, 6, 12):
            wait_for_commits(killed, n_committed, driver)
            kill_a_worker(driver.pid)
        assert driver.wait(TIMEOUT_S) == 0
    finally:
        driver.kill()
    assert files(killed) == files(alone)
    assert not verify(killed).problems


def wait_for_commits(store: Path, n: int, driver: subprocess.Popen) -> None:
    """Until so many buckets are committed."""
    deadline = time.monotonic() + TIMEOUT_S
    while len(list(store.glob("commits/*/zarr.json"))) < n:
        assert driver.poll() is None, "the harvest ended before it could be disturbed"
        assert time.monotonic() < deadline, "the harvest makes no progress"
        time.sleep(0.01)


def kill_a_worker(driver: int) -> None:
    """Kills one worker process of a driver."""
    for child in psutil.Process(driver).children(recursive=True):
        if "--multiprocessing-fork" in child.cmdline():
            child.send_signal(signal.SIGKILL)
            return
    raise AssertionError("the harvest has no worker process")
