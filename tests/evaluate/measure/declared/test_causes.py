"""The usual causes are found by trying them: site, scale, BOS."""

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from scopeworks.evaluate.measure.declared.causes import add_warnings, sample_of, say_warnings
from scopeworks.evaluate.measure.inputs import HeldOut, candidate
from scopeworks.evaluate.run import evaluate_many
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.harvest.model.hooks import forward_until
from scopeworks.harvest.model.sites import parse_site
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

PAD, EOS, BOS = 0, 1, 2
SITE = "resid_post.2"


@pytest.fixture(scope="module")
def large_bos(lm: Any) -> Any:
    """The random model, in which BOS has activations as large as in a trained one."""
    model = copy.deepcopy(lm.model)
    with torch.no_grad():
        model.get_input_embeddings().weight[BOS] *= 60
    return SimpleNamespace(**(vars(lm) | {"model": model, "fingerprint": "f"}))


@pytest.fixture
def held_out(ids: torch.Tensor) -> HeldOut:
    return HeldOut(ids.numpy().astype(np.uint32), len(ids), torch.tensor([PAD, EOS, BOS]))


def sae_of(lm: Any, ids: torch.Tensor, **declared: Any) -> SAE:
    """An SAE of `SITE` that knows the twelve main directions of its text, and has 200 latents of
    BOS alone, which it was never taught to decode."""
    x = forward_until(lm, ids, [parse_site(SITE)])[SITE]
    bos, rest = x[0, 0], x[ids > BOS]
    main = torch.linalg.svd(rest - rest.mean(0), full_matrices=False).Vh[:12]
    direction = bos / bos.norm()
    threshold = 2 * float((rest @ direction).abs().max())
    assert float(bos.norm()) > threshold
    W_enc = torch.cat([main.T, -main.T, direction[:, None].repeat(1, 200)], dim=1)
    W_dec = torch.cat([main, -main, torch.randn(200, 32, generator=_generator())])
    projected = (rest - rest.mean(0)) @ main.T
    tensors = {
        "W_enc": W_enc,
        "b_enc": torch.cat([-(rest.mean(0) @ W_enc[:, :24]), torch.zeros(200)]),
        "W_dec": W_dec,
        "b_dec": rest.mean(0),
        "theta": torch.cat([projected.abs().median().expand(24), torch.full((200,), threshold)]),
    }
    config = SAEConfig(d_in=32, d_sae=224, d_out=32, site=SITE)
    counts = (SAE(config, **tensors).encode(x) > 0).sum(-1).float()
    known = {"l0": float(counts[ids > BOS].mean())} | declared
    if known["l0"] == "with BOS":
        known["l0"] = float(counts.mean())
    return SAE(config.model_copy(update=known), **tensors)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def warnings_of(
    lm: Any, sae: SAE, held_out: HeldOut, settings: EvaluateSettings, capsys: Any
) -> list[str]:
    """What is said of one SAE, which must be the same in the entry and on stderr."""
    one = candidate("sae", sae, lm)
    entries = evaluate_many(lm, [one], held_out, settings)["saes"]
    capsys.readouterr()
    add_warnings(entries, lm, [one], held_out)
    say_warnings(entries)
    said = capsys.readouterr().err
    assert said == "".join(f"warning: SAE sae: {text}\n" for text in entries[0]["warnings"])
    return entries[0]["warnings"]


def test_an_sae_that_does_what_its_file_says_gets_no_warning_and_no_further_pass(
    large_bos, ids, held_out, settings, capsys, monkeypatch
):
    monkeypatch.setattr("scopeworks.evaluate.measure.declared.causes.sample_of", None)
    sae = sae_of(large_bos, ids)
    assert warnings_of(large_bos, sae, held_out, settings, capsys) == []
    sae.config = sae.config.model_copy(update={"l0": None})
    assert warnings_of(large_bos, sae, held_out, settings, capsys) == []


def test_wrong_site_of_the_same_width_is_named(large_bos, ids, held_out, settings, capsys):
    sae = sae_of(large_bos, ids, site="mlp_out.1")
    (text,) = warnings_of(large_bos, sae, held_out, settings, capsys)
    assert "where its files declare" in text
    assert f"The likely cause: it is an SAE of {SITE} (L0 " in text


def test_missing_normalisation_is_named(large_bos, ids, held_out, settings, capsys):
    sae = sae_of(large_bos, ids)
    x = forward_until(large_bos, ids, [parse_site(SITE)])[SITE][ids > BOS]
    c = float(x.square().sum(1).mean().sqrt())
    for name, factor in (("1", c), ("d", c / 32**0.5)):
        scaled = replace(sae, W_enc=sae.W_enc * factor, W_dec=sae.W_dec / factor)
        scaled.config = sae.config.model_copy(update={"l0": sae.config.l0})
        scaled.b_dec = sae.b_dec / factor
        (text,) = warnings_of(large_bos, scaled, held_out, settings, capsys)
        assert f"The likely cause: it reads inputs scaled so that E‖x‖² = {name}, " in text


def test_bos_in_the_declared_figure_is_named(large_bos, ids, held_out, settings, capsys):
    sae = sae_of(large_bos, ids, l0="with BOS")
    (text,) = warnings_of(large_bos, sae, held_out, settings, capsys)
    assert "The likely cause: what it declares includes BOS, EOS and PAD, which" in text


def test_bos_that_the_store_does_not_name_is_named(large_bos, ids, held_out, settings, capsys):
    counted = replace(held_out, special=torch.tensor([PAD, EOS]))
    (text,) = warnings_of(large_bos, sae_of(large_bos, ids), counted, settings, capsys)
    assert "The likely cause: the first token of every sequence counts here, a BOS that" in text


def test_another_model_is_named_first_and_what_is_not_known_is_said(
    large_bos, ids, held_out, settings, capsys
):
    sae = sae_of(large_bos, ids, site="mlp_out.1", model="gemma", model_fingerprint="other")
    (text,) = warnings_of(large_bos, sae, held_out, settings, capsys)
    assert "It is measured on another model than gemma, which it was trained on" in text
    sae = sae_of(large_bos, ids, l0=200.0)
    (text,) = warnings_of(large_bos, sae, held_out, settings, capsys)
    assert "Usual causes are another site" in text and "none of them could be shown" in text


def test_fvu_above_one_finds_its_site_without_a_declared_l0(
    large_bos, ids, held_out, settings, capsys
):
    sae = sae_of(large_bos, ids, l0=None, site="mlp_out.1")
    (text,) = warnings_of(large_bos, sae, held_out, settings, capsys)
    assert text.startswith("FVU is ") and f"it is an SAE of {SITE} " in text


def test_a_large_models_sample_is_cut(lm, held_out, monkeypatch):
    whole = sample_of(lm, held_out)
    assert len(whole.keep) == 66 == len(whole.x[parse_site(SITE)])
    monkeypatch.setattr("scopeworks.evaluate.measure.declared.causes._SAMPLE_BYTES", 1)
    cut = sample_of(lm, held_out)
    assert len(cut.keep) == 16
    assert torch.equal(cut.first.nonzero().flatten(), torch.tensor([0, 11]))
    for site, rows in cut.x.items():
        torch.testing.assert_close(rows, whole.x[site][:16])
