"""Attributions against finite differences, and the bounds of the effective number."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.console import progress
from scopeworks.evaluate.measure.importance import (
    attributions,
    draw_positions,
    effective_number,
    importance,
)
from scopeworks.evaluate.measure.inputs import HeldOut, candidate
from scopeworks.evaluate.measure.lm_loss import has_target, is_text
from scopeworks.tests.evaluate.saes import constant_sae, random_sae
from scopeworks.tests.reference.evaluate_metrics import attribution

SPECIAL = torch.tensor([0, 1, 2])


def measure(lm, ids, *saes, batch=4):
    candidates = [candidate(f"sae{i}", sae, lm) for i, sae in enumerate(saes)]
    held_out = HeldOut(ids.numpy(), len(ids), SPECIAL)
    with progress("importance", len(ids), "sequences") as bar:
        return importance(lm, candidates, held_out, batch, 7, bar)


@pytest.mark.parametrize(
    ("site", "target"),
    [
        ("resid_post.1", None),
        ("resid_post.3", None),
        ("attn_out.2", None),
        ("transcoder_in.1", "mlp_out.1"),
    ],
)
def test_importance_agrees_with_finite_differences(lm, ids, site, target):
    sae = random_sae(site, target)
    generator = torch.Generator().manual_seed(7)
    rows, positions = draw_positions(has_target(is_text(ids, SPECIAL)), generator)
    ratios, effective = [], []
    for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
        y = attribution(lm.model, sae, site, target or site, ids, row, position)
        p = y.abs() / y.abs().sum()
        entropy = -sum(float(v) * math.log(float(v)) for v in p if v > 0)
        effective.append(math.exp(entropy))
        ratios.append(math.exp(entropy) / int((y != 0).sum()))
    (found,) = measure(lm, ids, sae, batch=len(ids))
    assert found["n_tokens"] == len(ratios) == 6
    # float32 gradients against central differences with h = 1e-4, whose error is about h².
    assert found["r_l0"] == pytest.approx(sum(ratios) / 6, rel=1e-4)
    assert found["effective_latents"] == pytest.approx(sum(effective) / 6, rel=1e-4)


def test_attributions_are_features_times_slopes():
    f = torch.tensor([[2.0, 0.0, 1.0]])
    W_dec = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert attributions(f, W_dec, torch.tensor([[3.0, -5.0]])).tolist() == [[6.0, 0.0, -2.0]]


@given(st.lists(st.floats(-100, 100).filter(lambda v: abs(v) > 1e-6), min_size=1, max_size=20))
def test_effective_number_lies_between_one_and_all(values: list[float]):
    y = torch.tensor([values + [0.0] * 5], dtype=torch.float64)
    number = float(effective_number(y))
    assert 1 - 1e-9 <= number <= len(values) + 1e-9


def test_effective_number_of_equal_shares_counts_them():
    assert float(effective_number(torch.tensor([[3.0, -3.0, 0.0, 3.0]]))) == pytest.approx(3.0)
    assert float(effective_number(torch.tensor([[0.0, 9.0]]))) == pytest.approx(1.0)


def test_positions_are_drawn_among_the_counted_and_by_seed():
    counted = torch.tensor([[False, True, True, False], [False] * 4, [True, False, False, False]])
    drawn = set()
    for seed in range(30):
        rows, positions = draw_positions(counted, torch.Generator().manual_seed(seed))
        assert rows.tolist() == [0, 2]
        assert counted[rows, positions].all()
        drawn.add(tuple(positions.tolist()))
    assert drawn == {(1, 0), (2, 0)}


def test_sae_without_active_latents_has_no_ratio(lm, ids):
    (found,) = measure(lm, ids, constant_sae("resid_post.1", torch.zeros(32)))
    assert found["n_tokens"] == 0
    assert found["n_without_effect"] == 6
    assert found["r_l0"] is None


def test_several_saes_share_gradients_without_mixing(lm, ids):
    saes = [random_sae("resid_post.1"), random_sae("mlp_out.2", seed=3)]
    assert measure(lm, ids, *saes) == [measure(lm, ids, sae)[0] for sae in saes]
