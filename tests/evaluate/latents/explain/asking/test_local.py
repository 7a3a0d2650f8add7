"""A transformers model on this machine; the tiny one's answers are nonsense."""

from pathlib import Path

import pytest

from scopeworks.evaluate.latents.explain.asking.answers import Answers
from scopeworks.evaluate.latents.explain.asking.asker import Asker, Question
from scopeworks.evaluate.latents.explain.asking.local import LocalModel
from scopeworks.evaluate.latents.explain.asking.request import Request
from scopeworks.evaluate.latents.explain.asking.settings import AskingSettings
from scopeworks.evaluate.latents.score.scorers.scorer import numbers

MODELS = Path(__file__).parents[5] / "pipelines"


@pytest.mark.parametrize("name", ["tiny_gemma2", "tiny_gemma2_it"])
def test_its_answers_are_nonsense_and_counted_as_such(tmp_path, name):
    model = LocalModel(str(MODELS / name))
    assert model.name.startswith(f"{name}@")
    settings = AskingSettings(llm_model=name, most_tokens=8, tries=2)
    asker = Asker(model, Answers(tmp_path), settings)
    question = Question((("system", "Answer with [0] or [1]."), ("user", "yes?")), numbers(1, 1))
    assert asker.ask_all([question, question], "asking") == [None, None]
    assert asker.counts.nonsense == 4 and asker.counts.asked == 2
    assert 0 < asker.counts.tokens_out <= 16


def test_answers_are_a_function_of_the_request():
    model = LocalModel(str(MODELS / "tiny_gemma2"))
    for temperature in (0.0, 0.7):
        request = Request(model.name, (("user", "def f("),), temperature, 6, 1)
        assert model.answer(request) == model.answer(request)
    with pytest.raises(
        ValueError, match=r"llm_model must take a prompt of .* tokens, got one that"
    ):
        model.answer(Request(model.name, (("user", "def " * 400),), 0.0, 6, 1))


def test_what_is_no_model_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="llm_model must be a folder or hub id of a causal"):
        LocalModel(str(tmp_path))
