"""A short run of the campaign in benchmarks/mutations.py: damaged shards are refused or found."""

import os
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from scopeworks.store.tools.shard_check import check_array
from scopeworks.tests.store import mutations

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("kind", mutations.STOCK)
def test_the_shard_that_is_damaged_is_sound_before(kind):
    shard = mutations.sound(kind)
    place = mutations.OneObject(mutations._object(shard.frames))
    assert check_array(place, mutations.SPEC, shard.layout, shard.commit, lambda _bytes: None) == []


@pytest.mark.parametrize("count", [1800, pytest.param(30_000, marks=pytest.mark.slow)])
def test_damaged_shards_are_refused_or_found(count):
    found = Counter(mutations.outcome(1, case) for case in range(count))
    assert {kind for kind, _ in found} == set(mutations.STOCK)
    for kind in mutations.STOCK:
        assert not found[kind, mutations.SILENT]
        assert found[kind, mutations.REFUSED] > found[kind, mutations.RIGHT] > 0
    assert any(outcome == mutations.BY_SUMS for _, outcome in found)


def test_a_reader_that_crashes_is_counted_with_its_case(monkeypatch, capfd):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "mutations", raising=False)
    campaigns: Any = import_module("mutations")

    def outcome(_seed: int, case: int) -> tuple[str, str]:
        if case == 3:
            os._exit(139)
        if case == 5:
            raise KeyError("shards")
        return "file", "refused"

    assert campaigns.campaign(outcome, 0, 10) == {
        ("file", "refused"): 8,
        ("unknown", campaigns.CRASHED): 1,
        ("unknown", campaigns.OTHER): 1,
    }
    printed = capfd.readouterr().out
    assert "case 3: CRASHED" in printed
    assert "case 5: KeyError: 'shards'" in printed
