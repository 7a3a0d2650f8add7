"""Every format is read and written, and what a file declares is checked against what it holds, both
ways."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from scopeworks.tests.train.sae.test_export import random_sae, rows
from scopeworks.train.sae.export import export_sae
from scopeworks.train.sae.files import write_format
from scopeworks.train.sae.formats.table import FORMATS, Format
from scopeworks.train.sae.sae import SAE

TRANSCODER = ("resid_post.5", "mlp_out.5")
WEIGHTS = {
    "sae-lens": ("cfg.json", "sae_weights.safetensors"),
    "gemma-scope-2": ("config.json", "params.safetensors"),
    "trained": ("config.json", "sae.safetensors"),
}


def written(tmp_path: Path, format: str, sae: SAE) -> Path:
    """The SAE's folder in the format."""
    sae.save(tmp_path / "trained")
    return (
        tmp_path / "trained"
        if format == "trained"
        else export_sae(tmp_path / "trained", format, tmp_path / "out")
    )


def edit(
    folder: Path,
    format: str,
    config: dict[str, Any] | None = None,
    tensors: Callable[[dict[str, Tensor]], None] | None = None,
) -> None:
    """Changes entries of the config (by dotted names; ... removes) and the tensors."""
    config_name, weights_name = WEIGHTS[format]
    record = json.loads((folder / config_name).read_text())
    for name, value in (config or {}).items():
        *path, last = name.split(".")
        place = record
        for key in path:
            place = place[key]
        place.pop(last, None)
        if value is not ...:
            place[last] = value
    (folder / config_name).write_text(json.dumps(record))
    if tensors is not None:
        values = load_file(folder / weights_name)
        tensors(values)
        save_file({k: t.contiguous() for k, t in values.items()}, folder / weights_name)


def without(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: (tensors.pop(name), None)[1]


def added(name: str, *shape: int) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({name: torch.ones(shape)})


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({name: change(tensors[name])})


def with_nan(tensor: Tensor) -> Tensor:
    tensor[..., :3] = float("nan")
    return tensor


PLAIN, PAIR, SKIP = ("resid_post.5", None, False), (*TRANSCODER, False), (*TRANSCODER, True)
CASES: dict[str, tuple[str, tuple, dict[str, Any], Any, str]] = {
    "affine flag without its tensor": (
        "gemma-scope-2",
        SKIP,
        {},
        without("affine_skip_connection"),
        r"affine_connection must be true if and only if .*, got true and",
    ),
    "affine tensor without its flag": (
        "gemma-scope-2",
        SKIP,
        {"affine_connection": False},
        None,
        r"affine_connection must be true if and only if .*, got false and",
    ),
    "affine tensor, no flag at all": (
        "gemma-scope-2",
        SKIP,
        {"affine_connection": ...},
        None,
        "affine_connection must be true if and only if",
    ),
    "scope 2 width": ("gemma-scope-2", PLAIN, {"width": 16384}, None, "width must be 4096"),
    "scope 2 layer": (
        "gemma-scope-2",
        PLAIN,
        {"hf_hook_point_in": "model.layers.6.output", "hf_hook_point_out": ...},
        None,
        "layer of hf_hook_point_in must be 5, .*got 6",
    ),
    "scope 2 transcoder said to be an SAE": (
        "gemma-scope-2",
        PAIR,
        {"type": "sae"},
        None,
        "type must be transcoder",
    ),
    "scope 2 SAE said to be a transcoder": (
        "gemma-scope-2",
        PLAIN,
        {"type": "transcoder"},
        None,
        "type must be sae",
    ),
    "scope 2 crosscoder": ("gemma-scope-2", PLAIN, {"type": "clt"}, None, "type: .*got 'clt'"),
    "scope 2 l0": ("gemma-scope-2", PLAIN, {"l0": -3}, None, "l0: .*got -3"),
    "scope 2 architecture": (
        "gemma-scope-2",
        PLAIN,
        {"architecture": "topk"},
        None,
        "architecture: .*got 'topk'",
    ),
    "skip transcoder without W_skip": (
        "sae-lens",
        SKIP,
        {},
        without("W_skip"),
        "a skip_transcoder if and only if there is a W_skip",
    ),
    "W_skip in a transcoder that has none": (
        "sae-lens",
        PAIR,
        {},
        added("W_skip", 10, 24),
        "a skip_transcoder if and only if there is a W_skip",
    ),
    "transcoder without apply_b_dec_to_input": (
        "sae-lens",
        PAIR,
        {"apply_b_dec_to_input": ...},
        None,
        "apply_b_dec_to_input must be false for a transcoder",
    ),
    "lens d_in": ("sae-lens", PLAIN, {"d_in": 23}, None, "d_in must be 24, .*got 23"),
    "lens d_sae": ("sae-lens", PLAIN, {"d_sae": 4095}, None, "d_sae must be 4096"),
    "lens d_out": ("sae-lens", PAIR, {"d_out": 24}, None, "d_out must be 10, .*got 24"),
    "lens dtype": ("sae-lens", PLAIN, {"dtype": "bfloat16"}, None, "dtype must be float32"),
    "lens SAE with two widths": (
        "sae-lens",
        PAIR,
        {"architecture": "jumprelu", "metadata.hook_name_out": ...},
        None,
        "must be a transcoder to have d_out 10",
    ),
    "lens SAE with an output elsewhere": (
        "sae-lens",
        PLAIN,
        {"metadata.hook_name_out": "blocks.5.hook_mlp_out"},
        None,
        "hook_name_out must not be there for architecture jumprelu",
    ),
    "lens hooks of two sites": (
        "sae-lens",
        PLAIN,
        {"metadata.hf_hook_name": "model.layers.4.output"},
        None,
        "hooks must name one site",
    ),
    "lens hooks of a known site and of another tensor": (
        "sae-lens",
        PLAIN,
        {"metadata.hook_name": "blocks.5.hook_resid_mid"},
        None,
        "hooks must name one site, got 'blocks.5.hook_resid_mid' and 'model.layers.5.output'",
    ),
    "lens hooks of a known site and of another layer": (
        "sae-lens",
        PLAIN,
        {"metadata.hf_hook_name": "transformer.h.4"},
        None,
        "hooks must name one site, got 'blocks.5.hook_resid_post' and 'transformer.h.4'",
    ),
    "lens layer": ("sae-lens", PLAIN, {"hook_layer": 4}, None, "hook_layer must be 5"),
    "lens model in two places": (
        "sae-lens",
        PLAIN,
        {"model_name": "gpt2"},
        None,
        r"metadata.model_name must be gpt2, .*got 'gemma-2-2b'",
    ),
    "lens one head": (
        "sae-lens",
        PLAIN,
        {"metadata.hook_head_index": 3},
        None,
        "hook_head_index must be null",
    ),
    "lens other activation": (
        "sae-lens",
        PLAIN,
        {"activation_fn_str": "tanh-relu"},
        None,
        "activation_fn_str must be relu",
    ),
    "lens metadata of another type": (
        "sae-lens",
        PLAIN,
        {"metadata": 3},
        None,
        r"cfg\.json does not hold what it must: metadata: ",
    ),
    "lens factors": (
        "sae-lens",
        PLAIN,
        {},
        lambda t: t.update(scaling_factor=torch.full((4096,), 2.0)),
        "scaling_factor must be 1 everywhere",
    ),
    "lens without b_dec": (
        "sae-lens",
        PLAIN,
        {},
        without("b_dec"),
        "b_dec must be among the SAE's tensors",
    ),
    "transposed": (
        "sae-lens",
        PLAIN,
        {"d_in": ..., "d_sae": ...},
        lambda t: t.update(W_enc=t["W_enc"].T, W_dec=t["W_dec"].T),
        r"W_enc must have shape \(24, 4096\), got \(4096, 24\); it is transposed",
    ),
    "own record without a width": (
        "trained",
        PLAIN,
        {"sae.d_sae": ...},
        None,
        r"config\.json, sae, does not hold what it must: d_sae is missing",
    ),
    "own record of another type": (
        "trained",
        PLAIN,
        {"sae.site": 4},
        None,
        "site: .*got 4",
    ),
    "own d_sae": (
        "trained",
        PLAIN,
        {"sae.d_sae": 4095},
        None,
        r"sae\.safetensors: W_enc must have shape \(24, 4095\)",
    ),
    "own skip setting": ("trained", SKIP, {"settings": {"skip": False}}, None, "skip must be True"),
    "own target lost": (
        "trained",
        PAIR,
        {"sae.target_site": None},
        None,
        "must be a transcoder to have d_out 10",
    ),
    "own theta lost": ("trained", PLAIN, {}, without("theta"), "theta must be among"),
    "own tensor too many": (
        "trained",
        PLAIN,
        {},
        added("gate", 3),
        "tensors that no SAE of its kind has: gate",
    ),
    "integers": (
        "trained",
        PLAIN,
        {},
        changed("b_dec", lambda t: t.long()),
        "b_dec must be floating point",
    ),
    "NaN": (
        "trained",
        PLAIN,
        {},
        changed("b_enc", with_nan),
        r"b_enc must be finite, got 3 of 4,096 values",
    ),
}


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.module)
def test_every_row_writes_the_files_that_tell_it_and_reads_them(tmp_path: Path, row: Format):
    sae = random_sae()
    name, files = row.files(sae.config, sae.tensors())
    assert set(row.told_by) <= set(files)
    write_format(tmp_path / name, files)
    _, tensors = row.read(tmp_path / name)
    assert tensors.keys() == sae.tensors().keys()
    assert all(torch.equal(tensors[key], value) for key, value in sae.tensors().items())
    for file in row.told_by:
        told = [other for other in FORMATS if file in other.told_by]
        assert told == [row]


@pytest.mark.parametrize("case", CASES)
def test_file_that_contradicts_itself_is_refused(tmp_path: Path, case: str):
    format, (site, target, skip), config, tensors, text = CASES[case]
    folder = written(tmp_path, format, random_sae(site, target, skip))
    SAE.load(folder)  # before the change nothing is wrong
    edit(folder, format, config, tensors)
    with pytest.raises(ValueError, match=text) as caught:
        SAE.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_transcoder_without_its_target_is_known_to_be_one(tmp_path: Path):
    folder = written(tmp_path, "sae-lens", random_sae("resid_post.5", "mlp_out.5"))
    hooks = {"metadata.hook_name_out": ..., "metadata.hf_hook_name_out": ...}
    edit(folder, "sae-lens", hooks)
    config = SAE.load(folder).config
    assert (config.site, config.target_site, config.is_transcoder) == ("resid_post.5", None, True)
    with pytest.raises(ValueError, match=r"target_site must be known .*pass target_site"):
        export_sae(folder, "sae-lens", tmp_path / "again")
    again = export_sae(folder, "sae-lens", tmp_path / "again", target_site="mlp_out.5")
    assert SAE.load(again).config.target_site == "mlp_out.5"


def test_hugging_face_hook_names_are_sites(tmp_path: Path):
    folder = written(tmp_path, "sae-lens", random_sae())
    edit(folder, "sae-lens", {"metadata.hook_name": "model.layers.5", "metadata.hf_hook_name": ...})
    assert SAE.load(folder).config.site == "resid_post.5"


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("hook_name", "blocks.6.hook_resid_pre"),  # the same tensor: the next layer's input
        ("hf_hook_name", "transformer.h.5"),  # a path of another family
        ("hf_hook_name", "transformer.output"),
    ],
)
def test_hook_name_that_is_not_known_here_may_stand_beside_one_that_is(
    tmp_path: Path, name: str, hook: str
):
    folder = written(tmp_path, "sae-lens", random_sae())
    edit(folder, "sae-lens", {f"metadata.{name}": hook})
    assert SAE.load(folder).config.site == "resid_post.5"


def test_released_gemma_scope_2_transcoder_says_where_it_reads(tmp_path: Path):
    sae = random_sae("mlp_in.5", "mlp_out.5", skip=True)
    folder = written(tmp_path, "gemma-scope-2", sae)
    record = json.loads((folder / "config.json").read_text())
    assert record["hf_hook_point_in"] == "model.layers.5.pre_feedforward_layernorm.output"
    again = SAE.load(folder)
    assert (again.config.site, again.config.target_site) == ("mlp_in.5", "mlp_out.5")
    assert torch.equal(again(rows()), sae(rows()))


def npz(folder: Path, **changes: Any) -> Path:
    """A params.npz of a random SAE with arrays changed, added or (None) left out."""
    tensors = {name: t.numpy() for name, t in random_sae().tensors().items()}
    arrays = {"threshold" if name == "theta" else name: a for name, a in tensors.items()} | changes
    path = folder / "params.npz"
    np.savez(path, **cast(Any, {name: a for name, a in arrays.items() if a is not None}))
    return path


def test_npz_scaling_factor_of_ones_is_read_and_another_is_not(tmp_path: Path):
    plain = SAE.load(npz(tmp_path))
    ones = SAE.load(npz(tmp_path, scaling_factor=np.ones(4096, np.float32)))
    assert torch.equal(plain(rows()), ones(rows()))
    path = npz(tmp_path, scaling_factor=np.full(4096, 2.0))
    with pytest.raises(ValueError, match=r"params\.npz: scaling_factor must be 1 everywhere"):
        SAE.load(path)


def test_npz_of_two_widths_is_a_transcoder_whose_sites_are_not_known(tmp_path: Path):
    path = npz(tmp_path, W_dec=np.ones((4096, 10), np.float32), b_dec=np.ones(10, np.float32))
    config = SAE.load(path).config
    assert (config.d_in, config.d_out, config.is_transcoder) == (24, 10, True)


def test_npz_in_a_folder_of_another_width_is_refused(tmp_path: Path):
    folder = tmp_path / "layer_5/width_16k/average_l0_71"
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"width must be 4k, .*got '16k'"):
        SAE.load(npz(folder))


def test_gemma_scope_export_reads_back_with_its_site_wherever_it_is(tmp_path: Path):
    random_sae().save(tmp_path / "trained")
    folder = export_sae(
        tmp_path / "trained", "gemma-scope", tmp_path / "layer_9/width_1m/average_l0_3"
    )  # the innermost counts
    config = SAE.load(folder).config
    assert (config.site, config.model, config.l0) == ("resid_post.5", "gemma-2-2b", 71.4)
    folder.rename(tmp_path / "elsewhere")
    assert SAE.load(tmp_path / "elsewhere").config.site == "resid_post.5"
    (tmp_path / "gemma-scope-2b-pt-mlp/layer_5").mkdir(parents=True)
    moved = (tmp_path / "elsewhere").rename(tmp_path / "gemma-scope-2b-pt-mlp/layer_5/x")
    with pytest.raises(ValueError, match=r"origin\.json: site must be mlp_out\.5"):
        SAE.load(moved)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"b_dec": None}, "b_dec must be among the SAE's tensors"),
        ({"W_enc": np.zeros((4096, 24), np.float32), "W_dec": np.zeros((24, 4096))}, "transposed"),
        ({"W_dec": np.zeros((24, 4096))}, r"W_dec must have shape \(4096, 24\), .*transposed"),
        ({"W_enc": np.zeros((24, 4096), "V2")}, r"W_enc has no type that numpy knows .*bfloat16"),
        ({"b_dec": np.zeros(24, np.int32)}, "b_dec must be float16, float32 or float64, got int32"),
        ({"threshold": np.array([{}], object)}, "npz without pickles: threshold is pickled"),
        ({"b_dec": np.full(24, np.inf)}, "b_dec must be finite, got 24 of 24"),
        ({"b_dec": np.full(24, 1e300)}, "b_dec must be finite, got 24 of 24"),
        ({"W_skip": np.zeros((24, 24), np.float32)}, "has no skip connection"),
        ({f"a{i}": np.zeros(1) for i in range(20)}, "at most 16 arrays, got 25"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_npz_that_is_no_sae_is_refused(tmp_path: Path, changes: dict[str, Any], text: str):
    with pytest.raises(ValueError, match=text) as caught:
        SAE.load(npz(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_npz_that_would_inflate_is_refused_before_it_does(tmp_path: Path):
    path = tmp_path / "params.npz"
    np.savez_compressed(path, W_enc=np.zeros((512, 40_000), np.float32))
    assert path.stat().st_size < 2**17
    with pytest.raises(ValueError, match=r"W_enc would inflate from .* to 81,920,128 bytes"):
        SAE.load(path)


def test_npz_whose_directory_lies_about_a_size_is_refused(tmp_path: Path):
    data = npz(tmp_path).read_bytes()
    at = data.rindex(b"PK\x01\x02")  # the directory's last entry
    (tmp_path / "params.npz").write_bytes(data[: at + 24] + b"\xff\xff\xff\x7f" + data[at + 28 :])
    with pytest.raises(ValueError, match=r"params\.npz must be a readable npz without pickles"):
        SAE.load(tmp_path / "params.npz")


def test_half_a_folder_is_refused_by_the_missing_files_name(tmp_path: Path):
    for format, (config, weights) in WEIGHTS.items():
        for lost in (config, weights):
            folder = written(tmp_path / format / lost, format, random_sae())
            (folder / lost).unlink()
            with pytest.raises(FileNotFoundError, match=r"does not exist|has not ended"):
                SAE.load(folder)


def test_huge_config_is_not_read(tmp_path: Path):
    folder = written(tmp_path, "sae-lens", random_sae())
    with (folder / "cfg.json").open("r+b") as file:
        file.truncate(1 << 34)
    with pytest.raises(ValueError, match=r"cfg\.json must be a config of a few kilobytes"):
        SAE.load(folder)


def test_save_refuses_numbers_that_are_none_and_writes_nothing(tmp_path: Path):
    sae = random_sae()
    sae.W_dec[7, :3] = float("nan")
    with pytest.raises(ValueError, match="W_dec must be finite, got 3 of 98,304 values"):
        sae.save(tmp_path / "sae")
    assert not (tmp_path / "sae").exists()


@pytest.mark.parametrize("format", ["sae-lens", "gemma-scope-2", "gemma-scope"])
def test_links_of_the_hubs_cache_are_followed(tmp_path: Path, format: str):
    folder = written(tmp_path / "a", format, random_sae())
    snapshot = tmp_path / "snapshot" / folder.relative_to(tmp_path / "a/out")
    snapshot.mkdir(parents=True)
    for i, path in enumerate(folder.iterdir()):
        (snapshot / path.name).symlink_to(path.rename(tmp_path / f"blob{i}"))
    assert torch.equal(SAE.load(snapshot)(rows()), random_sae()(rows()))


@pytest.mark.parametrize("format", WEIGHTS)
def test_a_config_that_is_a_pipe_is_not_waited_for(tmp_path: Path, format: str):
    folder = written(tmp_path, format, random_sae())
    config = folder / WEIGHTS[format][0]
    config.unlink()
    os.mkfifo(config)
    with pytest.raises(ValueError, match=r"must (be a regular file, got .* pipe|hold one of)"):
        SAE.load(folder)
