"""Contexts of known latents: what is drawn, from where, and what is said of every token."""

from itertools import pairwise

import numpy as np
import pytest

from scopeworks.evaluate.latents.samples import collect as module
from scopeworks.evaluate.latents.samples.collect import collect
from scopeworks.evaluate.latents.samples.sample_set import EXPLAIN, HARD, SILENT, TEST, Samples
from scopeworks.evaluate.latents.samples.settings import SampleSettings
from scopeworks.tests.evaluate.latents import cached_rows as made
from scopeworks.tests.reference.latent_scores import unigram_means

SETTINGS = SampleSettings(explain=20, test=30, silent=30, hard=10, quantiles=5)
LATENTS = [made.DIGITS, made.AFTER_EQUALS, made.RARE, made.NOISE, made.DEAD]


@pytest.fixture(scope="module")
def samples(cached) -> Samples:
    return collect(cached.sae, cached.store, cached.tokens, LATENTS, SETTINGS)


def _rows(samples: Samples) -> list[tuple]:
    return list(zip(samples.column, samples.kind, samples.sequence, samples.start, strict=True))


def test_every_activation_and_token_is_the_stored_one(cached, samples):
    for i, (k, _, sequence, start) in enumerate(_rows(samples)):
        at = (sequence, slice(start, start + 32))
        np.testing.assert_array_equal(samples.tokens[i], cached.ids[at])
        np.testing.assert_array_equal(samples.f[i], cached.f[at][:, LATENTS[k]])
    assert np.isnan(samples.f).any() and samples.rows == cached.store.rows


def test_kinds_are_what_they_say(samples):
    peak = np.nan_to_num(samples.f).max(1)
    assert (peak[samples.kind <= TEST] > 0).all() and (peak[samples.kind >= SILENT] == 0).all()
    assert ((samples.quantile > 0) == (samples.kind <= TEST)).all()
    for k in range(3):
        top = [token for token, *_ in samples.unigrams.top(k)]
        hard = samples.of(k, HARD)
        assert np.isin(hard.tokens, top).any(1).all()
    assert len(samples.of(3, HARD)) == 10
    assert len(samples.of(0, EXPLAIN)) == 20 and len(samples.of(0, TEST)) == 30
    assert len(samples.of(4, EXPLAIN, TEST)) == 0 and len(samples.of(4, SILENT)) == 30


def test_bands_fall_in_strength_and_are_even(samples):
    drawn = samples.of(0, TEST)
    peaks = [np.nanmax(drawn.f[drawn.quantile == band], axis=1) for band in range(1, 6)]
    assert [len(part) for part in peaks] == [6] * 5
    assert all(a.min() >= b.max() for a, b in pairwise(peaks))


def test_no_sequence_explains_and_tests_and_no_text_is_there_twice(samples):
    explains = set(samples.sequence[samples.kind == EXPLAIN].tolist())
    tests = set(samples.sequence[samples.kind != EXPLAIN].tolist())
    assert explains and tests and not explains & tests
    assert not {5, 7} <= explains | tests  # the same text
    for k in range(len(LATENTS)):
        drawn = samples.of(k, EXPLAIN, TEST, SILENT, HARD).tokens
        assert len(np.unique(drawn, axis=0)) == len(drawn)


def test_unigrams_are_exact(cached, samples):
    halves = {int(s) for s in samples.sequence[samples.kind == EXPLAIN]}
    found = module.cut(cached.store, cached.tokens, cached.store.rows, 32, 0)
    assert halves <= set(found.sequence[~found.tests].tolist())
    at = [
        (s, p)
        for s, start in zip(found.sequence[~found.tests], found.start[~found.tests], strict=True)
        for p in range(start, start + 32)
        if not np.isnan(cached.f[s, p, 0])
    ]
    tokens = [int(cached.ids[i]) for i in at]
    for k, latent in enumerate(LATENTS):
        wanted = unigram_means(tokens, [float(cached.f[(*i, latent)]) for i in at])
        predicted = samples.unigrams.predict(k, np.array(list(wanted)))
        means = [total / rows for rows, _, total in wanted.values()]
        np.testing.assert_allclose(predicted, means, rtol=1e-12)
        unseen = samples.unigrams.predict(k, np.array([299]))
        overall = sum(total for *_, total in wanted.values()) / len(tokens)
        np.testing.assert_allclose(unseen, overall, rtol=1e-12)
        for token, fired, rows, mean in samples.unigrams.top(k):
            assert (rows, fired) == wanted[token][:2]
            assert mean == pytest.approx(wanted[token][2] / fired, rel=1e-12)
    assert samples.unigrams.rows == len(tokens)


def test_firings_are_of_all_rows(cached, samples):
    wanted = (cached.f > 0).sum((0, 1))[LATENTS]
    np.testing.assert_array_equal(samples.fired, wanted)
    assert samples.density[4] == 0


def test_latents_alone_and_in_groups_are_drawn_alike(cached, samples, monkeypatch):
    monkeypatch.setattr(module, "_PEAKS", 2 * 320)
    grouped = collect(cached.sae, cached.store, cached.tokens, LATENTS, SETTINGS)
    assert _rows(grouped) == _rows(samples)
    np.testing.assert_array_equal(grouped.f, samples.f)
    for k in range(len(LATENTS)):
        assert grouped.unigrams.top(k) == samples.unigrams.top(k)
    alone = collect(cached.sae, cached.store, cached.tokens, [made.NOISE], SETTINGS)
    np.testing.assert_array_equal(alone.f, samples.f[samples.column == 3])


def test_rows_are_rounded_up_to_whole_buckets(cached):
    few = SETTINGS.model_copy(update={"rows": 10})
    samples = collect(cached.sae, cached.store, cached.tokens, [0], few)
    assert samples.rows == 4096 and samples.sequence.max() < 4096 // 66 + 1


def test_another_seed_draws_others(cached, samples):
    other = SETTINGS.model_copy(update={"seed": 1})
    again = collect(cached.sae, cached.store, cached.tokens, LATENTS, other)
    assert set(_rows(again)) != set(_rows(samples))


@pytest.mark.parametrize(
    ("latents", "match"),
    [
        ([8], r"latents must be 0 … 7 in this SAE, got 8"),
        ([], r"latents must be 0 … 7 in this SAE, got none"),
        ([3, 1, 3], "latents must each be given once, got 3 twice"),
    ],
)
def test_latents_that_are_not_there_are_refused(cached, latents, match):
    with pytest.raises(ValueError, match=match):
        collect(cached.sae, cached.store, cached.tokens, latents)


def test_other_rows_are_refused(cached, tmp_path):
    with pytest.raises(ValueError, match=r"must have the site mlp_out\.3 that the SAE reads"):
        collect(cached.sae, cached.store, cached.tokens, [0], site="mlp_out.3")
    other = made.cached_rows(tmp_path, n_sequences=9)
    with pytest.raises(ValueError, match="must have the fingerprint"):
        collect(cached.sae, cached.store, other.tokens, [0])


def test_contexts_longer_than_any_are_a_sequence(cached):
    whole = SETTINGS.model_copy(update={"context": 1000})
    samples = collect(cached.sae, cached.store, cached.tokens, [0], whole)
    assert samples.tokens.shape[1] == made.CONTEXT
