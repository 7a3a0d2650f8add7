"""The campaign of qualities: what it runs next follows from its rows alone."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

quality: Any = importlib.import_module("quality")
Run: Any = quality.Run
RIVALS, LRS = quality.RIVALS, quality.LRS
Row = dict[str, str]


def row(run: Any, fvu: float, l0: float | None = None) -> Row:
    """A run's row, as the CSV gives it."""
    return {
        "peer": run.peer,
        "lr": f"{run.lr:g}" if run.lr else "",
        "settings": run.settings,
        "target_l0": f"{run.target_l0:g}",
        "updates": str(run.updates),
        "seed": str(run.seed),
        "l0": str(l0 or run.target_l0),
        "fvu": str(fvu),
    }


def made(n: int, **fvus: float) -> list[Row]:
    """The rows after the first n runs of the peers' campaign, made in its order."""
    rows: list[Row] = []
    for _ in range(n):
        run = quality.missing(rows, list(RIVALS))[0]
        rows.append(row(run, fvus.get(f"lr_{run.lr:g}", 0.2) + RIVALS.index(run.peer) / 100))
    return rows


def test_the_grid_comes_first_and_no_run_twice():
    rows = made(12)
    assert len({(r["peer"], r["lr"]) for r in rows}) == len(RIVALS) * len(LRS) == 12
    assert quality.best_lr(RIVALS[0], rows) == LRS[0]
    assert quality.best_lr(RIVALS[-1], rows[:-1]) is None and quality.best_rival(rows[:-1]) is None


def test_what_follows_goes_by_the_best_rate_and_the_best_peer():
    rows = made(12, **{f"lr_{LRS[1]:g}": 0.1})
    after = quality.missing(rows, list(RIVALS))
    assert {run.lr for run in after} == {LRS[1]}
    assert [(run.target_l0, run.updates) for run in after[:12:4]] == [
        (8, 1500),
        (64, 1500),
        (24, 6000),
    ]
    assert {run.peer for run in after[12:]} == {quality.best_rival(rows)} == {RIVALS[0]}
    assert after[-1].updates == 25_000


def test_the_best_peer_is_that_of_the_grid():
    """A denser SAE has a lower FVU, whoever trained it."""
    rows = made(12)
    dense = row(Run(RIVALS[1], LRS[0], 64, 1500), 0.01)
    assert quality.best_rival([*rows, dense]) == RIVALS[0]


def test_a_whole_campaign_ends():
    rows = made(sum(1 for _ in quality.wanted(made(12))))
    assert quality.missing(rows, list(RIVALS)) == []


def test_a_price_is_searched_until_the_l0_is_near():
    first = next(run for run in quality.wanted([]) if run.peer == "sae_lens jumprelu")
    assert dict(first.changes) == {"l0_coefficient": quality.COEFFICIENTS[24]}
    rows = [row(first, 0.2, l0=12)]
    again = quality.missing(rows, ["sae_lens jumprelu"])[0]
    assert again.lr == first.lr
    assert dict(again.changes)["l0_coefficient"] == pytest.approx(
        quality.COEFFICIENTS[24] / 2**1.2, rel=1e-2
    )
    near = [row(first, 0.2, l0=23.5)]
    assert quality.missing(near, ["sae_lens jumprelu"])[0].lr == LRS[1]


def test_ours_meet_the_peers_at_the_l0_that_they_have():
    rows = [row(Run("sae_lens batchtopk", 3e-3, 24, 1500), 0.2, l0=22.37)]
    assert Run("ours", 0.0, 22.4, 1500) in quality.missing(rows, ["ours"])
    far = [row(Run("sae_lens batchtopk", 3e-3, 24, 1500), 0.2, l0=5)]
    assert {run.target_l0 for run in quality.missing(far, ["ours"])} == {8, 24, 64}
