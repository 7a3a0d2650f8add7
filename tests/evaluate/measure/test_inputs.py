"""Inputs that do not belong together are refused in one line that says what to do."""

import numpy as np
import pytest
import torch

from scopeworks.evaluate.measure.inputs import (
    candidate,
    open_held_out,
)
from scopeworks.evaluate.run import evaluate_saes
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.harvest.model.vocabulary import tokenizer_fingerprint
from scopeworks.settings import resolve
from scopeworks.store import TokenStore
from scopeworks.tests.evaluate.saes import random_sae


def write_tokens(url, splits, provenance=None, eos=1):
    context = next(iter(splits.values())).shape[1]
    tokens = TokenStore.create(url, context=context, bos=2, eos=eos, pad=0, provenance=provenance)
    tokens.write(splits)
    return str(url)


def some_ids(n=3, context=11):
    return np.full((n, context), 7, dtype=np.uint32)


def test_held_out_split_is_read_in_order_and_only_as_far_as_asked(lm, tmp_path):
    ids = np.arange(3, 25, dtype=np.uint32).reshape(2, 11)
    url = write_tokens(tmp_path / "t", {"train": some_ids(), "held_out": ids})
    _, held_out = open_held_out(url, lm, 1)
    batches = list(held_out.batches(8, torch.device("cpu")))
    assert [batch.ids.tolist() for batch in batches] == [ids[:1].tolist()]
    assert held_out.special.tolist() == [0, 1, 2]


def test_store_without_held_out_sequences_is_refused(lm, tmp_path):
    url = write_tokens(tmp_path / "t", {"train": some_ids()})
    provenance = {"settings": {"held_out": 0.05}}
    asked_for = write_tokens(tmp_path / "asked_for", {"train": some_ids()}, provenance)
    with pytest.raises(ValueError, match=r"share of 0\.05 .* fills no sequence; split the text"):
        open_held_out(asked_for, lm, 1)
    with pytest.raises(ValueError, match="must have held-out sequences, got the splits train"):
        open_held_out(url, lm, 10)


def test_missing_store_is_refused(lm, tmp_path):
    with pytest.raises(FileNotFoundError, match="no complete token store"):
        open_held_out(str(tmp_path / "none"), lm, 10)


def test_tokens_of_another_tokenizer_are_refused(lm, tmp_path):
    provenance = {"tokenizer": "0123456789abcdef"}
    url = write_tokens(tmp_path / "t", {"held_out": some_ids()}, provenance)
    with pytest.raises(ValueError, match=r"must be of the tokenizer of grouped .* got 0123456789"):
        open_held_out(url, lm, 10)


def test_tokens_of_the_same_tokenizer_are_taken(lm, tmp_path):
    provenance = {"tokenizer": tokenizer_fingerprint(lm.tokenizer)}
    url = write_tokens(tmp_path / "t", {"held_out": some_ids()}, provenance)
    assert open_held_out(url, lm, 10)[1].n == 3


def test_other_special_tokens_are_refused(lm, tmp_path):
    url = write_tokens(tmp_path / "t", {"held_out": some_ids()}, eos=5)
    with pytest.raises(ValueError, match=r"eos of tokens .* must be 1, .* got 5"):
        open_held_out(url, lm, 10)


def test_sequences_longer_than_the_model_takes_are_refused(lm, tmp_path):
    url = write_tokens(tmp_path / "t", {"held_out": some_ids(context=65)})
    with pytest.raises(ValueError, match="context must be at most 64"):
        open_held_out(url, lm, 10)


def test_held_out_tokens_that_are_all_special_are_refused(model_dir, sae_dir, tmp_path):
    ids = np.full((2, 11), 2, dtype=np.uint32)
    url = write_tokens(tmp_path / "t", {"held_out": ids})
    settings = EvaluateSettings(
        sae=(sae_dir,), model=str(model_dir), tokens=url, out=tmp_path / "e.json"
    )
    with pytest.raises(ValueError, match="must hold two ordinary tokens in a row"):
        evaluate_saes(settings)
    assert not settings.out.exists()


@pytest.mark.parametrize("context", [2, 3])
def test_sequences_without_a_prediction_are_refused(model_dir, sae_dir, tmp_path, context):
    ids = np.array([[2, 7, 0][:context], [2, 9, 0][:context]], dtype=np.uint32)
    url = write_tokens(tmp_path / "t", {"held_out": ids})
    settings = EvaluateSettings(
        sae=(sae_dir,), model=str(model_dir), tokens=url, out=tmp_path / "e.json"
    )
    text = f"must hold two ordinary tokens in a row.* got none in 2 of {context} tokens"
    with pytest.raises(ValueError, match=text):
        evaluate_saes(settings)
    assert not settings.out.exists()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"out": "gs://b/e.json"}, "out must be a local path"),
        ({"sae": ("file:/b/sae",)}, "sae must be a local path"),
        ({"storage_options": {"a": 1}}, "storage_options has no effect on local tokens"),
        ({"top_latents": 0, "top_snippets": 2}, "top_snippets has no effect with top_latents 0"),
        ({"top_latents": 0, "seed": 2}, "seed has no effect with top_latents 0 and without imp"),
        ({"seed": 2**63}, "seed must be less than 9223372036854775808|seed: .*less than 92233"),
        ({"norms_of": "./m/"}, "norms_of has no effect where it is the model itself"),
    ],
)
def test_settings_without_effect_or_place_are_refused(wrong, text):
    good = {"sae": ("a",), "model": "m", "tokens": "t", "out": "e.json"}
    with pytest.raises(ValueError, match=text):
        resolve(EvaluateSettings, **(good | wrong))


def test_layer_the_model_has_not_is_refused(lm):
    with pytest.raises(ValueError, match=r"resid_post\.9 does not exist: the model has 4 layers"):
        candidate("a", random_sae("resid_post.9"), lm)


def test_width_of_another_model_is_refused(lm):
    sae = random_sae("attn_out.1")
    sae.config = sae.config.model_copy(update={"site": "resid_post.1"})
    with pytest.raises(ValueError, match=r"d_in of SAE a must be 32, the width of resid_post\.1"):
        candidate("a", sae, lm)


def test_target_width_is_checked_too(lm):
    sae = random_sae("mlp_out.1", "attn_out.2")
    sae.config = sae.config.model_copy(update={"target_site": "mlp_out.2"})
    with pytest.raises(ValueError, match=r"d_out of SAE a must be 32, the width of mlp_out\.2"):
        candidate("a", sae, lm)


def test_transcoder_whose_target_is_not_known_is_refused_until_it_is_given(lm):
    sae = random_sae("mlp_in.1", "mlp_out.1")
    sae.config = sae.config.model_copy(update={"target_site": None, "transcoder": True})
    with pytest.raises(ValueError, match=r"target_site of SAE a must be known.*pass target_site"):
        candidate("a", sae, lm)
    assert str(candidate("a", sae, lm, target_site="mlp_out.1").target) == "mlp_out.1"


def test_target_site_makes_no_transcoder_of_an_sae_whose_file_tells_its_site(lm):
    sae = random_sae("resid_post.1")
    text = r"target_site of SAE a must not be given, .* SAE of resid_post\.1 and no transcoder"
    with pytest.raises(ValueError, match=text):
        candidate("a", sae, lm, target_site="mlp_out.2")
    sae.config = sae.config.model_copy(update={"site": None})
    given = candidate("a", sae, lm, site="mlp_in.1", target_site="mlp_out.2")
    assert (str(given.site), str(given.target)) == ("mlp_in.1", "mlp_out.2")


def test_target_before_the_input_is_refused(lm):
    with pytest.raises(ValueError, match=r"must not come before its site mlp_out\.2"):
        candidate("a", random_sae("mlp_out.2", "resid_post.1"), lm)


def test_sae_without_a_site_needs_one(lm):
    sae = random_sae("resid_post.1")
    sae.config = sae.config.model_copy(update={"site": None})
    with pytest.raises(ValueError, match="site of SAE a must be known"):
        candidate("a", sae, lm)
    assert str(candidate("a", sae, lm, site="resid_post.2").site) == "resid_post.2"


def test_given_site_may_not_contradict_the_file(lm):
    with pytest.raises(ValueError, match=r"site of SAE a must be resid_post\.1, as its file says"):
        candidate("a", random_sae("resid_post.1"), lm, site="resid_post.2")


def test_missing_sae_is_named(model_dir, tokens_url, tmp_path):
    settings = EvaluateSettings(
        sae=(tmp_path / "none",), model=str(model_dir), tokens=tokens_url, out=tmp_path / "e.json"
    )
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        evaluate_saes(settings)


def test_out_that_is_a_folder_is_refused_before_any_work(tmp_path):
    settings = EvaluateSettings(sae=(tmp_path,), model="m", tokens="t", out=tmp_path)
    with pytest.raises(IsADirectoryError, match="out must be a file, got the folder"):
        evaluate_saes(settings)


def test_settings_take_one_path_or_several_but_each_once(tmp_path):
    flags = {"model": "m", "tokens": "t", "out": tmp_path / "e.json"}
    assert len(resolve(EvaluateSettings, sae="a", **flags).sae) == 1
    assert len(resolve(EvaluateSettings, sae=["a", "b"], **flags).sae) == 2
    with pytest.raises(ValueError, match="must name each SAE once"):
        resolve(EvaluateSettings, sae=["a", "a"], **flags)


def test_fewer_firing_sequences_than_sequences_are_refused(tmp_path):
    flags = {"sae": "a", "model": "m", "tokens": "t", "out": tmp_path / "e.json"}
    with pytest.raises(ValueError, match=r"firing_sequences must be at least n_sequences \(9\)"):
        resolve(EvaluateSettings, n_sequences=9, firing_sequences=8, **flags)
