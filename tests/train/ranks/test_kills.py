"""Random ranks, really killed, under torchrun: other numbers of ranks continue, and no byte of the
result tells."""

import importlib
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_ranks_killed_and_started_again_end_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ten kills: `benchmarks/rank_kills.py`."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[3] / "benchmarks"), *sys.path])
    rank_kills = importlib.import_module("rank_kills")
    found = rank_kills.kill_often(tmp_path, kills=2, seed=1, steps=160)
    assert found["same"], found
