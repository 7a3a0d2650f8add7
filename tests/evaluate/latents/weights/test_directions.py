"""What the weights say of latents, beside a slow computation from the whole model in float64."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scopeworks.evaluate.latents.weights import Readout, directions, read_readout
from scopeworks.evaluate.latents.weights import logits as logits_module
from scopeworks.harvest.model.loading import load_model
from scopeworks.tests.evaluate.saes import random_sae
from scopeworks.tests.reference import latent_directions as slow
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

MODEL = str(Path(__file__).parents[4] / "pipelines" / "tiny_gemma2")
D_SAE = 40


@pytest.fixture(scope="module")
def readout() -> Readout:
    return read_readout(MODEL)


@pytest.fixture(scope="module")
def model():
    return load_model(MODEL, "float32", "cpu").model


def sae_of(site: str, target: str | None = None, d_in: int = 128, seed: int = 0) -> SAE:
    draw = torch.Generator().manual_seed(seed)
    d_out = 160 if (target or site).startswith("attn_out") else 128
    return SAE(
        SAEConfig(d_in=d_in, d_sae=D_SAE, d_out=d_out, site=site, target_site=target),
        W_enc=torch.randn(d_in, D_SAE, generator=draw),
        b_enc=torch.zeros(D_SAE),
        W_dec=torch.randn(D_SAE, d_out, generator=draw),
        b_dec=torch.zeros(d_out),
        theta=torch.zeros(D_SAE),
    )


CASES = [
    ("resid_post.5", None, 128),
    ("mlp_out.2", None, 128),
    ("attn_out.3", None, 160),
    ("transcoder_in.1", "mlp_out.1", 128),
]


@pytest.mark.parametrize(("site", "target", "d_in"), CASES)
def test_effects_are_those_of_the_whole_model(
    readout: Readout, model, site: str, target: str | None, d_in: int
):
    sae = sae_of(site, target, d_in)
    found = directions(sae, readout, bins=32)
    kind, layer = (target or site).split(".")
    effects = slow.logit_effects(model, sae.W_dec, kind, int(layer))
    kept = np.flatnonzero(readout.kinds < 0)
    for i in range(D_SAE):
        mine = effects[i, kept]
        assert found.raised[i].tolist() == kept[slow.ranked(mine, 10)].tolist()
        assert found.lowered[i].tolist() == kept[slow.ranked(-mine, 10)].tolist()
        np.testing.assert_allclose(found.raised_by[i], effects[i, found.raised[i]], rtol=1e-5)
        np.testing.assert_allclose(found.lowered_by[i], effects[i, found.lowered[i]], rtol=1e-5)
        np.testing.assert_allclose(found.logit_edges[i, [0, -1]], [mine.min(), mine.max()], 1e-5)
        counts = np.histogram(mine, found.logit_edges[i])[0]
        # float32 may move what is at an edge by one bin.
        assert np.abs(counts - found.logit_histogram[i]).sum() <= 4
        assert found.logit_histogram[i].sum() == len(kept)


def test_blocks_make_no_difference(readout: Readout, monkeypatch: pytest.MonkeyPatch):
    sae = sae_of("resid_post.3")
    whole = directions(sae, readout)
    monkeypatch.setattr(logits_module, "_EFFECTS_BYTES", 4 * 4096 * 7)
    monkeypatch.setattr(logits_module, "_TOKENS_BYTES", 4 * 128 * 1000)
    monkeypatch.setattr(logits_module, "_COUNTED", 5000)
    parts = directions(sae, readout)
    np.testing.assert_array_equal(whole.raised, parts.raised)
    np.testing.assert_allclose(whole.lowered_by, parts.lowered_by, rtol=1e-5)
    np.testing.assert_allclose(whole.logit_histogram, parts.logit_histogram, atol=2)


@pytest.mark.parametrize(("site", "target", "d_in"), CASES)
def test_neighbours_are_the_nearest(readout: Readout, site: str, target: str | None, d_in: int):
    sae = sae_of(site, target, d_in)
    other = sae_of(site, target, d_in, seed=1)
    found = directions(sae, readout, others={"other": lambda: other})
    sides = [(found.decoder, sae.W_dec, sae.W_dec, 8)]
    sides.append((found.others["other"], sae.W_dec, other.W_dec, 3))
    assert (found.encoder is None) == (target is None)
    if found.encoder is not None:
        sides.append((found.encoder, sae.W_enc.T, sae.W_enc.T, 8))
    for near, a, b, k in sides:
        all_pairs = slow.cosines(a, b)
        if a is b or near is found.encoder:
            np.fill_diagonal(all_pairs, -2)
        for i in range(D_SAE):
            assert near.latent[i].tolist() == slow.ranked(all_pairs[i], k)
            np.testing.assert_allclose(near.cosine[i], all_pairs[i, near.latent[i]], atol=1e-6)


def test_only_tokens_that_mean_something_are_listed(readout: Readout):
    found = directions(sae_of("resid_post.3"), readout, top=200)
    listed = np.unique(np.concatenate([found.raised, found.lowered]))
    assert (readout.kinds[listed] == -1).all()
    assert found.masked == {"special": 5, "byte": 130}


def test_site_that_is_read_has_no_output_tokens(readout: Readout):
    found = directions(sae_of("transcoder_in.2"), readout)
    assert found.raised.shape == found.lowered.shape == found.logit_histogram.shape == (D_SAE, 0)
    assert "transcoder_in is read by the layer" in found.path
    assert found.decoder.latent.shape == (D_SAE, 8)


def test_way_is_said(readout: Readout):
    assert directions(sae_of("attn_out.3", d_in=160), readout).path == (
        "decoder row → layer 3's self_attn.o_proj → gain of layer 3's post_attention_layernorm → "
        "final norm's gain → unembedding"
    )


def test_transcoder_of_unknown_target_has_no_output_tokens(readout: Readout):
    sae = sae_of("transcoder_in.2", "mlp_out.2")
    config = sae.config.model_copy(update={"target_site": None, "transcoder": True})
    found = directions(replace(sae, config=config), readout)
    assert found.raised.shape == (D_SAE, 0) and "do not say which site" in found.path


def test_site_may_be_given(readout: Readout):
    sae = sae_of("resid_post.3")
    bare = replace(sae, config=sae.config.model_copy(update={"site": None}))
    given = directions(bare, readout, site="resid_post.3")
    np.testing.assert_array_equal(given.raised, directions(sae, readout).raised)


def test_row_of_zeros_lists_nothing(readout: Readout):
    sae = sae_of("resid_post.3")
    sae.W_dec[4] = 0
    found = directions(sae, readout)
    assert (found.raised[4] == -1).all() and found.logit_histogram[4].sum() == 0
    assert (found.decoder.latent[4] == -1).all() and 4 not in found.decoder.latent
    assert np.isfinite(found.map).all()


def test_misfits_are_refused(readout: Readout):
    with pytest.raises(
        ValueError, match=r"SAE must write resid_post\.3 of model .*, 128 wide, got"
    ):
        directions(random_sae("resid_post.3"), readout)
    with pytest.raises(ValueError, match=r"site resid_post\.9 does not exist: the model has 6"):
        directions(sae_of("resid_post.9"), readout)
    narrow = sae_of("attn_out.1", d_in=160)
    with pytest.raises(ValueError, match="other SAE b must have decoder rows of 128 numbers, got"):
        directions(sae_of("mlp_out.1"), readout, others={"b": lambda: narrow})
