"""Silent workers: named when the scheduler has not heard from them for the limit."""

import dask.config
import pytest

from scopeworks.workers.cluster import _silent_s
from scopeworks.workers.silence import Silence


@pytest.mark.parametrize(
    ("ttl", "limit_s"), [("5 minutes", 300), ("20 minutes", 1200), (None, 1e999)]
)
def test_the_limit_is_dasks_own_if_that_was_raised(ttl: str | None, limit_s: float):
    with dask.config.set({"distributed.scheduler.worker-ttl": ttl}):
        assert _silent_s() == limit_s


def test_a_worker_is_silent_after_its_time_by_this_process_clock():
    silence = Silence(10)
    assert silence.look({"w1": 1e9, "w2": 1e9}, 1.0) == []
    assert silence.look({"w1": 1e9, "w2": 1e9 + 3}, 4.0) == []
    assert silence.look({"w1": 1e9, "w2": 1e9 + 3}, 8.0) == []
    assert silence.look({"w1": 1e9, "w2": 1e9 + 9}, 11.5) == ["w1"]
    assert silence.look({"w2": 1e9 + 9}, 16.0) == []


def test_a_process_that_was_halted_itself_begins_again():
    silence = Silence(10)
    silence.look({"w": 1.0}, 1.0)
    assert silence.look({"w": 1.0}, 100.0) == []
    assert silence.look({"w": 1.0}, 104.0) == []
    assert silence.look({"w": 2.0}, 108.0) == []
    assert silence.look({"w": 2.0}, 113.0) == []
