"""Scorers: what they ask, how answers find their contexts, and how answers are read."""

import json

import numpy as np
import pytest

from scopeworks.evaluate.latents.explain.asking.request import NonsenseError
from scopeworks.evaluate.latents.samples.collect import collect
from scopeworks.evaluate.latents.samples.sample_set import TEST, Samples, UnigramTable
from scopeworks.evaluate.latents.samples.settings import SampleSettings
from scopeworks.evaluate.latents.score.scorers.fuzzing import Fuzzing
from scopeworks.evaluate.latents.score.scorers.scorer import numbers
from scopeworks.evaluate.latents.score.scorers.table import SCORERS
from scopeworks.evaluate.latents.score.settings import ASKING
from scopeworks.evaluate.latents.score.statistics import Judged, Simulated, figures
from scopeworks.tests.evaluate.latents import cached_rows as made
from scopeworks.tests.reference.gemma_models import build_tokenizer

LATENTS = [made.DIGITS, made.RARE, 6]


@pytest.fixture(scope="module")
def samples(cached):
    settings = SampleSettings(context=8, explain=20, test=30, silent=20, quantiles=5)
    return collect(cached.sae, cached.store, cached.tokens, LATENTS, settings)


def test_the_table_has_what_settings_name():
    assert tuple(SCORERS) == ASKING


@pytest.mark.parametrize("per_prompt", [1, 7])
@pytest.mark.parametrize("name", ["detection", "fuzzing"])
def test_answers_find_their_contexts(samples, name, per_prompt):
    """Whoever answers by what is shown is right about all."""
    scorer = SCORERS[name](None, per_prompt, seed=3)
    asked = scorer.questions(samples, 0, "digits", build_tokenizer())
    answers = []
    for question in asked:
        pieces = question.messages[-1][1].split("Piece ")[1:]
        texts = [piece.split(": ", 1)[1].rstrip("\n") for piece in pieces]
        looked = [t.split("<<")[1].split(">>")[0] if "<<" in t else t for t in texts]
        answers.append(question.read(json.dumps([int(any(map(str.isdigit, t))) for t in looked])))
    evidence = scorer.evidence(samples, 0, answers)
    assert isinstance(evidence, Judged)
    np.testing.assert_array_equal(evidence.said == 1, evidence.fires)
    assert 0.3 < evidence.fires.mean() < 0.7 and len(asked) == -(-len(evidence.fires) // per_prompt)
    missing = scorer.evidence(samples, 0, [None, *answers[1:]])
    assert isinstance(missing, Judged) and np.isnan(missing.said).sum() == per_prompt


def test_wrong_marks_are_the_same_pattern_elsewhere(samples):
    scorer = Fuzzing(None, 1, seed=0)
    drawn, right, marks = scorer._marked(samples, 0)
    fires = np.nan_to_num(drawn.f) > 0
    for mark, fire in zip(marks, fires, strict=True):
        np.testing.assert_array_equal(np.diff(np.flatnonzero(mark)), np.diff(np.flatnonzero(fire)))
    np.testing.assert_array_equal(marks[right], fires[right])
    assert not (marks[~right] & fires[~right]).any() and not (marks & np.isnan(drawn.f)).any()
    assert right.sum() == len(right) // 2 > 5


def test_contexts_without_another_place_are_left_out_and_counted(samples):
    """A latent that fires everywhere has no other tokens to be marked."""
    scorer = Fuzzing(None, 1, seed=0)
    assert scorer.questions(samples, 2, "all", build_tokenizer()) == []
    found = scorer.evidence(samples, 2, [])
    assert len(found.fires) == 0 and found.left_out == len(samples.of(2, TEST)) > 5


def test_marks_tell_nothing_without_the_text():
    """Whoever only counts runs, or their tokens, is at chance: the latent fires on runs of 1 to 14
    tokens, so that many contexts have no place for wrong marks."""
    rng, n, context = np.random.default_rng(0), 2000, 32
    f, none = np.zeros((n, context), np.float32), np.zeros(0, int)
    for i in range(n):
        for length in rng.integers(1, 8, 1 + i % 2):
            start = rng.integers(0, context - length)
            f[i, start : start + length] = 1
    nothing = UnigramTable(none, none, np.zeros(2, int), none, none, np.zeros(0))
    zeros, one = np.zeros(n, int), np.ones(1)
    tokens = rng.integers(0, 99, (n, context))
    rows = (zeros, np.full(n, TEST), zeros + 1, zeros, zeros, tokens, f)
    made = Samples(one.astype(int), n * context, one.astype(int), one, nothing, *rows)
    scorer = Fuzzing(None, 1, 0)
    _, right, marks = scorer._marked(made, 0)
    runs = (np.diff(marks.astype(int), prepend=0, axis=1) == 1).sum(1)
    assert len(right) > 1500
    for said in (runs == 1, marks.sum(1) > 5):
        figure = figures(Judged(right, said * 1.0, np.arange(len(right))), 0)["balanced_accuracy"]
        assert abs((figure.value or 0) - 0.5) < 0.04  # 3 standard errors


def test_simulations_are_by_token(samples):
    scorer = SCORERS["simulation"](None, 1, seed=0)
    asked = scorer.questions(samples, 1, "Q", build_tokenizer())
    answers = []
    for question in asked:
        lines = question.messages[-1][1].splitlines()[-8:]
        answers.append(question.read(json.dumps([10 * (line.endswith("'Q'")) for line in lines])))
    evidence = scorer.evidence(samples, 1, answers)
    assert isinstance(evidence, Simulated)
    known = ~np.isnan(evidence.f)
    np.testing.assert_array_equal(evidence.predicted[known] > 0, evidence.f[known] > 0)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("[1, 0]", [1, 0]),
        ("```json\n[0,1]\n```", [0, 1]),
        ("<think>[1, 1]</think> so [0, 0]", [0, 0]),
        ("first [1] and then [1, 0].", [1, 0]),
    ],
)
def test_the_last_list_of_an_answer_counts(answer, found):
    assert numbers(2, 1)(answer) == found


@pytest.mark.parametrize(
    "answer", ["", "yes", "[1]", "[1, 2]", "[1, 0, 1]", "[true, 0]", "[1.0, 0]", "[1, NaN]", "[,]"]
)
def test_anything_else_is_nonsense(answer):
    with pytest.raises(NonsenseError, match="answer"):
        numbers(2, 1)(answer)


def test_one_number_may_stand_alone():
    assert numbers(1, 1)(" 1\n") == [1]
    with pytest.raises(NonsenseError, match="answer"):
        numbers(1, 1)("one")
