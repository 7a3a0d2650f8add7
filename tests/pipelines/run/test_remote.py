"""A suite whose tokens, stores and checkpoints are in a bucket: the release of a local run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scopeworks.console import RETRY
from scopeworks.pipelines.run.runner import run_suite
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.store.place.locate import locate
from scopeworks.tests.pipelines.small_suite import files_below, suite, write_suite
from scopeworks.tests.store.clouds import BUCKET

pytestmark = [pytest.mark.slow, pytest.mark.emulator]

URL = f"gs://{BUCKET}/lab"
HEAD = f'tokens = "{URL}/tokens"\nstores = "{URL}/stores"\ncheckpoints = "{URL}/checkpoints"'


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> dict[str, bytes]:
    """The release of a run on the local disk."""
    folder = tmp_path_factory.mktemp("local")
    run_suite(suite(folder))
    return files_below(folder / "out" / "release")


def begin(path: Path, options: dict[str, object], *more: str) -> subprocess.Popen[str]:
    """A process of the suite."""
    flags = [f"--storage-option={key}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "scopeworks", "run", str(path), *more, *flags]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, env=env)


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds, for a minute at most."""
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to hold")


def test_shares_in_a_bucket_with_one_of_each_step_killed(local, bucket, tmp_path):
    path = write_suite(tmp_path, head=HEAD)
    shares = {"tokenize": 2, "harvest": 2, "train": 2, "evaluate": 1, "release": 1, "report": 1}
    for step, count in shares.items():
        waiting, killed, tries = list(range(count)), False, 0
        while waiting:
            tries += 1
            assert tries < 8
            tasks = [begin(path, bucket, "--only", step, f"--share={i}/{count}") for i in waiting]
            if not killed and step != "report":
                record = tmp_path / "out" / "steps" / f"{step}.{waiting[-1]}.json"
                record = record if count > 1 else record.with_name(f"{step}.json")
                wait_for(record.is_file)
                tasks[-1].send_signal(signal.SIGKILL)
                killed = True
            for task in tasks:
                task.communicate(timeout=300)
                assert task.returncode in (0, RETRY, -signal.SIGKILL)
            waiting = [i for i, task in zip(waiting, tasks, strict=True) if task.returncode]
    assert files_below(tmp_path / "out" / "release") == local
    stored = locate(URL, bucket)
    assert stored.children() == ["checkpoints", "stores", "tokens"]


def test_dask_on_a_bucket_with_a_worker_killed(local, bucket, tmp_path):
    from distributed import LocalCluster

    path = write_suite(tmp_path, head=HEAD)
    made: Any = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with made as cluster:
        process = begin(path, bucket, "--dask", cluster.scheduler_address, "--until", "harvest")
        wait_for(lambda: bool(locate(f"{URL}/stores", bucket).children()))
        worker = next(iter(cluster.workers.values()))
        os.kill(worker.process.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    run_suite(SuiteFile(path, (), bucket))
    assert files_below(tmp_path / "out" / "release") == local
