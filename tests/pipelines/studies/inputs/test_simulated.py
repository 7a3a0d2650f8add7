"""Which latents are taken, and what stands beside an evaluation."""

import numpy as np
import pytest

from scopeworks.evaluate.studies.table import study_named
from scopeworks.pipelines.studies.gathering import of_suite
from scopeworks.pipelines.studies.inputs import simulated
from scopeworks.pipelines.studies.inputs.simulated import MIN_FIRINGS, evenly, firings
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.tests.evaluate.latents.cached_rows import DEAD, SITE, Cached, cached_rows
from scopeworks.tests.pipelines.small_suite import write_suite


@pytest.fixture(scope="module")
def cached(tmp_path_factory) -> Cached:
    return cached_rows(tmp_path_factory.mktemp("cached"))


def test_firings_are_counted_over_the_first_rows(cached: Cached, monkeypatch):
    monkeypatch.setattr(simulated, "_BLOCK_VALUES", 8 * 700)
    rows = 5000
    found = firings(cached.sae, cached.store, SITE, rows)
    x = cached.store.read(SITE, 0, rows).numpy()
    assert found.tolist() == (x > 0.5).sum(0).tolist() and found[DEAD] == 0


def test_latents_are_even_over_frequency():
    fired = np.random.default_rng(0).permutation(1000)
    chosen = evenly(fired, 10)
    assert chosen == sorted(chosen)
    ranks = np.sort(fired[chosen]) - MIN_FIRINGS
    assert (ranks // 98.4).astype(int).tolist() == list(range(10))


def test_all_that_fire_often_enough_are_taken_where_they_are_fewer():
    fired = np.array([0, MIN_FIRINGS, MIN_FIRINGS - 1, 900])
    assert evenly(fired, 10) == [1, 3]
    assert evenly(fired[:1], 10) == []


@pytest.mark.slow
def test_simulation_runs_as_a_whole_and_is_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setattr(simulated, "LATENTS", 6)
    path = write_suite(tmp_path, sparsity=1e-3)
    study = study_named("simulation")
    first = of_suite(study, SuiteFile(path), False)
    found = [one["simulation"] for (many) in first.documents.values() for one in many]
    assert len(found) == 3 and all(2 <= len(one["latents"]) <= 6 for one in found)
    reading = study.read(study.points(first.documents))
    assert "token unigrams" in reading.sentence
    again = of_suite(study, SuiteFile(path), False)
    assert again.documents == first.documents and not again.made
