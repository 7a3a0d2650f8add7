"""Runs of a campaign at once: each is made once, and what had begun is kept where one fails."""

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

side_by_side: Any = importlib.import_module("side_by_side").side_by_side


def asked(runs: list[float], found: list[float], jobs: int, minutes: float = math.inf) -> None:
    """Takes the square roots of runs into `found`; one is missing until its root is there."""

    def missing() -> list[float]:
        return [run for run in runs if math.sqrt(abs(run)) not in found]

    for root in side_by_side(missing, math.sqrt, jobs, minutes):
        found.append(root)


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_missing_run_is_made_once(jobs):
    found = [3.0]
    asked([4.0, 9.0, 16.0, 25.0], found, jobs)
    assert sorted(found) == [2.0, 3.0, 4.0, 5.0]


def test_what_had_begun_is_kept_where_one_fails_and_nothing_begins_after():
    found: list[float] = []
    with pytest.raises(ValueError, match=r"nonnegative|math domain"):
        asked([-1.0, 4.0, 9.0, 16.0, 25.0, 36.0, 49.0, 64.0], found, 2)
    assert 2.0 in found and 8.0 not in found


@pytest.mark.parametrize("jobs", [1, 2])
def test_none_begins_after_its_minutes(jobs):
    found: list[float] = []
    asked([4.0], found, jobs, minutes=0)
    assert found == []
