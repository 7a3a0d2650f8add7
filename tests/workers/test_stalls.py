"""Tasks that take too long, on a clock of the test's own."""

from scopeworks.workers.stalls import Stalls


def test_a_task_stalls_after_its_time_on_one_worker_and_is_named_once():
    stalls = Stalls(10)
    assert stalls.look({"w1": ["a"], "w2": ["b"]}, 0.0) == []
    assert stalls.look({"w1": ["a"], "w2": ["c"]}, 9.0) == []
    assert stalls.look({"w1": ["a"], "w2": ["c"]}, 11.0) == [("a", "w1")]
    assert stalls.look({"w1": ["a"], "w2": ["c"]}, 12.0) == []


def test_a_task_that_changed_its_worker_begins_anew():
    stalls = Stalls(10)
    stalls.look({"w1": ["a"], "w2": []}, 0.0)
    stalls.look({"w1": [], "w2": ["a"]}, 9.0)
    assert stalls.look({"w1": [], "w2": ["a"]}, 18.0) == []
    assert stalls.look({"w1": [], "w2": ["a"]}, 20.0) == [("a", "w2")]


def test_tasks_that_are_known_to_take_long_get_more_time():
    stalls = Stalls(10)
    stalls.look({"w1": ["a"], "w2": ["b"]}, 0.0)
    stalls.finished("a", 8.0)
    assert stalls.look({"w1": [], "w2": ["b"]}, 39.0) == []
    assert stalls.look({"w1": [], "w2": ["b"]}, 41.0) == [("b", "w2")]
