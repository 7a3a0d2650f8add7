"""Each thing is asked once; nonsense again, then given up; what was answered is kept."""

import threading
from collections import Counter
from pathlib import Path

import pytest

from scopeworks.evaluate.latents.explain.asking.answers import Answers
from scopeworks.evaluate.latents.explain.asking.asker import Asker, Question, RequestEstimate
from scopeworks.evaluate.latents.explain.asking.request import Answer, NonsenseError, Request
from scopeworks.evaluate.latents.explain.asking.settings import AskingSettings

SETTINGS = AskingSettings(endpoint="http://nowhere", llm="stub", parallel=8)


class Stub:
    """A language model that answers by a rule and counts."""

    name, parallel = "stub", 8

    def __init__(self, rule):
        self.rule, self.asked, self.lock = rule, Counter(), threading.Lock()
        self.stopped = False

    def answer(self, request: Request) -> Answer:
        with self.lock:
            self.asked[request.key] += 1
        return Answer(self.rule(request), 5, 2)

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        """Nothing is open."""


def question(text: str) -> Question:
    return Question((("user", text),), whole)


def whole(answer: str) -> int:
    if not answer.isdigit():
        raise NonsenseError("no number")
    return int(answer)


def user(request: Request) -> str:
    return request.messages[-1][1]


def test_equal_questions_are_asked_once_even_side_by_side(tmp_path: Path):
    model = Stub(user)
    asker = Asker(model, Answers(tmp_path), SETTINGS)
    found = asker.ask_all([question(str(i % 10)) for i in range(200)], "asking")
    assert found == [i % 10 for i in range(200)]
    assert set(model.asked.values()) == {1} and len(model.asked) == 10
    assert asker.counts.asked == 10 and asker.counts.tokens_in == 50
    again = Asker(model, Answers(tmp_path), SETTINGS)
    assert again.ask_all([question("3"), question("11")], "asking") == [3, 11]
    assert (again.counts.asked, again.counts.kept) == (1, 1)


def test_nonsense_is_asked_again_with_another_seed_and_then_given_up(tmp_path: Path):
    def rule(request: Request) -> str:
        return "7" if user(request) == "good" and request.seed == 2 else "what?"

    model = Stub(rule)
    asker = Asker(model, Answers(tmp_path), SETTINGS)
    assert asker.ask_all([question("good"), question("bad")], "asking") == [7, None]
    assert asker.counts.nonsense == 5 and asker.counts.failed == 1
    again = Asker(model, Answers(tmp_path), SETTINGS)
    assert again.ask_all([question("good"), question("bad")], "asking") == [7, None]
    assert sum(model.asked.values()) == 6 and again.counts.failed == 1


def test_a_run_that_fails_keeps_what_was_answered_and_continues(tmp_path: Path):
    broken = True

    def rule(request: Request) -> str:
        if broken and user(request) == "30":
            raise OSError("the endpoint is gone")
        return user(request)

    model = Stub(rule)
    questions = [question(str(i)) for i in range(60)]
    with pytest.raises(OSError, match="the endpoint is gone"):
        Asker(model, Answers(tmp_path), SETTINGS).ask_all(questions, "asking")
    assert model.stopped
    kept = len(list(tmp_path.glob("*/*.json")))
    assert 0 < kept < 60
    broken = False
    assert Asker(model, Answers(tmp_path), SETTINGS).ask_all(questions, "asking") == list(range(60))
    assert all(n == 1 for key, n in model.asked.items() if n != 2)
    assert sorted(model.asked.values())[-2:] == [1, 2]  # the one that failed


def test_an_estimate_counts_what_is_not_kept(tmp_path: Path):
    model, answers = Stub(user), Answers(tmp_path)
    Asker(model, answers, SETTINGS).ask_all([question("1"), question("nonsense")], "asking")
    found = RequestEstimate()
    questions = [question(text) for text in ("1", "nonsense", "new", "new")]
    found.add(questions, "stub", answers, SETTINGS, len)
    assert (found.requests, found.kept, found.tokens_in) == (1, 4, 3)
    priced = SETTINGS.model_copy(update={"price_in": 1e6, "price_out": 1e6})
    assert found.lines(priced, "letters")[1:] == [
        "tokens: 3 to be read (counted by letters), at most 512 to be written",
        "price: $3.00 for what is read, at most $515.00 in all",
    ]
    assert "not known" in found.lines(SETTINGS, "letters")[2]


def test_a_damaged_answer_is_one_line(tmp_path: Path):
    model, answers = Stub(lambda _: "1"), Answers(tmp_path)
    Asker(model, answers, SETTINGS).ask_all([question("1")], "asking")
    (path,) = tmp_path.glob("*/*.json")
    data = path.read_bytes()
    for damaged in (data[:-20], data.replace(b'"1"', b'"2"'), b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"\.json is damaged; remove it, and the question"):
            Asker(model, answers, SETTINGS).ask_all([question("1")], "asking")
