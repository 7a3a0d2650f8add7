"""Untouched passes: kept or computed again, the figures are the same bits."""

import pytest
import torch

from scopeworks.evaluate.measure.inputs import candidate
from scopeworks.evaluate.run import clean_runs, evaluate_many
from scopeworks.evaluate.run.clean_runs import CleanRuns
from scopeworks.harvest.model.sites import parse_site
from scopeworks.tests.evaluate.saes import random_sae

KINDS = [("resid_post.1", None), ("mlp_out.2", None), ("transcoder_in.1", "mlp_out.1")]


def figures(lm, held_out, settings):
    saes = [random_sae(site, target) for site, target in KINDS]
    candidates = [candidate(f"sae{i}", sae, lm) for i, sae in enumerate(saes)]
    return evaluate_many(lm, candidates, held_out, settings)


@pytest.mark.parametrize("most_bytes", [0, 20_000])
def test_what_is_kept_changes_no_bit(lm, held_out, settings, monkeypatch, most_bytes):
    settings = settings.model_copy(update={"batch": 2, "top_latents": 3})
    kept = figures(lm, held_out, settings)
    monkeypatch.setattr(clean_runs, "MAX_KEPT_BYTES", most_bytes)
    assert figures(lm, held_out, settings) == kept


def passes(lm, held_out, monkeypatch, most_bytes):
    """Sequences that ran through the model's first layer, by the pass that wanted them."""
    monkeypatch.setattr(clean_runs, "MAX_KEPT_BYTES", most_bytes)
    site, count = parse_site("resid_post.1"), []
    hook = lm.model.model.layers[0].register_forward_pre_hook(
        lambda _layer, args: count.append(len(args[0]))
    )
    runs, sums = CleanRuns(lm, held_out, 2, [site], [site]), []
    for batches in (runs.activations([site]), runs.losses(), runs.activations([site])):
        with torch.no_grad():
            ids = torch.cat([found[0].ids for found in batches])
        assert torch.equal(ids, torch.from_numpy(held_out.sequences.astype("int64")))
        sums.append(sum(count))
        count.clear()
    hook.remove()
    return sums


def test_a_pass_that_fits_is_run_once_and_another_each_time(lm, held_out, monkeypatch):
    assert passes(lm, held_out, monkeypatch, 2**30) == [6, 0, 0]
    assert passes(lm, held_out, monkeypatch, 0) == [2 + 6, 6, 6]
    # Two sequences take 5,632 bytes (11 positions, d_model 32, float32, twice), masks 3,432 once.
    assert passes(lm, held_out, monkeypatch, 10_000) == [2 + 6, 4, 4]


def test_masks_and_rotations_are_held_once(lm, held_out):
    site = parse_site("mlp_out.2")
    runs = CleanRuns(lm, held_out, 2, [site], [site])
    list(runs.activations([site]))
    first, last = runs._kept[0].run.calls[3], runs._kept[-1].run.calls[3]
    pairs = zip(first[1].values(), last[1].values(), strict=True)
    shared = [a is b for a, b in pairs if isinstance(a, torch.Tensor)]
    assert len(runs._kept) == 3 and shared and all(shared)
