"""Silent workers: named when the scheduler has not heard from them for the limit."""

from scopeworks.workers.silence import Silence


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
