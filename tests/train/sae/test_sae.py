"""The SAE's own arithmetic, and its folder."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.files import check_tensors
from scopeworks.train.sae.sae import SAE


def small_sae(skip: bool = False, **facts: object) -> SAE:
    """Two inputs, three latents: numbers one can follow by hand."""
    config = SAEConfig.model_validate({"d_in": 2, "d_sae": 3, "d_out": 2} | facts)
    return SAE(
        config,
        W_enc=torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]),
        b_enc=torch.tensor([0.0, 0.5, 0.0]),
        W_dec=torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]),
        b_dec=torch.tensor([0.25, -0.25]),
        theta=torch.tensor([1.0, 1.0, 2.5]),
        W_skip=torch.tensor([[1.0, 2.0], [3.0, 4.0]]) if skip else None,
    )


def test_encode_is_strict_at_the_threshold():
    f = small_sae().encode(torch.tensor([[1.0, 0.5], [1.5, 1.0]]))
    # z = [1, 1, 1.5] ties with θ and stays off; z = [1.5, 1.5, 2.5] passes twice and ties once.
    assert f.tolist() == [[0, 0, 0], [1.5, 1.5, 0]]


def test_decode_adds_bias_and_skip():
    x = torch.tensor([[1.5, 1.0]])
    assert small_sae()(x).tolist() == [[1.75, 1.25]]
    assert small_sae(skip=True)(x).tolist() == [[1.75 + 4.5, 1.25 + 7.0]]


def test_negative_threshold_of_a_foreign_file_still_gives_no_negative_feature():
    sae = small_sae()
    sae.theta = torch.full((3,), -1.0)
    assert sae.encode(torch.tensor([[-0.5, -0.75]])).tolist() == [[0, 0, 0]]


def test_leading_dimensions_are_kept():
    x = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
    sae = small_sae()
    assert sae.encode(x).shape == (3, 5, 3)
    torch.testing.assert_close(sae(x)[1], sae(x[1]))


def test_save_and_load_give_the_same_sae(tmp_path: Path):
    sae = small_sae(skip=True, site="transcoder_in.1", target_site="mlp_out.1", l0=1.5)
    sae.save(tmp_path, {"lr": 1.0})
    again = SAE.load(tmp_path)
    assert again.config == sae.config
    for name, tensor in sae.tensors().items():
        assert torch.equal(tensor, again.tensors()[name])
    assert json.loads((tmp_path / "config.json").read_text())["settings"] == {"lr": 1.0}


def test_an_unchanged_sae_goes_by_its_absolute_path(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_sae().save("sae")
    sae = SAE.load("sae")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    for same in (sae, copy.deepcopy(sae), sae.to("cpu"), SAE.load(sae.as_setting())):
        assert same.as_setting() == str(tmp_path / "sae")


@pytest.mark.parametrize("changed", ["added", "copied", "unsafe", "dtype", "config"])
def test_an_sae_that_changed_since_it_was_loaded_has_no_name(tmp_path: Path, changed: str):
    small_sae().save(tmp_path / "sae")
    sae = SAE.load(tmp_path / "sae")
    if changed == "added":
        sae.theta += 100
    elif changed == "copied":
        sae = copy.deepcopy(sae)
        sae.theta = sae.theta * 0 + 100
    elif changed == "unsafe":
        sae.W_enc.data.numpy()[0, 0] = 7
    elif changed == "dtype":
        sae = sae.to(dtype=torch.bfloat16)
    else:
        sae.config = sae.config.model_copy(update={"k": 1})
    with pytest.raises(ValueError, match=r"^sae must be saved to be named in settings; call"):
        sae.as_setting()
    sae.save(tmp_path / "new")
    assert sae.as_setting() == str(tmp_path / "new")


def test_to_changes_the_dtype_of_the_result():
    assert small_sae().to(dtype=torch.bfloat16)(torch.ones(1, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (torch.zeros(1, 5), r"\[1, 5\]"),
        (np.zeros((2, 4)), r"\[2, 4\]"),
        ([[1.0]], r"\[1, 1\]"),
        (3, r"\[\]"),
        (None, "NoneType"),
        ("x", "str"),
        ([[1.0], [1.0, 2.0]], "list"),
    ],
)
def test_what_is_no_rows_of_its_width_is_refused_in_one_line(given, got: str):
    sae = small_sae(site="resid_post.1")
    where = "raw activations at resid_post.1"
    with pytest.raises(ValueError, match=rf"^x must be .* \[\.\.\., 2\] of {where}, got {got}$"):
        sae.encode(given)
    with pytest.raises(ValueError, match=rf"^f must be .* \[\.\.\., 3\] of features.*, got {got}$"):
        sae.decode(given)


def test_arrays_and_lists_are_taken_as_tensors_are():
    sae, x = small_sae(), [[1.5, 1.0], [0.5, 2.0]]
    f = sae.encode(torch.tensor(x))
    for given in (x, np.array(x), np.array(x, dtype="float32")):
        assert torch.equal(sae.encode(given), f)
        assert torch.equal(sae(given), sae.decode(f.tolist()))


def test_rows_on_another_device_are_refused():
    with pytest.raises(ValueError, match=r"x must be on cpu as the SAE is, got meta; .*'meta'"):
        small_sae().encode(torch.zeros(1, 2, device="meta"))


def test_gradients_flow_to_rows_that_need_them():
    x = torch.tensor([[1.5, 1.0]], requires_grad=True)
    small_sae().encode(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[1.0, 1.0]]
    assert not small_sae().encode(x.detach()).requires_grad


def test_skip_transcoder_decode_without_x_is_refused():
    with pytest.raises(ValueError, match="x must be given"):
        small_sae(skip=True).decode(torch.zeros(1, 3))


def test_tensor_of_wrong_shape_is_refused():
    sae = small_sae()
    with pytest.raises(ValueError, match=r"theta must have shape \(3,\), got \(2,\)"):
        check_tensors(sae.tensors() | {"theta": torch.zeros(2)}, sae.config)
