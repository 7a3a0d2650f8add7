"""Unigram tables predict token detectors, and nothing else; shuffled ones predict nothing."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from scopeworks.evaluate.latents.samples.sample_set import TEST
from scopeworks.evaluate.latents.samples.settings import SampleSettings
from scopeworks.evaluate.latents.samples.twin import with_twin
from scopeworks.evaluate.latents.score.baseline import baseline, by_tables
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


@pytest.mark.parametrize("seed", [0, 1])
def test_own_and_shuffled_are_of_the_latents_that_have_a_table(cached, seed):
    """One of them fires in tests only, so that it has none; r would be 0 with its empty table."""
    settings = SampleSettings(explain=5, test=10, silent=10)
    samples, twin = with_twin(cached.sae, cached.store, cached.tokens, LATENTS[:5], settings)
    tables, second = samples.unigrams, slice(*samples.unigrams.offsets[1:3])
    kept = np.ones(len(tables.fired), bool)
    kept[second] = False
    offsets = np.r_[0, np.cumsum([kept[a:b].sum() for a, b in pairwise(tables.offsets)])]
    columns = {name: getattr(tables, name)[kept] for name in ("fired_at", "fired", "total")}
    without = replace(samples, unigrams=replace(tables, offsets=offsets, **columns))
    found = by_tables(without, twin, seed)
    assert list(found) == ["own", "shuffled", "random"]
    for variant in ("own", "shuffled"):
        values = [one["r"].value if one else None for one in found[variant]]
        assert values[1] is None and all(values[k] not in (None, 0.0) for k in (0, 2, 3, 4))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_derangement_leaves_nothing_in_its_place(n):
    for seed in range(5):
        other = derangement(n, seed)
        assert other is not None and sorted(other) == list(range(n))
        assert all(i != j for i, j in enumerate(other))
    assert derangement(1, 0) is None
