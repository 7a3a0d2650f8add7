"""What whole tensors come down to in the JSON."""

import math

import numpy as np
import pytest
import torch

from scopeworks.evaluate.measure.summaries import (
    HISTOGRAM_EDGES,
    dimension_summary,
    firing_summary,
    json_list,
    quantiles,
    weights_summary,
)
from scopeworks.tests.evaluate.saes import random_sae


def test_what_json_has_not_is_null():
    assert json_list(torch.tensor([math.nan, 7.0, math.inf])) == [None, 7.0, None]


def test_firing_summary_puts_every_alive_latent_in_one_bin():
    fired = torch.tensor([0, 0, 1, 5, 100, 1000])
    summary = firing_summary(fired, 1000)
    assert summary["n_dead"] == 2
    assert summary["n_above_10_percent"] == 1
    assert sum(summary["histogram"]) == 4
    for count in (1, 5, 100, 1000):
        log = math.log10(count / 1000)
        inside = np.searchsorted(HISTOGRAM_EDGES, log, side="right") - 1
        assert summary["histogram"][min(inside, len(HISTOGRAM_EDGES) - 2)] >= 1
    assert summary["quantiles_of_alive"]["0.50"] == pytest.approx((0.005 + 0.1) / 2)


def test_firing_summary_keeps_frequencies_below_the_lowest_edge():
    summary = firing_summary(torch.tensor([1]), 10**9)
    assert summary["histogram"][0] == 1


def test_firing_summary_of_dead_sae_has_no_quantiles():
    summary = firing_summary(torch.zeros(3, dtype=torch.int64), 10)
    assert summary["n_dead"] == 3
    assert set(summary["quantiles_of_alive"].values()) == {None}


def test_dense_latents_are_those_above_one_and_ten_percent():
    # Exactly 1% and exactly 10% are not above.
    summary = firing_summary(torch.tensor([0, 10, 11, 100, 101, 1000]), 1000)
    assert summary["n_above_1_percent"] == 4
    assert summary["n_above_10_percent"] == 2
    assert summary["share_above_1_percent"] == pytest.approx(4 / 6)
    assert summary["share_above_10_percent"] == pytest.approx(2 / 6)


def test_fvu_of_each_dimension_and_none_of_a_constant_one():
    errors, deviations = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 4.0, 1e-15])
    summary = dimension_summary(errors.double(), deviations.double(), torch.ones(3).double())
    assert summary["fvu"] == [0.25, 0.5, None]
    assert summary["quantiles"]["0.50"] == 0.375


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_weights_are_summed_up_by_latent(at_once, monkeypatch):
    monkeypatch.setattr("scopeworks.evaluate.measure.summaries.LATENTS_AT_ONCE", at_once)
    sae = random_sae("resid_post.1")
    found = weights_summary(sae)
    for name, values in (
        ("theta", sae.theta),
        ("W_enc_norm", sae.W_enc.double().norm(dim=0)),
        ("W_dec_norm", sae.W_dec.double().norm(dim=1)),
    ):
        expected = np.quantile(values.double().numpy(), [0.05, 0.25, 0.5, 0.75, 0.95])
        assert list(found[name].values()) == pytest.approx(expected, rel=1e-6), name
    assert found["b_dec_norm"] == pytest.approx(float(sae.b_dec.double().norm()), rel=1e-6)


def test_quantiles_of_nothing_are_null():
    assert set(quantiles(torch.zeros(0)).values()) == {None}
