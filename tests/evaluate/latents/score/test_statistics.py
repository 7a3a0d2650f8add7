"""Figures against slow twins, and what has none."""

from dataclasses import replace

import numpy as np
import pytest

from scopeworks.evaluate.latents.score.statistics import (
    Figure,
    Judged,
    Simulated,
    figures,
)
from scopeworks.tests.reference import latent_scores as slow


def _simulated(seed: int = 0, n: int = 40, offset: float = 0.0) -> Simulated:
    rng = np.random.default_rng(seed)
    fires = np.arange(n) < n // 2
    f = np.where(rng.random((n, 32)) < 0.2, rng.random((n, 32)), 0) * fires[:, None]
    predicted = f * rng.random(f.shape) + rng.random((n, 1)) + offset
    f[::7, 0] = np.nan
    predicted[3] = np.nan
    return Simulated(fires, f, predicted, np.arange(n))


def judged(fires: np.ndarray, said: np.ndarray) -> Judged:
    """Every context of a sequence of its own."""
    return Judged(fires, said * 1.0, np.arange(len(fires)))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_r_and_auroc_are_those_of_slow_twins(offset):
    evidence = _simulated(offset=offset)
    counts = ~np.isnan(evidence.f) & ~np.isnan(evidence.predicted)
    found = figures(evidence, seed=0)
    wanted = slow.pearson(evidence.predicted[counts].tolist(), evidence.f[counts].tolist())
    assert found["r"].value == pytest.approx(wanted, rel=1e-9)
    peaks = [evidence.predicted[i][counts[i]].max() for i in range(40) if i != 3]
    fires = np.delete(evidence.fires, 3)
    yes, no = ([p for p, fire in zip(peaks, fires, strict=True) if fire == kind] for kind in (1, 0))
    assert found["auroc"].value == pytest.approx(slow.auroc(yes, no), rel=1e-12)


def test_balanced_accuracy_is_that_of_the_slow_twin_over_answered_contexts():
    rng = np.random.default_rng(1)
    fires = rng.random(60) < 0.3
    said = (rng.random(60) < 0.4).astype(float)
    said[::9] = np.nan
    answered = ~np.isnan(said)
    value = figures(judged(fires, said), seed=0)["balanced_accuracy"].value
    wanted = slow.balanced_accuracy(fires[answered].tolist(), (said[answered] == 1).tolist())
    assert value == pytest.approx(wanted, rel=1e-12)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        fires = np.arange(100) < 50
        right = rng.random(100) < 0.8
        figure = figures(judged(fires, np.where(right, fires, ~fires)), seed)
        low, high = figure["balanced_accuracy"].interval or (1, 0)
        inside += low <= 0.8 <= high
    assert 180 <= inside <= 198


def test_contexts_of_one_sequence_are_one_draw():
    """Of 10 sequences with 5 contexts each, which are mostly told alike: no 50 draws."""
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        sequence = np.r_[np.repeat(np.arange(10), 5), np.arange(10, 60)]
        known = np.r_[np.repeat(rng.beta(0.7, 0.3, 10), 5), np.full(50, 0.7)]
        fires = np.arange(100) < 50
        right = rng.random(100) < known
        evidence = Judged(fires, np.where(right, fires, ~fires) * 1.0, sequence)
        low, high = figures(evidence, seed)["balanced_accuracy"].interval or (1, 0)
        inside += low <= 0.7 <= high
    assert inside >= 170


def test_repeated_contexts_make_nothing_surer():
    evidence = _simulated()
    columns = {name: np.repeat(getattr(evidence, name), 5, axis=0) for name in vars(evidence)}
    once, often = figures(evidence, 0), figures(Simulated(**columns), 0)
    for name, figure in once.items():
        assert figure.interval == pytest.approx(often[name].interval, rel=1e-9)
    few = replace(evidence, sequence=np.arange(40) // 3)  # 7 of them with firing contexts
    assert figures(few, 0)["r"].interval is None


@pytest.mark.parametrize("n", [8, 50])
def test_perfect_answers_are_not_sure(n):
    fires = np.arange(2 * n) < n
    perfect = figures(judged(fires, fires), 0)["balanced_accuracy"]
    wrong = figures(judged(fires, ~fires), 0)["balanced_accuracy"]
    assert perfect.value == 1 and perfect.interval is not None and wrong.interval is not None
    # Wilson's lower end of n of n is n / (n + 1.96²); two independent halves of such errors.
    low = 1 - np.hypot(*[1.96**2 / (n + 1.96**2) / 2] * 2)
    assert perfect.interval == pytest.approx([low, 1.0], abs=1e-4)
    assert wrong.interval == pytest.approx([0.0, 1 - low], abs=1e-4)
    f = fires[:, None] * np.ones((1, 4))
    apart = figures(Simulated(fires, f, f, np.arange(2 * n)), 0)["auroc"].interval
    assert apart == pytest.approx([n / (n + 1.96**2), 1.0], abs=1e-4)


def test_one_perfect_side_widens_its_own_way_only():
    """Firing contexts all told, silent ones by half: the upper end is the silent ones' alone."""
    fires = np.arange(40) < 20
    said = fires | (np.arange(40) % 2 == 0)
    figure = figures(judged(fires, said), 0)["balanced_accuracy"]
    assert figure.value == 0.75 and figure.interval is not None
    low, high = figure.interval
    assert high < 0.9 and 0.75 - low > high - 0.75 + 0.02


@pytest.mark.parametrize("name", ["r", "auroc"])
def test_intervals_are_around_the_value_and_the_same_again(name):
    first, again = (figures(_simulated(), seed=4)[name] for _ in range(2))
    assert first == again and first.interval is not None and first.value is not None
    assert first.interval[0] < first.value < first.interval[1]
    assert figures(_simulated(), seed=5)[name].interval != first.interval


def test_few_contexts_have_no_interval():
    assert figures(_simulated(n=14), seed=0)["r"].interval is None


def test_constant_predictions_explain_nothing():
    evidence = _simulated()
    flat = replace(evidence, predicted=np.full(evidence.f.shape, 0.1))
    assert figures(flat, seed=0)["r"].value == 0
    assert figures(flat, seed=0)["auroc"].value == 0.5


def test_what_means_nothing_is_none():
    fires, nothing = np.ones(3, bool), np.full((3, 4), np.nan)
    f = np.ones((3, 4))
    assert figures(Simulated(fires, f, nothing, np.arange(3)), 0) == {
        "r": Figure(None),
        "auroc": Figure(None),
    }
    assert figures(Simulated(fires, f, np.eye(3, 4), np.arange(3)), 0)["r"] == Figure(
        None
    )  # f is constant
    assert figures(judged(fires, np.ones(3)), 0)["balanced_accuracy"] == Figure(None)
    answered = judged(fires, np.full(3, np.nan))
    assert figures(answered, 0)["balanced_accuracy"] == Figure(None)
