"""What counts as far from what an SAE's files declare."""

from typing import Any

import pytest

from scopeworks.evaluate.measure.declared.doubts import doubts, seen_before


def entry(
    l0: float, fvu: float | None, intervals: dict[str, Any] | None = None, /, **declared: float
) -> dict[str, Any]:
    return {"config": declared, "l0": l0, "fvu": fvu, "intervals": intervals or {}}


def test_figures_as_declared_or_of_which_nothing_is_declared_raise_no_doubt():
    for fine in (
        entry(100, 0.2, l0=71, fvu=0.15),
        entry(48, 0.2, l0=71, fvu=0.29),
        entry(5, 0.2),
        entry(0.9, 0.2, l0=1),  # a folder's name has whole numbers
        entry(0.6, 0.2, l0=1),
        entry(3, None, l0=3, fvu=0.1),
        entry(3, 0.9, l0=0),
    ):
        assert doubts(fine) == []


def test_l0_and_fvu_beyond_half_as_much_again_are_told_with_both_figures():
    assert doubts(entry(412.4, 0.2, l0=71)) == ["L0 is 412 where its files declare 71 (5.8 times)"]
    assert doubts(entry(7.1, 0.31, l0=71, fvu=0.2)) == [
        "L0 is 7.1 where its files declare 71 (0.1 times)",
        "FVU is 0.31 where its files declare 0.2 (1.5 times)",
    ]
    assert doubts(entry(9, 9.8)) == ["FVU is 9.8, worse than the mean of x in its place"]


@pytest.mark.parametrize(("interval", "n"), [([60, 300], 0), ([110, 200], 1), (None, 1)])
def test_an_interval_counts_by_its_nearest_end(interval: list[float] | None, n: int):
    assert len(doubts(entry(150, 0.2, {"l0": interval}, l0=71))) == n


@pytest.mark.parametrize(
    ("tokens", "split", "seen"),
    [
        ("t", "held_out", True),
        ("t", "held_out.code", True),
        ("t", "train", False),
        ("t", None, False),
        ("other", "held_out", False),
    ],
)
def test_an_sae_of_the_text_that_it_is_measured_on_is_told(
    tokens: str, split: str | None, seen: bool
):
    found = seen_before({"tokens": tokens, "split": split}, "t")
    assert (found is not None) == seen
    assert found is None or f"trained on the split {split} of these tokens" in found
