"""SIGKILL at any moment, and several processes at once: the store ends as if nothing had
happened."""

import multiprocessing
import random
import shutil
import time
from pathlib import Path

import pytest

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.store.making import big_spec, continue_store, fill, rows_of

PROCESSES = multiprocessing.get_context("forkserver")
ALL = [0, 1, 2]
PROCESSES.set_forkserver_preload(["scopeworks.store.write.writer", "scopeworks.tests.store.making"])


def contents(url: Path | str) -> dict[str, bytes]:
    return {str(p.relative_to(url)): p.read_bytes() for p in Path(url).rglob("*") if p.is_file()}


def run(url: Path, buckets: list[int], background: bool, kill_after_s: float | None = None) -> bool:
    """One run in a process of its own; whether it was killed before its end."""
    process = PROCESSES.Process(target=continue_store, args=(str(url), buckets, background))
    process.start()
    process.join(kill_after_s)
    process.kill()
    process.join()
    assert kill_after_s is not None or process.exitcode == 0
    return process.exitcode != 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """An uninterrupted run's bytes, and its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder / "first", ALL, False)  # starts the fork server
    started = time.perf_counter()
    run(folder / "second", ALL, False)
    seconds = time.perf_counter() - started
    assert contents(folder / "first") == contents(folder / "second")
    return contents(folder / "second"), seconds


def check_kills(
    whole: tuple[dict[str, bytes], float],
    folder: Path,
    n: int,
    background: bool,
    begun: Path | None = None,
) -> None:
    """n runs that are killed at a random moment and run again, from nothing or from a store."""
    expected, seconds = whole
    generator, kills = random.Random(n), 0
    for trial in range(3 * n):
        url = folder / str(trial)
        if begun is not None:
            shutil.copytree(begun, url)
        kills += run(url, ALL, background, generator.uniform(0, seconds))
        run(url, ALL, background)
        assert contents(url) == expected
        if kills == n:
            return
    raise AssertionError(f"only {kills} of {3 * n} runs were killed before they ended")


@pytest.mark.parametrize("background", [False, True])
def test_a_killed_harvest_ends_bit_identical(whole, tmp_path, background):
    check_kills(whole, tmp_path, 3, background)


@pytest.mark.slow
@pytest.mark.parametrize("background", [False, True])
def test_twenty_killed_harvests_end_bit_identical(whole, tmp_path, background):
    check_kills(whole, tmp_path, 20, background)


@pytest.mark.parametrize("n", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_growing_store_that_is_killed_ends_bit_identical(whole, tmp_path, n):
    """From two buckets to three, the last of which is short."""
    small, rows = big_spec(2048), rows_of(big_spec())
    with StoreWriter.open(tmp_path / "small", small) as writer:
        for bucket in (0, 1):
            fill(writer, rows, bucket)
    shutil.copytree(tmp_path / "small", tmp_path / "grown")
    run(tmp_path / "grown", ALL, False)
    expected, before = contents(tmp_path / "grown"), {**whole[0]}
    assert expected.pop("zarr.json") != before.pop("zarr.json")
    assert expected == before
    check_kills((contents(tmp_path / "grown"), whole[1]), tmp_path, n, False, tmp_path / "small")


@pytest.mark.parametrize("key", ["zarr.json", "sites/mlp_out.0/zarr.json"])
def test_what_a_killed_growth_left_unfinished_is_removed(tmp_path, key):
    rows = rows_of(big_spec())
    with StoreWriter.open(tmp_path, big_spec(2048)) as writer:
        fill(writer, rows, 0)
    left = (tmp_path / key).with_name(".zarr.json.0123456789ab.partial")
    left.touch()
    with StoreWriter.open(tmp_path, big_spec()):
        assert not left.exists()
    left.touch()
    with StoreWriter.open(tmp_path, big_spec()):  # it had grown, and is continued
        assert not left.exists()


def two_at_once(url: Path) -> None:
    """Two processes create the store and write disjoint buckets at the same time."""
    parts = ([0, 2], [1])
    processes = [
        PROCESSES.Process(target=continue_store, args=(str(url), part, False)) for part in parts
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_two_processes_write_disjoint_buckets(whole, tmp_path, times):
    for i in range(times):
        two_at_once(tmp_path / str(i))
        assert contents(tmp_path / str(i)) == whole[0]
        assert verify_store(tmp_path / str(i)).problems == []
        assert ActivationStore.open(tmp_path / str(i)).complete
