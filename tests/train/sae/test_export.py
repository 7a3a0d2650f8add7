"""Release formats: what is written loads again, here and in the real SAELens, to the same SAE."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scopeworks.harvest.model.hooks import forward_until
from scopeworks.harvest.model.sites import parse_site
from scopeworks.tests.reference.gemma_models import build_model
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.export import export_sae
from scopeworks.train.sae.formats.shared.names import site_of_hook, width_name
from scopeworks.train.sae.norm_gain import norm_gain
from scopeworks.train.sae.sae import SAE

D_IN, D_SAE = 24, 4096  # a width that the Gemma Scope loaders know


def random_sae(site: str = "resid_post.5", target_site: str | None = None, skip: bool = False):
    """An SAE with every tensor random and about half of the latents active."""
    generator = torch.Generator().manual_seed(7)
    d_out = 10 if target_site else D_IN

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    W_dec = draw(D_SAE, d_out)
    config = SAEConfig(
        d_in=D_IN,
        d_sae=D_SAE,
        d_out=d_out,
        site=site,
        target_site=target_site,
        model="gemma-2-2b",
        context=1024,
        tokens="corpus",
        normaliser=30.0,
        l0=71.4,
    )
    return SAE(
        config,
        W_enc=draw(D_IN, D_SAE),
        b_enc=draw(D_SAE),
        W_dec=W_dec / W_dec.norm(dim=1, keepdim=True),
        b_dec=draw(d_out),
        theta=draw(D_SAE).abs(),
        W_skip=draw(D_IN, d_out) if skip else None,
    )


def rows(n: int = 8) -> torch.Tensor:
    """Raw activations."""
    return 30 * torch.randn(n, D_IN, generator=torch.Generator().manual_seed(1))


def saved(sae: SAE, tmp_path: Path) -> Path:
    """The SAE as a trained folder."""
    sae.save(tmp_path / "trained")
    return tmp_path / "trained"


@pytest.mark.parametrize(
    ("width", "name"),
    [
        (2**14, "16k"),
        (2**15, "32k"),
        (2**16, "65k"),
        (2**17, "131k"),
        (2**18, "262k"),
        (2**19, "524k"),
        (2**20, "1m"),
        (2**11, "2k"),
        (512, "512"),
    ],
)
def test_widths_are_named_as_in_the_release(width: int, name: str):
    assert width_name(width) == name


@pytest.mark.parametrize("format", ["gemma-scope", "sae-lens", "gemma-scope-2"])
def test_export_and_load_give_the_same_sae(tmp_path: Path, format: str):
    sae = random_sae()
    folder = export_sae(saved(sae, tmp_path), format, tmp_path / "out")
    again = SAE.load(folder)
    x = rows()
    assert torch.equal(again.encode(x), sae.encode(x))
    assert torch.equal(again(x), sae(x))
    if format != "gemma-scope":
        assert (again.config.site, again.config.model) == ("resid_post.5", "gemma-2-2b")


def test_an_sae_is_exported_as_its_folder_is(tmp_path: Path):
    sae = random_sae()
    out = export_sae(sae, "gemma-scope", tmp_path / "of object", l0=70.0)
    same = export_sae(saved(sae, tmp_path), "gemma-scope", tmp_path / "of folder", l0=70.0)
    assert out.name == same.name
    for name in [path.name for path in same.iterdir() if path.is_file()]:
        assert (out / name).read_bytes() == (same / name).read_bytes()
    assert SAE.load(out).config.l0 == 70.0


def test_params_npz_lies_where_the_release_has_it(tmp_path: Path):
    sae = random_sae()
    out = tmp_path / "gemma-scope-2b-pt-res"
    folder = export_sae(saved(sae, tmp_path), "gemma-scope", out)
    assert folder == out / "layer_5/width_4k/average_l0_71"
    with np.load(folder / "params.npz", allow_pickle=False) as data:
        shapes = {name: (data[name].shape, str(data[name].dtype)) for name in data.files}
    assert shapes == {
        "W_enc": ((D_IN, D_SAE), "float32"),
        "W_dec": ((D_SAE, D_IN), "float32"),
        "b_enc": ((D_SAE,), "float32"),
        "b_dec": ((D_IN,), "float32"),
        "threshold": ((D_SAE,), "float32"),
    }
    config = SAE.load(folder / "params.npz").config
    assert (config.site, config.l0) == ("resid_post.5", 71.4)


def test_hooks_map_back_to_sites():
    assert site_of_hook("blocks.12.attn.hook_z") == "attn_out.12"
    assert site_of_hook("model.layers.3.output") == "resid_post.3"
    # A module's path alone is its output, as SAELens hooks it.
    assert site_of_hook("model.layers.3") == "resid_post.3"
    assert site_of_hook("model.language_model.layers.3") == "resid_post.3"
    assert site_of_hook("model.layers.3.post_feedforward_layernorm") == "mlp_out.3"
    # The output of o_proj, TransformerLens's input of the norm and of the layer: other tensors.
    for hook in (
        "model.layers.3.self_attn.o_proj",
        "blocks.3.hook_mlp_in",
        "blocks.3.hook_resid_pre",
    ):
        assert site_of_hook(hook) is None
    assert site_of_hook("model.layers.\u0663.output") is None


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("google/gemma-2-2b", "google/gemma-2-2b"),
        ("gemma-2-2b", "gemma-2-2b"),
        ("/home/me/models/tiny/", "tiny"),
        ("./tiny", "tiny"),
        ("~/tiny", "tiny"),
        ("../models/tiny", "tiny"),
        ("C:\\models\\tiny", "tiny"),
    ],
)
def test_a_models_folder_is_no_part_of_an_export(tmp_path: Path, model: str, name: str):
    sae = random_sae()
    sae.config = sae.config.model_copy(update={"model": model, "tokens": str(tmp_path)})
    trained = saved(sae, tmp_path)
    for format in ("gemma-scope", "sae-lens", "gemma-scope-2"):
        folder = export_sae(trained, format, tmp_path / format)
        assert SAE.load(folder).config.model == name
        texts = [path.read_text() for path in folder.glob("*.json")]
        assert texts and not any(str(tmp_path) in text for text in texts)


def test_unknown_format_and_full_folder_are_refused(tmp_path: Path):
    trained = saved(random_sae(), tmp_path)
    with pytest.raises(
        ValueError, match="format must be one of sae-lens, gemma-scope-2, gemma-scope, got"
    ):
        export_sae(trained, "onnx", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("keep")
    with pytest.raises(ValueError, match="out must be empty or hold an earlier export"):
        export_sae(trained, "sae-lens", tmp_path / "full")


def test_format_that_cannot_hold_the_sae_says_so(tmp_path: Path):
    trained = saved(random_sae("transcoder_in.5", "mlp_out.5", skip=True), tmp_path)
    with pytest.raises(ValueError, match="no place for the skip connection"):
        export_sae(trained, "gemma-scope", tmp_path / "out")
    # transformers has no module with the gainless vector: naming the norm would be a wrong tensor.
    with pytest.raises(ValueError, match=r"none has transcoder_in\.5 or mlp_out\.5 .*pass model"):
        export_sae(trained, "gemma-scope-2", tmp_path / "out")


def test_gained_norm_is_not_taken_for_the_gainless_site():
    assert site_of_hook("model.layers.5.pre_feedforward_layernorm.output") == "mlp_in.5"
    assert site_of_hook("blocks.5.ln2.hook_normalized") == "transcoder_in.5"


@pytest.mark.parametrize("format", ["gemma-scope", "sae-lens", "gemma-scope-2"])
def test_export_again_is_fine_and_another_sae_there_is_kept(tmp_path: Path, format: str):
    sae = random_sae()
    folder = export_sae(saved(sae, tmp_path), format, tmp_path / "out")
    assert export_sae(tmp_path / "trained", format, tmp_path / "out") == folder
    before = {path: path.read_bytes() for path in folder.iterdir()}
    other = SAE(sae.config, **(sae.tensors() | {"b_dec": sae.b_dec + 1}))
    other.save(tmp_path / "other", {})
    with pytest.raises(ValueError, match="out must not hold another SAE"):
        export_sae(tmp_path / "other", format, tmp_path / "out")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def write_npz(folder: Path, **arrays: Any) -> None:
    np.savez(folder / "params.npz", allow_pickle=True, **arrays)


def write_lens(folder: Path, **changes: Any) -> None:
    config = {"architecture": "jumprelu", "apply_b_dec_to_input": False} | changes
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file({"W_enc": torch.zeros(2, 3)}, folder / "sae_weights.safetensors")


WRONG = {
    "nothing": (lambda f: None, "must hold one of .*got nothing"),
    "other": (lambda f: (f / "a.txt").write_text(""), "must hold one of .*got a.txt"),
    "unfinished": (
        lambda f: (f / "config.json").write_text('{"sae": null, "settings": {}}'),
        "training has not ended",
    ),
    "no config": (
        lambda f: save_file({"a": torch.zeros(1)}, f / "sae.safetensors"),
        "config.json does not exist",
    ),
    "pickle": (
        lambda f: write_npz(f, W_enc=np.array([{}], dtype=object)),
        "npz without pickles",
    ),
    "not npz": (lambda f: (f / "params.npz").write_bytes(b"PK no"), "npz without pickles"),
    "pickle as a file": ((lambda f: (f / "sae.bin").write_bytes(b"")), "got sae.bin"),
    "no decoder": (lambda f: write_npz(f, W_enc=np.zeros((2, 3))), "matrices W_enc and W_dec"),
    "odd tensor": (
        lambda f: write_npz(f, W_enc=np.zeros((2, 3)), gate=np.zeros(3)),
        "tensors that no SAE of its kind has: gate",
    ),
    "other kind": (lambda f: write_lens(f, architecture="tempo"), "must be .*got 'tempo'"),
    "normalised": (
        lambda f: write_lens(f, normalize_activations="layer_norm"),
        "normalize_activations must be none",
    ),
    "not json": (lambda f: (f / "cfg.json").write_text("{"), "is not valid JSON"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_sae_is_refused_with_the_reason(tmp_path: Path, case: str):
    write, text = WRONG[case]
    write(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        SAE.load(tmp_path)


def test_missing_path_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"SAE path .* does not exist"):
        SAE.load(tmp_path / "no")


def measured(out: Path, sae: Path, **facts: Any) -> Path:
    """An evaluation's JSON as far as export reads it."""
    entry = {"site": "mlp_out.3", "target_site": "mlp_out.3", "d_sae": D_SAE, "l0": 45.2} | facts
    out.write_text(json.dumps({"saes": [{"name": sae.name, "path": str(sae)} | entry]}))
    return out


def bare_npz(tmp_path: Path) -> Path:
    """A params.npz that nothing beside it explains."""
    folder = export_sae(saved(random_sae(), tmp_path), "gemma-scope", tmp_path / "bare")
    (folder / "origin.json").unlink()
    return folder / "params.npz"


def test_facts_that_the_files_do_not_tell_are_given(tmp_path: Path):
    path = bare_npz(tmp_path).rename(tmp_path / "params.npz")
    with pytest.raises(ValueError, match=r"site must be known .*pass site"):
        export_sae(path, "gemma-scope", tmp_path / "out")
    with pytest.raises(ValueError, match=r"l0 must be known .*pass l0, or evaluation"):
        export_sae(path, "gemma-scope", tmp_path / "out", site="resid_post.2")
    folder = export_sae(path, "gemma-scope", tmp_path / "out", site="resid_post.2", l0=30.4)
    assert folder == tmp_path / "out/layer_2/width_4k/average_l0_30"
    config = SAE.load(folder).config
    assert (config.site, config.l0) == ("resid_post.2", 30.4)


def test_an_sae_that_changed_is_not_exported_under_the_l0_it_had(tmp_path: Path):
    sae = SAE.load(saved(random_sae(), tmp_path))
    evaluation = measured(tmp_path / "e.json", tmp_path / "trained")
    sae.theta *= 2
    with pytest.raises(ValueError, match=r"l0 must be known .*pass l0, or evaluation"):
        export_sae(sae, "gemma-scope", tmp_path / "out")
    with pytest.raises(ValueError, match=r"evaluation .* must be of the SAE that was given, got"):
        export_sae(sae, "gemma-scope", tmp_path / "out", evaluation=evaluation)
    assert export_sae(sae, "gemma-scope", tmp_path / "out", l0=7.2).name == "average_l0_7"


def test_facts_come_from_an_evaluation(tmp_path: Path):
    path = bare_npz(tmp_path).rename(tmp_path / "params.npz")
    evaluation = measured(tmp_path / "e.json", path)
    folder = export_sae(path, "gemma-scope", tmp_path / "out", evaluation=evaluation)
    assert folder == tmp_path / "out/layer_3/width_4k/average_l0_45"
    assert SAE.load(folder).config.site == "mlp_out.3"
    given = export_sae(path, "gemma-scope", tmp_path / "out", evaluation=evaluation, l0=50)
    assert given.name == "average_l0_50"


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"path": "/elsewhere/sae"}, r"evaluation .* must be of the SAE .*, got /elsewhere/sae"),
        ({"d_sae": 16}, r"d_sae of trained must be 4096, .*got 16"),
        ({"l0": "many"}, r"e\.json does not hold what it must: saes\.0\.l0: .*got 'many'"),
        ({}, r"site must be resid_post\.5, as the SAE's files say, got mlp_out\.3"),
    ],
)
def test_evaluation_that_is_not_of_the_sae_is_refused(tmp_path: Path, facts: Any, text: str):
    trained = saved(random_sae(), tmp_path)
    evaluation = measured(tmp_path / "e.json", trained, **facts)
    with pytest.raises(ValueError, match=text):
        export_sae(trained, "gemma-scope", tmp_path / "out", evaluation=evaluation)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"site": "resid_post.4"}, r"site must be resid_post\.5, as the SAE's files say"),
        ({"l0": -1.0}, r"the options of export does not hold what it must: l0: "),
        ({"l0": 1e300}, r"l0: must be at most d_sae \(\d+\), got 1e\+300"),
        ({"l0": float("nan")}, r"the options of export does not hold what it must: l0: "),
        ({"model": "anything"}, r"model has no effect on an SAE of resid_post\.5 as sae-"),
        ({"target_site": "head.5"}, r"target_site must be known as <kind>\.<layer>.*got 'head\.5'"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, facts: Any, text: str):
    with pytest.raises(ValueError, match=text):
        export_sae(saved(random_sae(), tmp_path), "sae-lens", tmp_path / "out", **facts)


@pytest.mark.parametrize("format", ["gemma-scope", "sae-lens", "gemma-scope-2"])
def test_killed_export_is_completed_and_its_leftovers_go(tmp_path: Path, format: str):
    trained = saved(random_sae(), tmp_path)
    folder = export_sae(trained, format, tmp_path / "out")
    files = sorted(path.name for path in folder.iterdir())
    for last in ("params.npz", "cfg.json", "config.json"):
        (folder / last).unlink(missing_ok=True)
    for name in files:
        (folder / f".{name}.0123456789ab.partial").write_bytes(b"half")
    assert export_sae(trained, format, tmp_path / "out") == folder
    assert sorted(path.name for path in folder.iterdir()) == files
    assert torch.equal(SAE.load(folder)(rows()), random_sae()(rows()))


def test_theta_below_zero_is_written_as_zero(tmp_path: Path):
    sae = random_sae()
    sae.theta[:2000] = -1.0
    folder = export_sae(saved(sae, tmp_path), "sae-lens", tmp_path / "out")
    again = SAE.load(folder)
    assert float(again.theta.min()) == 0.0
    assert torch.equal(again.encode(rows()), sae.encode(rows()))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Gemma 2 with gains that are far from 1."""
    model = build_model("grouped")
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return folder


def transcoder(skip: bool) -> SAE:
    """A transcoder of the model's layer 2."""
    generator = torch.Generator().manual_seed(3)
    config = {"site": "transcoder_in.2", "target_site": "mlp_out.2", "l0": 9.0}
    return SAE(
        SAEConfig.model_validate({"d_in": 32, "d_sae": 64, "d_out": 32} | config),
        W_enc=torch.randn(32, 64, generator=generator),
        b_enc=torch.randn(64, generator=generator),
        W_dec=torch.randn(64, 32, generator=generator),
        b_dec=torch.randn(32, generator=generator),
        theta=torch.rand(64, generator=generator),
        W_skip=torch.randn(32, 32, generator=generator) if skip else None,
    )


@pytest.mark.parametrize("skip", [False, True])
def test_gain_is_folded_so_that_the_export_reads_where_gemma_scope_2_does(
    tmp_path: Path, model_dir: Path, skip: bool
):
    sae = transcoder(skip)
    trained = saved(sae, tmp_path)
    folder = export_sae(trained, "gemma-scope-2", tmp_path / "out", model=str(model_dir))
    assert export_sae(trained, "gemma-scope-2", tmp_path / "out", model=str(model_dir)) == folder
    affine = "_affine" if skip else ""
    assert folder == tmp_path / f"out/transcoder/layer_2_width_64_l0_9{affine}"
    exported = SAE.load(folder)
    assert (exported.config.site, exported.config.target_site) == ("mlp_in.2", "mlp_out.2")
    ids = torch.arange(40).reshape(2, 20)
    sites = [parse_site("transcoder_in.2"), parse_site("mlp_in.2")]
    x = forward_until(build_model("grouped"), ids, sites)
    gainless, gained = x["transcoder_in.2"], x["mlp_in.2"]
    assert not torch.allclose(gainless, gained, atol=0.1)
    f, expected = exported.encode(gained), sae.encode(gainless)
    assert torch.equal(f > 0, expected > 0)
    torch.testing.assert_close(f, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(exported(gained), sae(gainless), rtol=1e-4, atol=1e-4)


def test_gain_is_not_folded_into_an_sae_that_would_have_to_predict_it(
    tmp_path: Path, model_dir: Path
):
    sae = transcoder(skip=False)
    sae.config = sae.config.model_copy(update={"target_site": None})
    with pytest.raises(ValueError, match=r"model has no effect on an SAE of transcoder_in\.2"):
        export_sae(saved(sae, tmp_path), "gemma-scope-2", tmp_path / "out", model=str(model_dir))


def test_gain_that_is_zero_is_refused_with_its_channel(tmp_path: Path, model_dir: Path):
    weights = load_file(model_dir / "model.safetensors")
    weights["model.layers.2.pre_feedforward_layernorm.weight"][5] = -1
    (tmp_path / "model").mkdir()
    save_file(weights, tmp_path / "model/model.safetensors")
    (tmp_path / "model/config.json").write_text((model_dir / "config.json").read_text())
    trained = saved(transcoder(False), tmp_path)
    with pytest.raises(ValueError, match=r"gain of .* must not be near 0, got 0 in channel 5"):
        export_sae(trained, "gemma-scope-2", tmp_path / "out", model=str(tmp_path / "model"))


def test_gain_is_found_in_a_model_of_several_files(tmp_path: Path, model_dir: Path):
    build_model("grouped").save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    (name, gain), (_, expected) = norm_gain(str(tmp_path), 2), norm_gain(str(model_dir), 2)
    assert name == "model.layers.2.pre_feedforward_layernorm" and torch.equal(gain, expected)


@pytest.mark.parametrize(
    ("config", "layer", "text"),
    [
        ({"model_type": "llama"}, 2, "must be a Gemma 2 or .* with model_type 'llama'; other"),
        (None, 9, r"must have one vector model\.layers\.9\."),
    ],
)
def test_model_without_such_a_norm_is_refused(
    tmp_path: Path, model_dir: Path, config: Any, layer: int, text: str
):
    for path in model_dir.glob("*"):
        (tmp_path / path.name).symlink_to(path)
    if config is not None:
        (tmp_path / "config.json").unlink()
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=text):
        norm_gain(str(tmp_path), layer)
