"""Release formats: what is written loads again, here and in the real SAELens, to the same SAE."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scopeworks.train.export import Known, export
from scopeworks.train.formats import site_of_hook, width_name
from scopeworks.train.sae import SAE
from scopeworks.train.sae_config import SAEConfig

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


@pytest.fixture(scope="module")
def sae_lens():
    """The real SAELens; its imports warn about things that are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("sae_lens", reason="needs the extra `interop`")


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
    folder = export(saved(sae, tmp_path), format, tmp_path / "out")
    again = SAE.load(folder)
    x = rows()
    assert torch.equal(again.encode(x), sae.encode(x))
    assert torch.equal(again(x), sae(x))
    if format != "gemma-scope":
        assert (again.config.site, again.config.model) == ("resid_post.5", "gemma-2-2b")


def test_params_npz_lies_where_the_release_has_it(tmp_path: Path):
    sae = random_sae()
    out = tmp_path / "gemma-scope-2b-pt-res"
    folder = export(saved(sae, tmp_path), "gemma-scope", out)
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
    assert (config.site, config.l0) == ("resid_post.5", 71)


def test_sae_lens_loads_the_folder_and_agrees(tmp_path: Path, sae_lens: Any):
    sae = random_sae()
    folder = export(saved(sae, tmp_path), "sae-lens", tmp_path / "out")
    theirs = sae_lens.SAE.load_from_disk(folder)
    x = rows()
    with torch.no_grad():
        f = theirs.encode(x)
        torch.testing.assert_close(f, sae.encode(x), rtol=1e-5, atol=1e-5 * 30)
        torch.testing.assert_close(theirs.decode(f), sae(x), rtol=1e-5, atol=1e-3)
    metadata = theirs.cfg.metadata
    assert metadata.hook_name == "blocks.5.hook_resid_post"
    assert (metadata.model_name, metadata.context_size) == ("gemma-2-2b", 1024)


def test_sae_lens_takes_attention_per_head(tmp_path: Path, sae_lens: Any):
    sae = random_sae("attn_out.5")
    folder = export(saved(sae, tmp_path), "sae-lens", tmp_path / "out")
    theirs = sae_lens.SAE.load_from_disk(folder)
    x = rows(6).reshape(2, 3, D_IN)
    with torch.no_grad():
        f = theirs.encode(x.reshape(2, 3, 4, D_IN // 4))
        torch.testing.assert_close(f, sae.encode(x), rtol=1e-5, atol=1e-5 * 30)
        assert theirs.decode(f).shape == (2, 3, 4, D_IN // 4)


@pytest.mark.parametrize("skip", [False, True])
def test_sae_lens_loads_transcoders(tmp_path: Path, sae_lens: Any, skip: bool):
    sae = random_sae("transcoder_in.5", "mlp_out.5", skip)
    folder = export(saved(sae, tmp_path), "sae-lens", tmp_path / "out")
    theirs = sae_lens.SAE.load_from_disk(folder)
    x = rows()
    with torch.no_grad():
        torch.testing.assert_close(theirs(x), sae(x), rtol=1e-5, atol=1e-3)
    again = SAE.load(folder)
    torch.testing.assert_close(again(x), sae(x), rtol=0, atol=0)
    assert again.config.target_site == "mlp_out.5"


def from_disk(loaders: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets SAELens' hub loaders read `root` where they would download."""

    def download(repo_id: str, filename: str, subfolder: str | None = None, **_: Any) -> str:
        del repo_id
        path = root / (subfolder or "") / filename
        assert path.is_file(), path
        return str(path)

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        del repo_id
        return {name: list(t.shape) for name, t in load_file(root / filename).items()}

    monkeypatch.setattr(loaders, "hf_hub_download", download)
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", shapes)


def test_sae_lens_gemma_scope_loader_takes_params_npz(
    tmp_path: Path, sae_lens: Any, monkeypatch: pytest.MonkeyPatch
):
    from sae_lens.loading import pretrained_sae_loaders as loaders

    sae = random_sae()
    folder = export(saved(sae, tmp_path), "gemma-scope", tmp_path / "out")
    from_disk(loaders, tmp_path / "out", monkeypatch)
    name = folder.relative_to(tmp_path / "out").as_posix()
    config, tensors, _ = loaders.gemma_2_sae_huggingface_loader("us/gemma-scope-2b-pt-res", name)
    assert (config["d_sae"], config["hook_name"]) == (D_SAE, "blocks.5.hook_resid_post")
    ours = {("threshold" if k == "theta" else k): t for k, t in sae.tensors().items()}
    assert tensors.keys() == ours.keys()
    assert all(torch.equal(tensors[name], ours[name]) for name in ours)


@pytest.mark.parametrize("skip", [False, True])
def test_sae_lens_gemma_scope_2_loader_takes_the_folder(
    tmp_path: Path, sae_lens: Any, monkeypatch: pytest.MonkeyPatch, skip: bool
):
    from sae_lens.loading import pretrained_sae_loaders as loaders

    sae = random_sae("resid_post.5", "mlp_out.5", skip)
    folder = export(saved(sae, tmp_path), "gemma-scope-2", tmp_path / "out")
    from_disk(loaders, tmp_path / "out", monkeypatch)
    name = folder.relative_to(tmp_path / "out").as_posix()
    config, tensors, _ = loaders.gemma_3_sae_huggingface_loader("us/gemma-scope-2", name)
    wanted = "jumprelu_skip_transcoder" if skip else "jumprelu_transcoder"
    assert (config["architecture"], config["d_sae"], config["d_out"]) == (wanted, D_SAE, 10)
    theirs = sae_lens.SAE.from_dict(config)
    theirs.load_state_dict(tensors)
    x = rows()
    with torch.no_grad():
        torch.testing.assert_close(theirs(x), sae(x), rtol=1e-5, atol=1e-3)
    record = json.loads((folder / "config.json").read_text())
    assert (record["width"], record["l0"], record["affine_connection"]) == (D_SAE, 71.4, skip)


def test_sae_lens_file_with_a_pre_encoder_bias_is_folded(tmp_path: Path, sae_lens: Any):
    sae = random_sae()
    folder = export(saved(sae, tmp_path), "sae-lens", tmp_path / "out")
    config = json.loads((folder / "cfg.json").read_text()) | {"apply_b_dec_to_input": True}
    (folder / "cfg.json").write_text(json.dumps(config))
    x = rows()
    with torch.no_grad():
        theirs = sae_lens.SAE.load_from_disk(folder)(x)
    torch.testing.assert_close(SAE.load(folder)(x), theirs, rtol=1e-4, atol=1e-2)


def test_hooks_map_back_to_sites():
    assert site_of_hook("blocks.12.attn.hook_z") == "attn_out.12"
    assert site_of_hook("model.layers.3.output") == "resid_post.3"
    assert site_of_hook("model.layers.3") == "resid_post.3"
    assert site_of_hook("blocks.12.hook_resid_pre") is None
    assert site_of_hook("model.layers.3.mlp.output") is None  # before the norm: another tensor


def test_unknown_format_and_full_folder_are_refused(tmp_path: Path):
    trained = saved(random_sae(), tmp_path)
    with pytest.raises(ValueError, match="format must be one of gemma-scope, sae-lens"):
        export(trained, "onnx", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("keep")
    with pytest.raises(ValueError, match="out must be empty or hold an earlier export"):
        export(trained, "sae-lens", tmp_path / "full")


def test_format_that_cannot_hold_the_sae_says_so(tmp_path: Path):
    trained = saved(random_sae("transcoder_in.5", "mlp_out.5", skip=True), tmp_path)
    with pytest.raises(ValueError, match="no place for the skip connection"):
        export(trained, "gemma-scope", tmp_path / "out")
    # transformers has no module with the gainless vector: naming the norm would be a wrong tensor.
    with pytest.raises(ValueError, match=r"none has transcoder_in\.5 or mlp_out\.5"):
        export(trained, "gemma-scope-2", tmp_path / "out")


def test_gained_norm_and_gainless_vector_are_two_sites():
    assert site_of_hook("model.layers.5.pre_feedforward_layernorm.output") == "mlp_in.5"
    assert site_of_hook("blocks.5.ln2.hook_normalized") == "transcoder_in.5"


@pytest.mark.parametrize("format", ["gemma-scope", "sae-lens", "gemma-scope-2"])
def test_export_again_is_fine_and_another_sae_there_is_kept(tmp_path: Path, format: str):
    sae = random_sae()
    folder = export(saved(sae, tmp_path), format, tmp_path / "out")
    assert export(tmp_path / "trained", format, tmp_path / "out") == folder
    before = {path: path.read_bytes() for path in folder.iterdir()}
    other = SAE(sae.config, **(sae.tensors() | {"b_dec": sae.b_dec + 1}))
    other.save(tmp_path / "other", {})
    with pytest.raises(ValueError, match="out must not hold another SAE"):
        export(tmp_path / "other", format, tmp_path / "out")
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
    "no decoder": (lambda f: write_npz(f, W_enc=np.zeros((2, 3))), "matrices W_enc and W_dec"),
    "odd tensor": (
        lambda f: write_npz(f, W_enc=np.zeros((2, 3)), gate=np.zeros(3)),
        "tensors that no JumpReLU SAE has: gate",
    ),
    "topk": (lambda f: write_lens(f, architecture="topk"), "architecture must be .*got 'topk'"),
    "normalised": (
        lambda f: write_lens(f, normalize_activations="layer_norm"),
        "normalize_activations must be none",
    ),
    "not json": (lambda f: (f / "cfg.json").write_text("{"), "cfg.json is not valid JSON"),
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


TRANSCODER = ("transcoder_in.5", "mlp_out.5")


def edit_json(path: Path, remove: str = "", **changes: Any) -> None:
    """Changes a config without touching the weights."""
    record = json.loads(path.read_text())
    record.pop(remove, None)
    path.write_text(json.dumps(record | changes))


def edit_tensors(path: Path, remove: str = "", **more: torch.Tensor) -> None:
    """Changes the weights without touching the config."""
    tensors = load_file(path)
    tensors.pop(remove, None)
    save_file(tensors | more, path)


def lens_metadata(folder: Path, **changes: Any) -> None:
    """Changes entries of cfg.json's metadata; None removes."""
    record = json.loads((folder / "cfg.json").read_text())
    metadata = {k: v for k, v in (record["metadata"] | changes).items() if v is not None}
    (folder / "cfg.json").write_text(json.dumps(record | {"metadata": metadata}))


SCOPE_2, LENS = "gemma-scope-2", "sae-lens"
CONFIG, CFG = "config.json", "cfg.json"
SCOPE_WEIGHTS, LENS_WEIGHTS = "params.safetensors", "sae_weights.safetensors"
CONTRADICTIONS: dict[str, tuple[str, bool, Any, str]] = {
    "scope 2: skip declared, no tensor": (
        SCOPE_2, True, lambda f: edit_tensors(f / SCOPE_WEIGHTS, "affine_skip_connection"),
        "affine_connection is true, but it is missing",
    ),
    "scope 2: tensor there, skip denied": (
        SCOPE_2, True, lambda f: edit_json(f / CONFIG, affine_connection=False),
        "affine_connection is true, but it is there",
    ),
    "scope 2: another width": (
        SCOPE_2, False, lambda f: edit_json(f / CONFIG, width=16384),
        "d_sae must be that of the tensors, 4096, got 16384",
    ),
    "scope 2: transcoder into itself": (
        SCOPE_2, False,
        lambda f: edit_json(f / CONFIG, hf_hook_point_out="a", hf_hook_point_in="a"),
        "hf_hook_point_out of a transcoder must differ",
    ),
    "scope 2: another type": (
        SCOPE_2, False, lambda f: edit_json(f / CONFIG, type="crosscoder"),
        "type must be sae or transcoder, got 'crosscoder'",
    ),
    "lens: skip declared, no tensor": (
        LENS, True, lambda f: edit_tensors(f / LENS_WEIGHTS, "W_skip"),
        "jumprelu_skip_transcoder, but it is missing",
    ),
    "lens: tensor there, plain transcoder": (
        LENS, True, lambda f: edit_json(f / CFG, architecture="jumprelu_transcoder"),
        "jumprelu_skip_transcoder, but it is there",
    ),
    "lens: no word on b_dec": (
        LENS, False, lambda f: edit_json(f / CFG, "apply_b_dec_to_input"),
        "apply_b_dec_to_input must be false for a transcoder, got None",
    ),
    "lens: a transcoder called an SAE": (
        LENS, False, lambda f: edit_json(f / CFG, architecture="jumprelu"),
        "hook_name_out must be left out of an SAE",
    ),
    "lens: another width": (
        LENS, False, lambda f: edit_json(f / CFG, d_in=25),
        "d_in must be that of the tensors, 24, got 25",
    ),
    "lens: two sites": (
        LENS, False, lambda f: lens_metadata(f, hf_hook_name="model.layers.9.output"),
        "hook names must be of one site",
    ),
    "lens: one head": (LENS, False, lambda f: lens_metadata(f, hook_head_index=3), "head_index"),
    "lens: metadata of another type": (
        LENS, False, lambda f: edit_json(f / CFG, metadata=["a"]), "metadata",
    ),
    "lens: a number for a name": (
        LENS, False, lambda f: lens_metadata(f, model_name=5), r"metadata\.model_name",
    ),
    "lens: no b_dec": (
        LENS, False, lambda f: edit_tensors(f / LENS_WEIGHTS, "b_dec"),
        "b_dec must be among the SAE's tensors",
    ),
    "lens: a tensor too many": (
        LENS, False, lambda f: edit_tensors(f / LENS_WEIGHTS, W_gate=torch.zeros(2)),
        "tensors that no JumpReLU SAE has: W_gate",
    ),
    "lens: whole numbers": (
        LENS, False, lambda f: edit_tensors(f / LENS_WEIGHTS, b_dec=torch.zeros(10).int()),
        "b_dec must be floating point",
    ),
    "lens: cut off": (
        LENS, False,
        lambda f: (f / LENS_WEIGHTS).write_bytes((f / LENS_WEIGHTS).read_bytes()[:-5]),
        "must be a whole safetensors file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, case: str):
    format, skip, change, text = CONTRADICTIONS[case]
    sites = ("mlp_in.5", "mlp_out.5") if format == SCOPE_2 else TRANSCODER
    folder = export(saved(random_sae(*sites, skip=skip), tmp_path), format, tmp_path / "out")
    change(folder)
    with pytest.raises(ValueError, match=text) as caught:
        SAE.load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_transcoder_without_a_known_target_stays_a_transcoder(tmp_path: Path):
    folder = export(saved(random_sae(*TRANSCODER), tmp_path), LENS, tmp_path / "out")
    lens_metadata(folder, hook_name_out=None, hf_hook_name_out=None)
    config = SAE.load(folder).config
    assert (config.is_transcoder, config.target_site) == (True, None)


@pytest.mark.parametrize("key", ["hook_name", "hook_point"])
def test_flat_configs_of_older_sae_lens_load(tmp_path: Path, key: str):
    sae = random_sae()
    folder = export(saved(sae, tmp_path), LENS, tmp_path / "out")
    flat = {
        "architecture": "jumprelu", "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32",
        key: "blocks.5.hook_resid_post", "model_name": "gemma-2-2b", "context_size": 1024,
        "apply_b_dec_to_input": False, "normalize_activations": "none", "device": "cuda",
        "hook_layer": 5, "activation_fn_str": "relu", "finetuning_scaling_factor": False,
    }  # fmt: skip
    (folder / CFG).write_text(json.dumps(flat))
    again = SAE.load(folder)
    assert torch.equal(again(rows()), sae(rows()))
    found = again.config
    assert (found.site, found.model, found.context) == ("resid_post.5", "gemma-2-2b", 1024)


def test_gemma_scope_2_transcoders_say_where_they_read(tmp_path: Path):
    sae = random_sae("mlp_in.5", "mlp_out.5", skip=True)
    folder = export(saved(sae, tmp_path), SCOPE_2, tmp_path / "out")
    found = SAE.load(folder).config
    assert (found.site, found.target_site) == ("mlp_in.5", "mlp_out.5")
    record = json.loads((folder / CONFIG).read_text())
    assert record["hf_hook_point_in"] == "model.layers.5.pre_feedforward_layernorm.output"


def test_every_site_of_the_harvest_has_hooks():
    from scopeworks.harvest.sites import KINDS
    from scopeworks.train.formats.hook_names import HOOKS

    assert set(HOOKS) == set(KINDS)


def arrays_of(sae: SAE) -> dict[str, np.ndarray]:
    """The arrays of a params.npz."""
    return {{"theta": "threshold"}.get(k, k): t.numpy() for k, t in sae.tensors().items()}


NPZ: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "bfloat16": ({"b_dec": np.zeros(D_IN, "V2")}, "bfloat16 has no name in npz"),
    "whole numbers": ({"b_dec": np.zeros(D_IN, np.int32)}, "must be float16, float32 or float64"),
    "no b_dec": ({"b_dec": np.zeros(0)}, "b_dec must have shape"),
    "transposed": ({"W_enc": np.zeros((D_SAE, D_IN), np.float32)}, "it is transposed"),
    "scaled": ({"scaling_factor": np.full(D_SAE, 2.0)}, "scaling_factor must be all ones"),
    "nan": ({"threshold": np.full(D_SAE, np.nan, np.float32)}, "theta must be finite, got 4,096"),
    "inf": ({"W_dec": np.full((D_SAE, D_IN), np.inf)}, "W_dec must be finite"),
}


@pytest.mark.parametrize("case", NPZ)
def test_an_npz_that_is_no_sae_is_refused_by_name(tmp_path: Path, case: str):
    changes, text = NPZ[case]
    np.savez(tmp_path / "params.npz", allow_pickle=True, **(arrays_of(random_sae()) | changes))
    with pytest.raises(ValueError, match=text) as caught:
        SAE.load(tmp_path / "params.npz")
    assert "params.npz" in str(caught.value)


def test_an_npz_with_a_scaling_factor_of_ones_loads(tmp_path: Path):
    sae = random_sae()
    ones = {"scaling_factor": np.ones(D_SAE, np.float32)}
    np.savez(tmp_path / "params.npz", allow_pickle=False, **(arrays_of(sae) | ones))
    assert torch.equal(SAE.load(tmp_path)(rows()), sae(rows()))


def test_an_npz_that_inflates_beyond_its_size_is_refused_unread(tmp_path: Path):
    np.savez_compressed(tmp_path / "params.npz", W_enc=np.zeros((2**12, 2**12), np.float32))
    with pytest.raises(ValueError, match=r"hardly compress, got 67,108,\d+ bytes"):
        SAE.load(tmp_path)


def test_an_npz_under_another_width_is_refused(tmp_path: Path):
    folder = tmp_path / "layer_5/width_16k/average_l0_71"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", allow_pickle=False, **arrays_of(random_sae()))
    with pytest.raises(ValueError, match="the width its folder says, 16k, got 4096 latents"):
        SAE.load(folder)


@pytest.mark.parametrize("name", ["W_enc", "theta"])
def test_numbers_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path: Path, name: str):
    sae = random_sae()
    trained = saved(sae, tmp_path)
    broken = sae.tensors()[name].clone()
    broken.view(-1)[3] = float("nan")
    with pytest.raises(ValueError, match=f"{name} must be finite, got 1 NaN"):
        SAE(sae.config, **(sae.tensors() | {name: broken})).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    edit_tensors(trained / "sae.safetensors", "", **{name: broken})
    with pytest.raises(ValueError, match=f"trained: {name} must be finite"):
        export(trained, LENS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["gemma-scope", "sae-lens", "gemma-scope-2"])
def test_a_killed_export_is_finished_by_the_same_command(tmp_path: Path, format: str):
    folder = export(saved(random_sae(), tmp_path), format, tmp_path / "out")
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    last = {"gemma-scope": "params.npz", LENS: CFG, SCOPE_2: CONFIG}[format]
    (folder / last).rename(folder / f".{last}.0123456789ab.partial")
    with pytest.raises((ValueError, FileNotFoundError), match=r"must hold one of|not complete"):
        SAE.load(folder)
    assert export(tmp_path / "trained", format, tmp_path / "out") == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_what_a_file_does_not_say_is_given_or_taken_from_an_evaluation(tmp_path: Path):
    source, evaluation = tmp_path / "params.npz", tmp_path / "e.json"
    np.savez(source, allow_pickle=False, **arrays_of(random_sae()))
    with pytest.raises(ValueError, match=r"site must be known .* pass --site"):
        export(source, "gemma-scope", tmp_path / "out")
    with pytest.raises(ValueError, match="pass --l0, or the --evaluation"):
        export(source, "gemma-scope", tmp_path / "out", Known(site="resid_post.7"))
    folder = export(source, "gemma-scope", tmp_path / "a", Known(l0=33.3, site="resid_post.7"))
    assert folder == tmp_path / "a/layer_7/width_4k/average_l0_33"
    entry = {"name": "x", "path": str(source), "l0": 44.4, "site": "resid_post.7"}
    evaluation.write_text(json.dumps({"saes": [entry | {"target_site": "resid_post.7"}]}))
    folder = export(source, "gemma-scope", tmp_path / "b", Known(evaluation=evaluation))
    assert folder == tmp_path / "b/layer_7/width_4k/average_l0_44"
    trained = saved(random_sae(), tmp_path)
    with pytest.raises(ValueError, match=r"must be of .*trained, got one of .*params\.npz"):
        export(trained, LENS, tmp_path / "c", Known(evaluation=evaluation))
    with pytest.raises(ValueError, match=r"site of .* must be resid_post\.5, as its file says"):
        export(trained, LENS, tmp_path / "c", Known(site="mlp_out.5"))


@pytest.mark.parametrize("skip", [False, True])
def test_the_norms_gain_turns_a_transcoder_into_one_that_reads_mlp_in(tmp_path: Path, skip: bool):
    sae = random_sae(*TRANSCODER, skip=skip)
    w = 0.5 * torch.randn(D_IN, generator=torch.Generator().manual_seed(2))
    (tmp_path / "model").mkdir()
    norm, known = "model.layers.5.pre_feedforward_layernorm.weight", Known(model=tmp_path / "model")
    save_file({norm: w}, tmp_path / "model/model.safetensors")
    folder = export(saved(sae, tmp_path), SCOPE_2, tmp_path / "out", known)
    again, x = SAE.load(folder), rows()
    assert (again.config.site, again.config.target_site) == ("mlp_in.5", "mlp_out.5")
    torch.testing.assert_close(again.encode(x * (1 + w)), sae.encode(x), rtol=1e-4, atol=2e-3)
    torch.testing.assert_close(again(x * (1 + w)), sae(x), rtol=1e-4, atol=2e-2)
    gone = w.index_fill(0, torch.tensor([4]), -1.0)
    save_file({norm: gone}, tmp_path / "model/model.safetensors")
    with pytest.raises(ValueError, match="must not vanish, got 0 at channel 4"):
        export(tmp_path / "trained", SCOPE_2, tmp_path / "out2", known)
    with pytest.raises(ValueError, match="model has no effect on format sae-lens"):
        export(tmp_path / "trained", LENS, tmp_path / "out2", known)
