"""Harvest on Dask workers: the same bytes as one process, whatever happens to the workers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Timer
from typing import Any

import psutil
import pytest

from scopeworks.harvest.rows import on_dask as bucket_tasks
from scopeworks.harvest.rows import run as rows_run
from scopeworks.harvest.rows.run import harvest_rows
from scopeworks.harvest.settings import HarvestSettings, to_worker
from scopeworks.harvest.tokens import on_dask as part_tasks
from scopeworks.harvest.tokens import text_parts as parts
from scopeworks.harvest.tokens.run import TokenizeSettings, tokenize_text
from scopeworks.store import ActivationStore
from scopeworks.store.tools.verify import verify_store
from scopeworks.workers import cluster

TIMEOUT_S = 600


@pytest.fixture(scope="module")
def tokens_dir(model_dir, tmp_path_factory):
    folder, out = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("out") / "tokens"
    (folder / "a.txt").write_text("".join(f"line {i}, of many\n" for i in range(900)))
    tokenize_text(
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

    bucket_tasks._job_here.cache_clear()
    part_tasks._tokenizer_here.cache_clear()
    local: Any = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    )
    with local:
        yield local.scheduler_address


def test_dask_workers_write_what_one_process_writes(model_dir, tokens_dir, tmp_path, scheduler):
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "alone"))
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "dask", dask=scheduler))
    assert len(list((tmp_path / "dask" / "commits").iterdir())) > 20
    assert files(tmp_path / "dask") == files(tmp_path / "alone")


class StallingLock:
    """The workers' lock; the second to ask waits before it, as a stalled worker would."""

    def __init__(self):
        self.lock, self.go_on, self.asked = Lock(), Event(), 0

    def __enter__(self):
        self.asked += 1
        if self.asked == 2:
            self.go_on.wait(TIMEOUT_S)
            raise RuntimeError("nobody waits for this bucket any more")
        self.lock.acquire()

    def __exit__(self, *_exception: object):
        self.lock.release()


def test_dask_bucket_of_a_stalled_worker_is_done_by_another(
    model_dir, tokens_dir, tmp_path, scheduler, monkeypatch
):
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "alone", rows=2000))
    stalling = StallingLock()
    monkeypatch.setattr(bucket_tasks, "STALLED_S", 1.0)
    monkeypatch.setattr(bucket_tasks, "_ONE_AT_A_TIME", stalling)
    try:
        harvest_rows(settings(model_dir, tokens_dir, tmp_path / "dask", rows=2000, dask=scheduler))
    finally:
        stalling.go_on.set()
    assert stalling.asked > ActivationStore.open(tmp_path / "dask").spec.n_buckets
    assert files(tmp_path / "dask") == files(tmp_path / "alone")


def test_dask_scheduler_file_names_the_scheduler_and_its_dashboard_is_shown(
    tmp_path, scheduler, capsys
):
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": scheduler}))
    with cluster.connect(str(tmp_path / "scheduler.json")) as client:
        assert client.submit(sum, [1, 2]).result() == 3
    assert "dask dashboard: http://" in capsys.readouterr().err


def test_dask_worker_that_joins_late_does_what_is_left(
    model_dir, tokens_dir, tmp_path, monkeypatch, capsys
):
    from distributed import LocalCluster

    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "alone", rows=2000))
    bucket_tasks._job_here.cache_clear()
    monkeypatch.setattr(cluster, "_ALONE_S", 0.2)
    local: Any = LocalCluster(
        n_workers=0, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    )
    with local:
        joined = Timer(1.0, local.scale, [1])
        joined.start()
        address = local.scheduler_address
        harvest_rows(settings(model_dir, tokens_dir, tmp_path / "dask", rows=2000, dask=address))
        joined.join()
    said = [line for line in capsys.readouterr().err.splitlines() if "no workers" in line]
    assert said == [
        f"dask scheduler {address} has no workers; waiting for one: dask worker {address}"
    ]
    assert files(tmp_path / "dask") == files(tmp_path / "alone")


@contextmanager
def own_cluster(folder: Path, *, worker: bool) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address and process of a scheduler elsewhere, with or without a worker, both of which
    run in another folder."""
    file = folder / "scheduler.json"
    # Modules that the commands themselves start from, told apart by their last word.
    module = [sys.executable, "-m", "distributed.cli.dask_"]
    to_file = ["--scheduler-file", str(file), "--no-dashboard"]
    quiet: dict[str, Any] = {"cwd": folder, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [*module[:2], module[2] + "scheduler", "--host", "127.0.0.1", "--port", "0", *to_file],
        **quiet,
    )
    processes = [scheduler]
    try:
        wait_for_files(folder, "scheduler.json", 1, scheduler)
        while not file.read_text().rstrip().endswith("}"):  # Dask writes it in place
            time.sleep(0.01)
        address = json.loads(file.read_text())["address"]
        if worker:
            flags = ["--no-nanny", "--nthreads", "1", "--host", "127.0.0.1"]
            command = [*module[:2], module[2] + "worker", address, *flags]
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
            processes.append(subprocess.Popen(command, env=environment, **quiet))
        yield address, scheduler
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def test_to_worker_makes_local_paths_absolute(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    text = ["a/*.txt", "-", "hf:some/data", "gs://bucket/a", "/b.txt"]
    sent = json.loads(to_worker(TokenizeSettings(model="model", text=text, out="o/", tokens=5)))
    assert sent["text"] == [f"{tmp_path}/a/*.txt", *text[1:]]
    assert (sent["model"], sent["out"]) == (f"{tmp_path}/model", f"{tmp_path}/o")
    assert sent["tokens"] == 5
    given = settings("google/gemma-2-2b", "t", "s3://bucket/store")
    sent = json.loads(to_worker(given))
    assert (sent["model"], sent["store"]) == (given.model, given.store)
    assert sent["tokens"] == f"{tmp_path}/t"


@pytest.mark.slow
def test_dask_worker_in_another_folder_writes_where_the_command_says(
    model_dir, tmp_path, monkeypatch
):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("some words, " * 200)
    (tmp_path / "model").symlink_to(model_dir)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with own_cluster(tmp_path / "elsewhere", worker=True) as (address, _):
        tokenize_text(text_settings("model", "text", "tokens", held_out=0.0, dask=address))
        report = harvest_rows(settings("model", "tokens", "store", dask=address))
    assert ActivationStore.open(tmp_path / "store").rows == report.spec.rows > 1000
    assert not verify_store(tmp_path / "store").problems
    assert report.spec.provenance["model"] == "model"
    left = {path.name for path in (tmp_path / "elsewhere").iterdir()}
    assert not left & {"model", "text", "tokens", "tokens.parts", "store"}


@pytest.mark.parametrize("stage", ["tokenize", "harvest"])
def test_dask_scheduler_that_dies_is_one_line(
    model_dir, tokens_dir, text_dir, tmp_path, monkeypatch, stage
):
    (tmp_path / "elsewhere").mkdir()
    with own_cluster(tmp_path / "elsewhere", worker=False) as (address, scheduler):
        monkeypatch.setattr(cluster, "_CONNECT_S", 3)
        killed = Timer(2.0, scheduler.kill)
        killed.start()
        with pytest.raises(OSError, match=rf"{address} has gone and did not come back within 3 s"):
            if stage == "tokenize":
                tokenize_text(text_settings(model_dir, text_dir, tmp_path / "o", dask=address))
            else:
                harvest_rows(settings(model_dir, tokens_dir, tmp_path / "s", dask=address))
        killed.join()


def text_settings(model_dir, text, out, **changes) -> TokenizeSettings:
    values = {"context": 32, "held_out": 0.3, "skip_bad": True} | changes
    return TokenizeSettings(model=str(model_dir), text=[str(text)], out=str(out), **values)


@pytest.fixture
def text_dir(tmp_path) -> Path:
    """Sixty documents, and rows of which some are broken."""
    folder = tmp_path / "text"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i:02}.txt").write_text(f"This is document {i}. " * (9 + i // 3))
    (folder / "zz.jsonl").write_text('{"text": "a row of text"}\n{"no": 1}\n' * 40)
    return folder


@pytest.mark.parametrize("changes", [{}, {"tokens": 4000}])
def test_dask_workers_tokenize_what_one_process_tokenizes(
    model_dir, text_dir, tmp_path, scheduler, monkeypatch, changes
):
    monkeypatch.setattr(parts, "PART_BYTES", 2000)
    alone = tokenize_text(text_settings(model_dir, text_dir, tmp_path / "alone", **changes))
    wanted = text_settings(model_dir, text_dir, tmp_path / "dask", dask=scheduler, **changes)
    assert str(tokenize_text(wanted)) == str(alone)
    assert files(tmp_path / "dask") == files(tmp_path / "alone")
    assert not (tmp_path / "dask.parts").exists()


def test_dask_broken_text_is_one_line_and_keeps_what_was_tokenized(
    model_dir, text_dir, tmp_path, scheduler, monkeypatch
):
    monkeypatch.setattr(parts, "PART_BYTES", 2000)
    wanted = text_settings(model_dir, text_dir, tmp_path / "o", dask=scheduler, skip_bad=False)
    with pytest.raises(ValueError, match=r"zz\.jsonl:2 must have a field 'text'.*--skip-bad"):
        tokenize_text(wanted)
    assert len(list((tmp_path / "o.parts").iterdir())) > 3


def test_dask_refuses_a_worker_with_another_tokenizer(
    model_dir, text_dir, tmp_path, scheduler, monkeypatch
):
    from scopeworks.harvest.tokens import chat

    monkeypatch.setattr(chat, "identity_of", lambda _tokenizer, _packing: "another")
    wanted = text_settings(model_dir, text_dir, tmp_path / "out", dask=scheduler)
    with pytest.raises(ValueError, match=r"every worker must have the same tokenizer .*\(another"):
        tokenize_text(wanted)


def test_dask_has_no_effect_on_a_stream(model_dir, tmp_path):
    with pytest.raises(ValueError, match=r"dask has no effect on -, a stream"):
        tokenize_text(text_settings(model_dir, "-", tmp_path / "out", dask="local:2"))


def test_dask_refuses_a_worker_with_another_model(
    model_dir, other_model_dir, tokens_dir, tmp_path, scheduler, monkeypatch
):
    plain = rows_run.prepare
    calls = []

    def prepare(given, begun=None, lm=None):
        calls.append(1)
        elsewhere = given.model_copy(update={"model": str(other_model_dir)})
        return plain(given if len(calls) == 1 else elsewhere, begun, lm)

    monkeypatch.setattr(rows_run, "prepare", prepare)
    monkeypatch.setattr(bucket_tasks, "prepare", prepare)
    with pytest.raises(ValueError, match=r"every worker must have the same model.*fingerprint"):
        harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store", dask=scheduler))
    assert not ActivationStore.open(tmp_path / "store").rows


def test_dask_scheduler_that_does_not_answer_is_an_error(
    model_dir, tokens_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, "_CONNECT_S", 1)
    with pytest.raises(OSError, match=r"tcp://127\.0\.0\.1:9 does not answer within 1 s"):
        harvest_rows(settings(model_dir, tokens_dir, tmp_path / "s", dask="tcp://127.0.0.1:9"))


@pytest.mark.slow
def test_dask_worker_killed_three_times_changes_nothing(model_dir, tokens_dir, tmp_path):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    harvest_rows(settings(model_dir, tokens_dir, alone))
    code = (
        "import sys\nfrom scopeworks.harvest.rows.run import HarvestSettings, harvest_rows\n"
        "if __name__ == '__main__':\n"
        "    harvest_rows(HarvestSettings.model_validate_json(sys.argv[1]))\n"
    )
    (tmp_path / "run.py").write_text(code)
    wanted = settings(model_dir, tokens_dir, killed, dask="local:2").model_dump_json()
    driver = subprocess.Popen([sys.executable, str(tmp_path / "run.py"), wanted])
    try:
        for n_committed in (1, 6, 12):
            wait_for_files(killed, "commits/*/zarr.json", n_committed, driver)
            kill_a_worker(driver.pid)
        assert driver.wait(TIMEOUT_S) == 0
    finally:
        driver.kill()
    assert files(killed) == files(alone)
    assert not verify_store(killed).problems


@pytest.mark.slow
def test_dask_tokenizing_killed_in_the_middle_ends_with_the_same_bytes(
    model_dir, text_dir, tmp_path
):
    """A worker first, then the command itself; run again without workers."""
    line = json.dumps({"text": "many words in a row of text " * 20}) + "\n"
    for i in range(12):
        (text_dir / f"y{i}.jsonl").write_text(line * (parts.PART_BYTES // len(line) // 4 + i))
    tokenize_text(text_settings(model_dir, text_dir, tmp_path / "alone"))
    code = (
        "import sys\nfrom scopeworks.harvest.tokens.run import TokenizeSettings, tokenize_text\n"
        "if __name__ == '__main__':\n"
        "    tokenize_text(TokenizeSettings.model_validate_json(sys.argv[1]))\n"
    )
    (tmp_path / "run.py").write_text(code)
    wanted = text_settings(model_dir, text_dir, tmp_path / "killed", dask="local:2")
    command = [sys.executable, str(tmp_path / "run.py"), wanted.model_dump_json()]
    driver = subprocess.Popen(command)
    workers = []
    try:
        wait_for_files(tmp_path, "killed.parts/[0-9a-f]*", 1, driver)
        kill_a_worker(driver.pid)
        wait_for_files(tmp_path, "killed.parts/[0-9a-f]*", 2, driver)
        workers = psutil.Process(driver.pid).children(recursive=True)
    finally:
        driver.kill()
        driver.wait()
    psutil.wait_procs(workers, timeout=60)  # they end when their scheduler is gone
    tokenize_text(wanted.model_copy(update={"dask": None}))
    assert files(tmp_path / "killed") == files(tmp_path / "alone")


def wait_for_files(folder: Path, pattern: str, n: int, driver: subprocess.Popen) -> None:
    """Until there are so many files."""
    deadline = time.monotonic() + TIMEOUT_S
    while len(list(folder.glob(pattern))) < n:
        assert driver.poll() is None, "the command ended before it could be disturbed"
        assert time.monotonic() < deadline, "the command makes no progress"
        time.sleep(0.01)


def kill_a_worker(driver: int) -> None:
    """Kills one worker process of a driver."""
    for child in psutil.Process(driver).children(recursive=True):
        if "--multiprocessing-fork" in child.cmdline():
            child.send_signal(signal.SIGKILL)
            return
    raise AssertionError("the harvest has no worker process")
