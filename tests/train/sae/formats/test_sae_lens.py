"""SAEs of other kinds and of older SAELens: the real one computes the same from the same files."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scopeworks.train.sae.export import export_sae
from scopeworks.train.sae.sae import SAE

D_IN, D_SAE, K, SCALE = 16, 96, 7, 0.31
KINDS = ("standard", "topk", "gated", "jumprelu")
ORIGIN = {"model_name": "gemma-2-2b", "hook_name": "blocks.5.hook_resid_post"}


@pytest.fixture(scope="module")
def sae_lens():
    """The real SAELens; its imports warn about things that are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("sae_lens", reason="needs the extra `interop`")


def rows(n: int = 64) -> torch.Tensor:
    """Raw activations."""
    return 5 * torch.randn(n, D_IN, generator=torch.Generator().manual_seed(1))


def theirs(sae_lens: Any, kind: str, **options: Any) -> Any:
    """A SAELens SAE of random numbers, about half of its latents active but for top-k."""
    config = {"architecture": kind, "d_in": D_IN, "d_sae": D_SAE, "metadata": dict(ORIGIN)}
    if kind == "topk":
        config["k"] = K
    if kind.endswith("transcoder"):
        config |= {"d_out": 10, "apply_b_dec_to_input": False}
    sae = sae_lens.SAE.from_dict(config | options)
    generator = torch.Generator().manual_seed(7)
    for name, value in sae.named_parameters():
        random = torch.randn(value.shape, generator=generator)
        value.data = random.abs() if name == "threshold" else random
    return sae


def check_same(ours: SAE, other: Any) -> None:
    """Features and reconstructions agree to 1e-5 of their scale, and not because all are 0."""
    x = rows()
    with torch.no_grad():
        f, x_hat = other.encode(x), other(x)
    for mine, value in ((ours.encode(x), f), (ours(x), x_hat), (ours.decode(f, x), x_hat)):
        scale = float(value.abs().max())
        assert scale > 1
        torch.testing.assert_close(mine, value, rtol=1e-5, atol=1e-5 * scale)
    assert 0 < int((f > 0).sum()) < f.numel()


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("pre_bias", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "topk with norms"])
def test_every_kind_computes_as_in_sae_lens(
    tmp_path: Path, sae_lens: Any, kind: str, pre_bias: bool, scaled: bool
):
    options: dict[str, Any] = {"apply_b_dec_to_input": pre_bias}
    if kind == "topk with norms":
        kind, options["rescale_acts_by_decoder_norm"] = "topk", True
    if scaled:
        options["normalize_activations"] = "expected_average_only_in"
    other = theirs(sae_lens, kind, **options)
    other.save_model(tmp_path)
    if scaled:  # as a training run's checkpoint has it, which SAELens folds in at the end
        (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": SCALE}))
        other.fold_activation_norm_scaling_factor(SCALE)
    ours = SAE.load(tmp_path)
    check_same(ours, other)
    assert ours.config.site == "resid_post.5"
    assert ours.config.k == (K if kind == "topk" else None)
    assert ours.config.normaliser == (pytest.approx(1 / SCALE) if scaled else None)
    ours.save(tmp_path / "kept")
    assert torch.equal(SAE.load(tmp_path / "kept")(rows()), ours(rows()))


def test_scale_divides_features_that_count_by_decoder_norms(tmp_path: Path, sae_lens: Any):
    options = {"apply_b_dec_to_input": False, "rescale_acts_by_decoder_norm": True}
    scaled = options | {"normalize_activations": "expected_average_only_in"}
    theirs(sae_lens, "topk", **scaled).save_model(tmp_path)
    (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": SCALE}))
    ours, in_training = SAE.load(tmp_path), theirs(sae_lens, "topk", **options)
    with torch.no_grad():
        f, x_hat = in_training.encode(SCALE * rows()), in_training(SCALE * rows()) / SCALE
    torch.testing.assert_close(ours.encode(rows()) * SCALE, f, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours(rows()), x_hat, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("skip", [False, True])
def test_relu_transcoders_compute_as_in_sae_lens(tmp_path: Path, sae_lens: Any, skip: bool):
    other = theirs(sae_lens, "skip_transcoder" if skip else "transcoder")
    other.save_model(tmp_path)
    ours = SAE.load(tmp_path)
    check_same(ours, other)
    assert ours.config.is_transcoder and ours.config.target_site is None


def test_batch_top_k_is_saved_as_jumprelu_and_its_checkpoints_are_refused(
    tmp_path: Path, sae_lens: Any
):
    config = sae_lens.BatchTopKTrainingSAEConfig(d_in=D_IN, d_sae=D_SAE, k=K)
    trained = sae_lens.BatchTopKTrainingSAE(config)
    generator = torch.Generator().manual_seed(7)
    for name in ("W_enc", "W_dec"):
        value = getattr(trained, name)
        value.data = torch.randn(value.shape, generator=generator)
    trained.topk_threshold.fill_(9.0)
    trained.save_inference_model(tmp_path / "jumprelu")
    check_same(SAE.load(tmp_path / "jumprelu"), sae_lens.SAE.load_from_disk(tmp_path / "jumprelu"))
    trained.save_model(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="got 'batchtopk'; SAELens's save_inference_model writes"):
        SAE.load(tmp_path / "checkpoint")


def older(folder: Path, **changes: Any) -> dict[str, Any]:
    """Makes a folder one of SAELens 3 to 5: a flat config under its older names."""
    record = {
        "architecture": json.loads((folder / "cfg.json").read_text())["architecture"],
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "torch.float32",
        "model_name": "gemma-2-2b",
        "hook_point": "blocks.5.hook_resid_post",
        "hook_layer": 5,
        "hook_point_head_index": None,
        "activation_fn_str": "relu",
        "activation_fn_kwargs": {},
        "normalize_activations": "none",
        "finetuning_scaling_factor": False,
        "context_size": 128,
        "prepend_bos": True,
        "sae_lens_training_version": "3.12.0",
    } | changes
    record = {name: value for name, value in record.items() if value is not ...}
    (folder / "cfg.json").write_text(json.dumps(record))
    save_file({"sparsity": torch.zeros(D_SAE)}, folder / "sparsity.safetensors")
    return record


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("standard", {"architecture": ...}),  # SAELens 3 knew no other
        ("standard", {"apply_b_dec_to_input": False, "normalize_activations": False}),
        ("jumprelu", {"normalize_activations": None}),
        ("jumprelu", {"hook_point": ..., "hook_name": "blocks.5.hook_resid_post"}),
        ("gated", {}),
        (
            "topk",
            {
                "architecture": "standard",
                "activation_fn_str": "topk",
                "activation_fn_kwargs": {"k": K},
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_older_layouts_compute_as_in_sae_lens(
    tmp_path: Path, sae_lens: Any, kind: str, changes: dict[str, Any]
):
    theirs(sae_lens, kind).save_model(tmp_path)
    older(tmp_path, **changes)
    weights = tmp_path / "sae_weights.safetensors"  # factors of 1 were written for a while
    save_file(load_file(weights) | {"scaling_factor": torch.ones(D_SAE)}, weights)
    ours = SAE.load(tmp_path)
    check_same(ours, sae_lens.SAE.load_from_disk(tmp_path))
    assert (ours.config.site, ours.config.context) == ("resid_post.5", 128)


def test_factors_of_a_fine_tuned_sae_are_folded_where_its_config_says_so(
    tmp_path: Path, sae_lens: Any
):
    theirs(sae_lens, "standard").save_model(tmp_path)
    plain, x = SAE.load(tmp_path), rows()
    factors = torch.linspace(0.5, 2, D_SAE)
    weights = tmp_path / "sae_weights.safetensors"
    save_file(load_file(weights) | {"scaling_factor": factors}, weights)
    older(tmp_path, finetuning_scaling_factor=True)
    ours = SAE.load(tmp_path)  # SAELens 5: (f · factors) @ W_dec + b_dec; 6 reads it no more
    assert torch.equal(ours.encode(x), plain.encode(x))
    torch.testing.assert_close(ours(x), plain.decode(plain.encode(x) * factors), rtol=0, atol=1e-3)
    older(tmp_path)
    with pytest.raises(ValueError, match="scaling_factor must be 1 everywhere where cfg"):
        SAE.load(tmp_path)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown kind": (
        "standard",
        {"architecture": "temporal"},
        "architecture must be one of standard, topk, gated, jumprelu, .*got 'temporal'",
    ),
    "rows of their own scale": (
        "standard",
        {"normalize_activations": "layer_norm"},
        "expected_average_only_in, got 'layer_norm', which is not folded into tensors here",
    ),
    "a norm": (
        "standard",
        {"normalize_activations": "constant_norm_rescale"},
        "got 'constant_norm_rescale', which is not folded",
    ),
    "a scale that is not there": (
        "standard",
        {"normalize_activations": "expected_average_only_in"},
        "must be none where no activation_scaler.json tells the scale",
    ),
    "the older word for it": (
        "standard",
        {"normalize_activations": True},
        "must be none where no activation_scaler.json tells the scale",
    ),
    "a scaled transcoder": (
        "transcoder",
        {"normalize_activations": "expected_average_only_in"},
        "normalize_activations must be none or, for an SAE, ",
    ),
    "no k": ("topk", {"k": ...}, "k must be a whole number from 1 on .*got None"),
    "half a latent": ("topk", {"k": 2.5}, r"k must be a whole number .*got 2\.5"),
    "more than all latents": ("topk", {"k": D_SAE + 1}, "k: .*at most d_sae"),
    "a gate without its scale": ("standard", {"architecture": "gated"}, "r_mag must be there if"),
    "a gate that is not declared": ("gated", {"architecture": "standard"}, "r_mag must be there"),
    "one head": ("standard", {"hook_point_head_index": 3}, "hook_head_index must be null"),
    "other activation": ("standard", {"activation_fn": "tanh-relu"}, "must be relu or topk, got"),
    "thresholds of another kind": (
        "jumprelu",
        {"architecture": "standard"},
        "architecture must be jumprelu .* for an SAE with threshold, got standard ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_change_the_numbers_is_refused_by_name(tmp_path: Path, sae_lens: Any, case: str):
    kind, changes, text = REFUSED[case]
    theirs(sae_lens, kind).save_model(tmp_path)
    SAE.load(tmp_path)
    record = json.loads((tmp_path / "cfg.json").read_text()) | changes
    record = {name: value for name, value in record.items() if value is not ...}
    (tmp_path / "cfg.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=text) as caught:
        SAE.load(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_transposed_and_whole_numbers_are_told(tmp_path: Path, sae_lens: Any):
    theirs(sae_lens, "standard").save_model(tmp_path)
    weights = tmp_path / "sae_weights.safetensors"
    kept = load_file(weights)
    turned = {name: kept[name].T.contiguous() for name in ("W_enc", "W_dec")}
    for changes, text in (
        (turned, r"W_enc must have shape \(16, 96\), got \(96, 16\); it is transposed"),
        ({"W_enc": turned["W_enc"]}, r"W_enc must have shape \(16, 96\), .*it is transposed"),
        ({"W_dec": turned["W_dec"]}, r"W_dec must have shape \(96, 16\), .*it is transposed"),
        ({"b_dec": kept["b_dec"].int()}, "b_dec must be floating point, got torch.int32"),
    ):
        save_file(kept | changes, weights)
        with pytest.raises(ValueError, match=text):
            SAE.load(tmp_path)


def test_transcoder_without_apply_b_dec_to_input_is_refused_as_by_sae_lens(
    tmp_path: Path, sae_lens: Any
):
    theirs(sae_lens, "jumprelu_transcoder").save_model(tmp_path)
    record = json.loads((tmp_path / "cfg.json").read_text())
    record.pop("apply_b_dec_to_input")
    (tmp_path / "cfg.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="apply_b_dec_to_input is not supported for transcoders"):
        sae_lens.SAE.load_from_disk(tmp_path)
    with pytest.raises(ValueError, match="apply_b_dec_to_input must be false for a transcoder"):
        SAE.load(tmp_path)


def test_scale_that_is_none_is_refused(tmp_path: Path, sae_lens: Any):
    asked = {"normalize_activations": "expected_average_only_in"}
    theirs(sae_lens, "standard", **asked).save_model(tmp_path)
    for value in ("null", "0", '"2"', "NaN"):
        (tmp_path / "activation_scaler.json").write_text(f'{{"scaling_factor": {value}}}')
        with pytest.raises(ValueError, match=r"activation_scaler\.json "):
            SAE.load(tmp_path)


def test_gate_of_another_width_is_refused_before_it_is_read(tmp_path: Path, sae_lens: Any):
    theirs(sae_lens, "gated").save_model(tmp_path)
    weights = tmp_path / "sae_weights.safetensors"
    save_file(load_file(weights) | {"r_mag": torch.zeros(3)}, weights)
    with pytest.raises(ValueError, match=r"r_mag must have shape \(96,\), got \(3,\)"):
        SAE.load(tmp_path)


def test_top_k_is_not_exported_and_the_other_kinds_are_as_jumprelu(tmp_path: Path, sae_lens: Any):
    theirs(sae_lens, "topk").save_model(tmp_path / "topk")
    with pytest.raises(ValueError, match="format sae-lens must be of a JumpReLU SAE, got a top-k"):
        export_sae(tmp_path / "topk", "sae-lens", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    gated = theirs(sae_lens, "gated")
    gated.save_model(tmp_path / "gated")
    folder = export_sae(tmp_path / "gated", "sae-lens", tmp_path / "jumprelu")
    check_same(SAE.load(folder), gated)
    check_same(SAE.load(folder), sae_lens.SAE.load_from_disk(folder))
