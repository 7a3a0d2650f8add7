"""SAEs of the settings: which are read when, and what does not fit the model."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scopeworks.evaluate.run import evaluate_saes, evaluation
from scopeworks.evaluate.run.saes import SAEs, short_names
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.settings import resolve
from scopeworks.tests.evaluate.saes import random_sae
from scopeworks.tests.hub_server import folder_files, serving, use
from scopeworks.train.sae.sae import SAE


def looked_through(settings: EvaluateSettings, most_bytes: int = 2**40) -> SAEs:
    saes = SAEs(settings)
    saes.look_through(most_bytes)
    return saes


def sae_of(fingerprint, folder):
    """A saved SAE that was trained on the model of that fingerprint."""
    sae = random_sae("resid_post.1")
    facts = {"model": "the/other", "model_fingerprint": fingerprint}
    sae.config = sae.config.model_copy(update=facts)
    sae.save(folder)
    return folder


def test_model_that_the_sae_was_not_trained_on_is_refused_unless_asked_for(lm, tmp_path):
    model: Any = SimpleNamespace(**vars(lm), fingerprint="aaaa")
    flags = {"model": "m", "tokens": "t", "out": tmp_path / "e.json"}
    paths = [sae_of("aaaa", tmp_path / "same"), sae_of(None, tmp_path / "unknown")]
    settings = resolve(EvaluateSettings, sae=paths, **flags)
    assert len(looked_through(settings).items(model)) == 2
    flags["sae"] = sae_of("bbbb", tmp_path / "other")
    settings = resolve(EvaluateSettings, **flags)
    with pytest.raises(
        ValueError, match=r"trained on, the/other \(fingerprint bbbb\), got grouped"
    ):
        looked_through(settings).items(model)
    settings = resolve(EvaluateSettings, other_model=True, **flags)
    assert looked_through(settings).items(model)


def test_given_sites_are_for_files_that_do_not_tell_theirs(lm, tmp_path):
    told, foreign = random_sae("resid_post.1"), random_sae("mlp_in.2", "mlp_out.2")
    foreign.config = foreign.config.model_copy(update={"site": None, "target_site": None})
    transcoder = random_sae("mlp_in.1", "mlp_out.1")
    paths = [tmp_path / "told", tmp_path / "foreign", tmp_path / "transcoder"]
    for sae, path in zip((told, foreign, transcoder), paths, strict=True):
        sae.save(path)
    flags = {"model": "m", "tokens": "t", "out": tmp_path / "e.json"}
    flags |= {"site": "mlp_in.2", "target_site": "mlp_out.2"}
    saes = looked_through(resolve(EvaluateSettings, sae=paths, **flags))
    wanted = [(str(one.site), str(one.target)) for one in saes.items(lm)]
    assert wanted == [
        ("resid_post.1", "resid_post.1"),
        ("mlp_in.2", "mlp_out.2"),
        ("mlp_in.1", "mlp_out.1"),
    ]
    found = saes.candidates([0, 1, 2], lm)
    assert [(str(one.site), str(one.target)) for one in found] == wanted


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "site of SAE unknown must be known"),
        ({"sae": "told", "site": "mlp_out.1"}, "site of SAE told must be resid_post"),
        ({"sae": "told", "target_site": "mlp_out.1"}, "target_site of SAE told must not be given"),
        ({"site": "nowhere"}, "nowhere"),
    ],
)
def test_sites_are_checked_before_a_model_is_loaded(tmp_path, given, text):
    told, unknown = random_sae("resid_post.1"), random_sae("resid_post.1")
    unknown.config = unknown.config.model_copy(update={"site": None})
    told.save(tmp_path / "told")
    unknown.save(tmp_path / "unknown")
    flags = {"model": "no-such-model", "tokens": "t", "out": tmp_path / "e.json"} | given
    flags["sae"] = [tmp_path / flags.get("sae", "unknown"), tmp_path / "told"][: 1 + (not given)]
    with pytest.raises(ValueError, match=text):
        evaluate_saes(resolve(EvaluateSettings, **flags))


def test_memory_is_asked_of_the_host_for_reading_and_of_the_device_beside_the_model(
    model_dir, tokens_url, tmp_path, monkeypatch
):
    asked, load = [], evaluation.EvaluationJob.load
    paths = [sae_of(None, tmp_path / name) for name in ("a", "b")]
    sizes = {"host": 2**40, "beside": 2**40}

    def free(device):
        asked.append("beside" if "model" in asked else "host")
        assert device == torch.device("cpu")
        return sizes[asked[-1]]

    def loaded(*given):
        asked.append("model")
        return load(*given)

    monkeypatch.setattr(evaluation, "free_memory", free)
    monkeypatch.setattr(evaluation.EvaluationJob, "load", loaded)
    settings = resolve(
        EvaluateSettings, sae=paths, model=str(model_dir), tokens=tokens_url, device="cpu",
        dtype="float32", top_latents=0, out=tmp_path / "e.json",
    )  # fmt: skip
    evaluate_saes(settings)
    assert asked == ["host", "model", "beside"]
    for host, beside, n_groups in (
        (2**40, 0, 2),  # weights that are read already need no more memory: half of them is left
        (0, 2**40, 1),
    ):
        sizes |= {"host": host, "beside": beside}
        asked.clear()
        evaluate_saes(settings)
        times = json.loads((tmp_path / "timing.json").read_text())["e.json"]
        assert len(times["groups"]) == n_groups


@pytest.mark.parametrize(
    ("harvests", "asked", "taken", "said"),
    [
        (("float32",), "auto", "float32", ""),
        (("bfloat16", "bfloat16"), "auto", "bfloat16", ""),
        (("float32", None), "auto", "float32", ""),
        (("float32", "bfloat16"), "auto", "bfloat16", "run in bfloat16: the SAEs come from"),
        ((None,), "auto", "bfloat16", "run in bfloat16: the SAEs do not record"),
        (("float32",), "bfloat16", "bfloat16", ""),
    ],
)
def test_model_is_run_in_the_harvests_dtype(
    model_dir, tokens_url, tmp_path, monkeypatch, capsys, harvests, asked, taken, said
):
    monkeypatch.setattr("scopeworks.evaluate.run.saes.good_dtype", lambda _device: "bfloat16")
    paths = []
    for i, dtype in enumerate(harvests):
        sae = random_sae("resid_post.1")
        sae.config = sae.config.model_copy(update={"model_dtype": dtype})
        sae.save(tmp_path / f"sae{i}")
        paths.append(tmp_path / f"sae{i}")
    settings = EvaluateSettings(
        sae=tuple(paths), model=str(model_dir), tokens=tokens_url, out=tmp_path / "e.json",
        dtype=asked, top_latents=0, n_sequences=2, device="cpu",
    )  # fmt: skip
    result = evaluate_saes(settings)
    assert (result["model"]["dtype"], result["settings"]["dtype"]) == (taken, taken)
    err = capsys.readouterr().err
    assert (said in err) if said else ("the model is run in" not in err)


def test_short_names_take_as_many_folders_as_tell_paths_apart():
    assert short_names([Path("runs/a"), Path("runs/b")]) == ["a", "b"]
    assert short_names([Path("x/sae"), Path("y/sae")]) == ["x/sae", "y/sae"]


@pytest.mark.parametrize(("most_bytes", "reads"), [(2**20, 2), (20_000, 4), (0, 4)])
def test_weights_that_do_not_fit_together_are_read_again_for_their_group(
    lm, tmp_path, monkeypatch, most_bytes, reads
):
    paths = [sae_of(None, tmp_path / name) for name in ("a", "b")]
    count, load = [], SAE.load
    monkeypatch.setattr(SAE, "load", lambda path: count.append(path) or load(path))
    settings = resolve(EvaluateSettings, sae=paths, model="m", tokens="t", out=tmp_path / "e.json")
    saes = looked_through(settings, most_bytes)
    found = [saes.candidates([i], lm)[0] for i in (0, 1)]
    assert [one.name for one in found] == ["a", "b"]
    assert len(count) == reads


def test_saes_come_from_the_hub_by_their_addresses(lm, tmp_path, monkeypatch):
    made = random_sae("resid_post.1")
    made.save(tmp_path / "a/sae")
    with serving() as hub:
        use(hub, tmp_path / "cache", monkeypatch)
        commit = hub.add("user/saes", folder_files(tmp_path / "a"))
        names = ("hf://user/saes/sae", str(tmp_path / "a/sae"))
        settings = EvaluateSettings(sae=names, model="m", tokens="t", out=tmp_path / "e.json")
        there, here = (one.sae for one in looked_through(settings).candidates([0, 1], lm))
    assert (there.source, here.source) == (f"hf://user/saes@{commit}/sae", None)
    assert torch.equal(there.W_enc, here.W_enc)
    assert short_names(settings.sae) == ["saes/sae", "a/sae"]
