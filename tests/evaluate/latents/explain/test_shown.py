"""What a language model is shown: golden prompts, marks, levels."""

import re
from pathlib import Path

import numpy as np
import pytest

from scopeworks.evaluate.latents.explain.asking.asker import Question
from scopeworks.evaluate.latents.explain.explainers import llm
from scopeworks.evaluate.latents.explain.shown import levels, marked
from scopeworks.evaluate.latents.samples.collect import collect
from scopeworks.evaluate.latents.samples.settings import SampleSettings
from scopeworks.evaluate.latents.score.scorers.table import SCORERS
from scopeworks.tests.evaluate.latents.cached_rows import AFTER_EQUALS
from scopeworks.tests.reference.gemma_models import build_tokenizer

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def samples(cached):
    settings = SampleSettings(context=16, explain=4, test=4, silent=4, quantiles=2)
    return collect(cached.sae, cached.store, cached.tokens, [AFTER_EQUALS], settings)


@pytest.mark.parametrize("name", ["explain", *SCORERS])
def test_prompts_are_as_they_were(samples, name):
    """After a change that is wanted, write the new prompt into its file."""
    tokenizer = build_tokenizer()
    if name == "explain":
        asked = llm.question(samples, 0, tokenizer, llm.prompt(None))
    else:
        scorer = SCORERS[name](None, 2 if name == "detection" else 1, 0)
        asked = scorer.questions(samples, 0, "the token behind '='", tokenizer)[0]
    assert isinstance(asked, Question)
    text = "".join(f"=== {role}\n{message}\n" for role, message in asked.messages)
    assert text == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_marks_join_neighbours():
    marks = np.array([True, True, False, True])
    assert marked(["a", " b", " c", "d"], marks) == "<<a b>> c<<d>>"
    assert marked(["a", "b"], np.zeros(2, bool)) == "ab"


def test_no_text_looks_like_marks():
    texts = ["cout", " <<", " x", ">", "\\\\<", "y"]
    marks = np.array([False, False, True, False, False, True])
    shown = marked(texts, marks)
    assert shown == r"cout \<\<<< x>>\>\\\<<<y>>"
    assert len(re.findall(r"(?<!\\)<<", shown.replace(r"\\", ""))) == 2


def test_levels_are_one_at_least_where_it_fires():
    f = np.array([0.0, 1e-9, 1.0, 1.01, 10.0, 12.0, np.nan])
    assert levels(f, 10.0).tolist() == [0, 1, 1, 2, 10, 10, 0]
    assert levels(f[:1], 0.0).tolist() == [0]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('"Fires on digits."', "Fires on digits."),
        ("<think>hm\nhm</think>\n\nFires  on\nit.", "Fires on it."),
    ],
)
def test_a_sentence_is_one_line(answer, text):
    assert llm.sentence(answer) == text


@pytest.mark.parametrize(
    "answer", ["", " \n", "1 2 3", "\x00ab", "<think>only</think>", "a " * 400]
)
def test_what_is_no_sentence_is_nonsense(answer):
    with pytest.raises(llm.NonsenseError, match="an explanation must have"):
        llm.sentence(answer)
