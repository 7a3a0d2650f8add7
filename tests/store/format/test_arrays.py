"""Writing a shard: chunks in their order whoever encodes them when, and nobody at work after it."""

import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
import pytest

from scopeworks.store.format.arrays import ArrayLayout, write_shard
from scopeworks.store.format.chunks.codecs import PRESETS
from scopeworks.store.place.local import LocalFiles
from scopeworks.store.read.array_reader import ArrayReader

LAYOUT = ArrayLayout("sites/a.0", 960, 8, 32, 960, PRESETS["exact"])
ROWS = np.arange(960 * 8, dtype="<u2").reshape(960, 8)


class AtOnce(Executor):
    """Does the work when it is submitted: as far ahead of the writer as can be."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("pool", [AtOnce(), ThreadPoolExecutor(3)])
def test_chunks_keep_their_bytes_however_far_ahead_they_are_made(tmp_path, pool):
    place = LocalFiles(tmp_path)
    record = write_shard(place, LAYOUT, 0, 950, lambda start, stop: ROWS[start:stop], pool)
    reader = ArrayReader(place, LAYOUT, lambda _shard: record.n_bytes)
    np.testing.assert_array_equal(reader.read_rows(0, 950), ROWS[:950])
    assert not reader.read_rows(950, 960).any()
    pool.shutdown()


def test_after_a_failed_write_nobody_looks_at_the_rows(tmp_path):
    looking, lock = 0, threading.Lock()

    def fetch(start: int, stop: int) -> np.ndarray:
        nonlocal looking
        with lock:
            looking += 1
        time.sleep(0.02)
        with lock:
            looking -= 1
        return ROWS[start:stop]

    class Full(LocalFiles):
        def write(self, key, parts):
            next(iter(parts))
            raise OSError(28, "No space left on device")

    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(OSError, match="No space left"):
            write_shard(Full(tmp_path), LAYOUT, 0, 960, fetch, pool)
        assert looking == 0
        assert pool._work_queue.empty()


def test_chunks_are_counted_in_their_order_though_the_first_take_longest(tmp_path):
    counted: list[int] = []

    class Firsts:
        def of(self, stored: np.ndarray) -> int:
            return int(stored[0, 0]) // (32 * 8)

        def add(self, part: int) -> None:
            counted.append(part)

    def fetch(start: int, stop: int) -> np.ndarray:
        time.sleep(0.03 if start // 32 % 4 == 0 else 0)
        return ROWS[start:stop]

    with ThreadPoolExecutor(4) as pool:
        write_shard(LocalFiles(tmp_path), LAYOUT, 0, 960, fetch, pool, Firsts())
    assert counted == list(range(30))
