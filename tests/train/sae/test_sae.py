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


def test_another_kind_of_config_is_not_written_over(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "gemma2"}')
    with pytest.raises(ValueError, match=r"^out_dir must be empty or hold an SAE: .*config.json"):
        small_sae().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


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


def test_an_sae_whose_files_were_written_again_has_no_name(tmp_path: Path):
    small_sae().save(tmp_path / "sae")
    sae = SAE.load(tmp_path / "sae")
    released = SAE.from_pretrained(tmp_path / "sae")
    other = small_sae(site="resid_post.1")
    other.save(tmp_path / "sae")
    for old in (sae, released, sae.to("cpu")):
        with pytest.raises(
            ValueError, match=r"^sae must be the one in .*sae, whose files were wri"
        ):
            old.as_setting()
    assert other.as_setting() == SAE.load(tmp_path / "sae").as_setting() == str(tmp_path / "sae")
    (tmp_path / "sae" / "sae.safetensors").unlink()
    with pytest.raises(ValueError, match=r"^sae must be the one in"):
        other.as_setting()


def test_figures_that_were_measured_on_other_tensors_are_not_saved(tmp_path: Path):
    figures = {"l0": 1.5, "fvu": 0.25, "dead_share": 0.5, "measured_rows": 8, "l0_off_target": 0.1}
    small_sae(target_l0=1.4, **figures).save(tmp_path / "sae")
    sae = SAE.load(tmp_path / "sae")
    assert not sae.changed() and sae.current_config() == sae.config
    sae.save(tmp_path / "same")
    assert SAE.load(tmp_path / "same").config.l0 == 1.5
    sae.theta *= 2
    assert sae.changed()
    sae.config = sae.config.model_copy(update={"l0": 0.75})  # measured again
    sae.save(tmp_path / "changed")
    known = SAE.load(tmp_path / "changed").config
    wanted = dict.fromkeys(figures) | {"l0": 0.75, "target_l0": 1.4}
    assert {name: getattr(known, name) for name in wanted} == wanted
    assert not sae.changed()


def test_save_goes_only_to_a_folder_of_its_own(tmp_path: Path):
    folder, sae = tmp_path / "sae", small_sae()
    for _ in range(2):  # over an SAE of its own
        sae.save(folder)
    (folder / "sae.safetensors").write_bytes(b"left by a save that was killed")
    (folder / "config.json").unlink()
    sae.save(folder)
    for settings in ({"w": (1, 2)}, {"w": (1, 2)}, None):
        sae.save(folder, settings)
    (folder / "text.txt").write_text("")
    with pytest.raises(ValueError, match=r"^out_dir must be empty or hold an SAE .*with text.txt"):
        sae.save(folder)
    with pytest.raises(ValueError, match=r"^out_dir must be a folder, got the file"):
        sae.save(folder / "text.txt")
    with pytest.raises(ValueError, match=r"^out_dir must be a local path; .*got gs://bucket/sae"):
        sae.save("gs://bucket/sae")
    with pytest.raises(ValueError, match=r"^out_dir must be a path, got None$"):
        sae.save(None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("record", ['{"sae": null, "settings": {"lr": 1}}', '{"model_type": "x"}'])
def test_save_leaves_a_training_run_and_a_model_alone(tmp_path: Path, record: str):
    (tmp_path / "config.json").write_text(record)
    with pytest.raises(ValueError, match=r"^out_dir must be empty or hold an SAE"):
        small_sae().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == record


def test_to_changes_the_dtype_of_the_result():
    for dtype in (torch.bfloat16, "bfloat16"):
        assert small_sae().to(dtype=dtype)(torch.ones(1, 2)).dtype == torch.bfloat16


def test_to_gives_memory_of_its_own():
    sae = small_sae(skip=True)
    for same in (sae.to(), sae.to("cpu", torch.float32)):
        for tensor in same.tensors().values():
            tensor.mul_(2)
        assert sae.theta.tolist() == [1.0, 1.0, 2.5]
    shared = sae.to("cpu", copy=False)
    assert all(tensor is sae.tensors()[name] for name, tensor in shared.tensors().items())


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"device": "tpu"}, "device must be auto, cpu or a device that torch can use, got 'tpu'"),
        ({"device": torch.bfloat16}, "device must be auto, cpu or a .*, got torch.bfloat16$"),
        ({"device": "cuda:99"}, "device must be there, got cuda:99 on a machine with .* use cpu$"),
        ({"dtype": "int8"}, "dtype must be float32, bfloat16 or their like, got 'int8'$"),
        ({"dtype": "Tensor"}, "dtype must be float32, bfloat16 or their like, got 'Tensor'$"),
        ({"dtype": 5}, "dtype must be float32, bfloat16 or their like, got 5$"),
    ],
)
def test_a_device_or_dtype_that_is_none_is_refused_in_one_line(tmp_path: Path, how, text: str):
    with pytest.raises(ValueError, match=f"^{text}") as error:
        small_sae().to(**how)
    assert "\n" not in str(error.value)
    if "device" in how:
        small_sae().save(tmp_path)
        with pytest.raises(ValueError, match=f"^{text}"):
            SAE.load(tmp_path, **how)


@pytest.mark.parametrize("value", [5, None, b"sae"])
def test_what_is_no_path_is_refused(value):
    with pytest.raises(ValueError, match=r"^path must be a path, got (5|None|b'sae')$"):
        SAE.load(value)


def test_what_is_no_config_or_tensor_is_refused():
    config, tensors = small_sae().config, small_sae().tensors()
    with pytest.raises(ValueError, match=r"^config must be an SAEConfig, got NoneType; SAE.load"):
        SAE(None, **tensors)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^theta must be a tensor, got ndarray; torch.tensor"):
        SAE(config, **tensors | {"theta": np.ones(3)})  # pyright: ignore[reportArgumentType]


def test_rows_with_nan_have_nan_features():
    x = torch.tensor([[1.5, 1.0], [float("nan"), 1.0]])
    for sae in (small_sae(), small_sae(k=1)):
        f = sae.encode(x)
        assert torch.equal(f[0], sae.encode(x[:1])[0])
        assert f[1].isnan().any() and sae(x)[1].isnan().all()


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
