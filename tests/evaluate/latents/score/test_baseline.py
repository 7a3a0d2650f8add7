"""Unigram tables predict token detectors, and nothing else; shuffled ones predict nothing."""

import numpy as np
import pytest

from scopeworks.evaluate.latents.samples.sample_set import TEST
from scopeworks.evaluate.latents.samples.settings import SampleSettings
from scopeworks.evaluate.latents.score.baseline import baseline
from scopeworks.evaluate.latents.score.controls import derangement
from scopeworks.tests.evaluate.latents import cached_rows as made
from scopeworks.tests.reference.latent_scores import pearson

LATENTS = [made.DIGITS, made.VOWELS, made.RARE, made.AFTER_EQUALS, made.NOISE, made.DEAD]


def test_token_detectors_are_predicted_and_others_are_not(cached):
    found = baseline(cached.sae, cached.store, cached.tokens, LATENTS)
    digits, vowels, rare, after, noise, dead = (figure.value for figure in found.own)
    assert min(digits, vowels, rare) > 0.95  # pyright: ignore
    assert abs(after) < 0.15 and abs(noise) < 0.15  # pyright: ignore
    assert dead is None
    assert found.shuffled is not None
    shuffled = [figure.value for figure in found.shuffled if figure.value is not None]
    assert max(map(abs, shuffled)) < 0.5
    random = [figure.value for figure in found.random[:5]]
    assert all(value is not None and 0 < value < 0.9 for value in random)


def test_r_is_that_of_the_stored_rows(cached):
    found = baseline(cached.sae, cached.store, cached.tokens, LATENTS)
    drawn, fires = found.samples.tests(1)
    assert fires.sum() == len(found.samples.of(1, TEST))
    predicted, f = [], []
    for sequence, start in zip(drawn.sequence, drawn.start, strict=True):
        for position in range(start, start + 32):
            value = cached.f[sequence, position, made.VOWELS]
            if not np.isnan(value):
                token = cached.ids[sequence, position]
                predicted.append(float(found.samples.unigrams.predict(1, np.array(token))))
                f.append(float(value))
    assert found.own[1].value == pytest.approx(pearson(predicted, f), rel=1e-9)


def test_one_latent_has_nothing_to_be_shuffled_with(cached):
    found = baseline(cached.sae, cached.store, cached.tokens, [0], SampleSettings(explain=5))
    assert found.shuffled is None


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_derangement_leaves_nothing_in_its_place(n):
    for seed in range(5):
        other = derangement(n, seed)
        assert other is not None and sorted(other) == list(range(n))
        assert all(i != j for i, j in enumerate(other))
    assert derangement(1, 0) is None
