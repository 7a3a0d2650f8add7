"""Losses and splices on the random model."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.evaluate.measure.lm_loss import (
    clean_run,
    has_target,
    is_text,
    recovered_share,
    spliced_losses,
    spliced_losses_and_kl,
    token_losses,
)
from scopeworks.harvest.model.hooks import replace
from scopeworks.harvest.model.sites import parse_site
from scopeworks.tests.reference.evaluate_metrics import run


def test_ordinary_excludes_each_special_token():
    ids = torch.tensor([[2, 5, 1, 7, 0]])
    assert is_text(ids, torch.tensor([0, 1, 2])).tolist() == [[False, True, False, True, False]]


def test_prediction_counts_only_between_two_ordinary_tokens():
    keep = torch.tensor([[False, True, True, False, True]])
    assert has_target(keep).tolist() == [[False, True, False, False, False]]


def test_token_losses_agree_with_float64_forward(lm, ids):
    log_p, _ = run(lm.model, ids)
    losses = token_losses(lm, ids)
    expected = -log_p[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(losses[:, :-1].double(), expected, rtol=1e-5, atol=1e-5)
    assert losses[:, -1].tolist() == [0.0] * len(ids)


def test_token_losses_equal_the_models_own_loss(lm, ids):
    own = lm.model(input_ids=ids, labels=ids).loss
    assert float(token_losses(lm, ids)[:, :-1].mean()) == pytest.approx(float(own), rel=1e-6)


@pytest.mark.parametrize("kind", ["attn_out", "mlp_out", "resid_post"])
def test_splice_changes_only_chosen_positions_and_those_after_them(lm, ids, kind):
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[2, 5] = True
    width = 64 if kind == "attn_out" else 32
    values = torch.full((*ids.shape, width), 3.0)
    clean = clean_run(lm, ids, [parse_site(f"{kind}.1")])
    changed = spliced_losses(lm, clean, parse_site(f"{kind}.1"), values, where) != clean.losses
    assert not changed[:2].any()
    assert not changed[3:].any()
    assert not changed[2, :5].any()
    assert changed[2, 5]


def test_splice_nowhere_changes_nothing(lm, ids):
    nowhere = torch.zeros_like(ids, dtype=torch.bool)
    values = torch.full((*ids.shape, 32), 3.0)
    site = parse_site("resid_post.1")
    spliced = spliced_losses(lm, clean_run(lm, ids, [site]), site, values, nowhere)
    assert torch.equal(spliced, token_losses(lm, ids))


@pytest.mark.parametrize("kind", ["attn_out", "transcoder_in", "mlp_in", "mlp_out", "resid_post"])
@pytest.mark.parametrize("layer", range(4))
def test_splice_equals_a_whole_forward_pass_with_it(lm, ids, kind, layer):
    site = parse_site(f"{kind}.{layer}")
    generator = torch.Generator().manual_seed(layer)
    width = 64 if kind == "attn_out" else 32
    values = torch.randn(*ids.shape, width, generator=generator)
    where = torch.rand(ids.shape, generator=generator) < 0.7
    spliced = spliced_losses(lm, clean_run(lm, ids, [site]), site, values, where)
    with replace(lm, site, lambda x: torch.where(where[..., None], values, x)):
        whole = token_losses(lm, ids)
    assert torch.equal(spliced, whole)
    assert not torch.equal(spliced, token_losses(lm, ids))


def test_clean_run_leaves_no_hook_behind(lm, ids):
    sites = [parse_site("resid_post.1"), parse_site("mlp_out.3")]
    run_before = clean_run(lm, ids, sites)
    assert sorted(run_before.calls) == sorted(run_before.hidden) == [2, 3]
    assert not any(layer._forward_pre_hooks for layer in lm.model.model.layers)
    assert torch.equal(run_before.losses, token_losses(lm, ids))


@pytest.mark.parametrize("most", [2**26, 7 * 300])
def test_kl_agrees_with_float64_whether_the_clean_distribution_is_kept_or_not(
    lm, ids, most, monkeypatch
):
    monkeypatch.setattr("scopeworks.evaluate.measure.lm_loss.MAX_LOGITS", most)
    site = parse_site("resid_post.1")
    values = torch.randn(*ids.shape, 32, generator=torch.Generator().manual_seed(1))
    where = ids > 2
    clean = clean_run(lm, ids, [site])
    assert (clean.log_p is None) == (most < ids.numel() * 300)
    losses, kl = spliced_losses_and_kl(lm, clean, site, values, where)
    log_p, _ = run(lm.model, ids)
    spliced = {str(site): lambda x: torch.where(where[..., None], values.double(), x)}
    log_q, _ = run(lm.model, ids, spliced)
    expected = (log_p.exp() * (log_p - log_q)).sum(-1)
    torch.testing.assert_close(kl[:, :-1], expected[:, :-1], rtol=1e-5, atol=1e-6)
    assert torch.equal(losses, spliced_losses(lm, clean, site, values, where))
    own = clean.hidden[2]
    assert not spliced_losses_and_kl(lm, clean, site, own, where)[1].any()


@given(
    clean=st.floats(0, 10),
    cost=st.floats(1e-3, 10),
    share=st.floats(0, 1),
)
def test_recovered_share_lies_between_ablation_and_clean(clean: float, cost: float, share: float):
    ablated = clean + cost
    found = recovered_share(clean, ablated - share * cost, ablated)
    assert found == pytest.approx(share, abs=1e-9)


def test_recovered_share_leaves_the_unit_interval_where_splices_do():
    assert recovered_share(2.0, 4.0, 3.0) == -1.0
    assert recovered_share(2.0, 1.5, 3.0) == 1.5


def test_recovered_share_means_nothing_if_ablation_costs_nothing():
    assert recovered_share(2.0, 2.0, 2.0) is None
    assert recovered_share(2.0, 2.1, 1.9) is None
