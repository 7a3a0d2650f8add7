"""SAEs by name: from a hub on 127.0.0.1 through the real client, from URLs and from folders."""

import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from scopeworks import SAE
from scopeworks.tests.hub_server import TOKEN, Hub, folder_files, serving, use
from scopeworks.tests.train.sae.test_export import random_sae, saved
from scopeworks.train.sae.export import export_sae

GOOGLE = "google/gemma-scope-2b-pt-res"


def npz(tmp_path: Path, scale: float = 1.0) -> bytes:
    """A params.npz as Google's releases have it: nothing beside it says what it is of."""
    arrays = {
        "W_enc": np.full((4, 16384), scale, np.float32),
        "W_dec": np.full((16384, 4), scale, np.float32),
        "b_enc": np.zeros(16384, np.float32),
        "b_dec": np.zeros(4, np.float32),
        "threshold": np.full(16384, 0.5, np.float32),
    }
    np.savez_compressed(tmp_path / "made.npz", allow_pickle=False, **arrays)
    return (tmp_path / "made.npz").read_bytes()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one slot of Gemma Scope, and this process's client pointed to it."""
    with serving() as hub:
        use(hub, tmp_path / "cache", monkeypatch)
        slot = "layer_12/width_16k/average_l0_"
        files = {f"{slot}{l0}/params.npz": npz(tmp_path, l0) for l0 in (22, 82, 445)}
        files["layer_3/width_16k/average_l0_59/params.npz"] = npz(tmp_path, 59)
        hub.add(GOOGLE, files | {"README.md": b"# card\n"})
        yield hub


def test_id_of_google_gives_the_sae_with_site_model_and_l0(hub: Hub):
    sae = SAE.from_pretrained(GOOGLE, "layer_12/width_16k/average_l0_82")
    assert float(sae.W_enc[0, 0]) == 82
    config = sae.config
    assert (config.site, config.target_site, config.l0) == ("resid_post.12", None, 82)
    assert config.model == "google/gemma-2-2b"
    commit = hub.repositories[GOOGLE].refs["main"]
    assert sae.source == f"hf://{GOOGLE}@{commit}/layer_12/width_16k/average_l0_82"
    assert sae.to(dtype=torch.float64).source == sae.source


def test_only_the_files_of_the_sae_are_downloaded(hub: Hub):
    SAE.from_pretrained(GOOGLE, "layer_12/width_16k/average_l0_82")
    assert [
        line.rpartition("/resolve/")[2].partition("/")[2] for line in hub.asked("HEAD", "")
    ] == ["layer_12/width_16k/average_l0_82/params.npz"]
    assert len(hub.asked("GET", "/objects/")) == 1
    SAE.from_pretrained(GOOGLE, "layer_12/width_16k/average_l0_82")
    assert len(hub.asked("GET", "/objects/")) == 1


@pytest.mark.parametrize(
    ("kind", "site", "target"),
    [
        ("res", "resid_post.3", None),
        ("mlp", "mlp_out.3", None),
        ("att", "attn_out.3", None),
        ("transcoders", "transcoder_in.3", "mlp_out.3"),
    ],
)
def test_repositorys_name_tells_what_an_sae_is_of(
    hub: Hub, tmp_path: Path, kind: str, site: str, target: str | None
):
    repo = f"google/gemma-scope-9b-it-{kind}"
    hub.add(repo, {"layer_3/width_16k/average_l0_9/params.npz": npz(tmp_path)})
    config = SAE.from_pretrained(repo).config
    assert (config.site, config.target_site) == (site, target)
    assert config.model == "google/gemma-2-9b-it"


def test_canonical_is_the_l0_nearest_to_100(hub: Hub):
    sae = SAE.from_pretrained(GOOGLE, "layer_12/width_16k/canonical")
    assert sae.config.l0 == 82
    assert SAE.from_pretrained(GOOGLE, "layer_3").config.l0 == 59


def test_address_of_the_hub_is_one_text(hub: Hub):
    first = hub.repositories[GOOGLE].refs["main"]
    hub.add(GOOGLE, {}, branch="main")
    sae = SAE.from_pretrained(f"hf://{GOOGLE}@{first}/layer_12/width_16k/canonical")
    assert sae.source is not None
    assert sae.source == f"hf://{GOOGLE}@{first}/layer_12/width_16k/average_l0_82"
    assert SAE.from_pretrained(sae.source).source == sae.source


def test_revision_is_a_branch_a_tag_or_a_commit(hub: Hub, tmp_path: Path):
    old = hub.repositories[GOOGLE].refs["main"]
    one = {"layer_3/width_16k/average_l0_59/params.npz": npz(tmp_path, 7)}
    new = hub.add(GOOGLE, one)
    other = hub.add(
        GOOGLE, {"layer_1/width_16k/average_l0_3/params.npz": npz(tmp_path)}, "refs/pr/1"
    )
    for revision, commit in ((None, new), (old, old), ("refs/pr/1", other)):
        layer = "layer_1" if commit == other else "layer_3"
        source = SAE.from_pretrained(GOOGLE, layer, revision=revision).source
        assert source is not None and f"@{commit}/" in source
    assert float(SAE.from_pretrained(GOOGLE, "layer_3").W_enc[0, 0]) == 7
    assert float(SAE.from_pretrained(GOOGLE, "layer_3", revision=old).W_enc[0, 0]) == 59


def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points the client to a port where nobody listens."""
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.mark.parametrize("how", ["offline", "unreachable", "broken"])
def test_cache_is_read_where_the_hub_cannot_be_reached(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
):
    online = SAE.from_pretrained(GOOGLE, "layer_12/width_16k/canonical")
    if how == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    elif how == "unreachable":
        unreachable(monkeypatch)
    else:
        hub.fails = lambda _line: 503
    for sae_id in ("layer_12/width_16k/canonical", "layer_12/width_16k/average_l0_82"):
        sae = SAE.from_pretrained(GOOGLE, sae_id)
        assert sae.source == online.source
        assert torch.equal(sae.W_enc, online.W_enc)
    said = capsys.readouterr().err
    assert re.search(
        r"the hub cannot be reached \(.*\): google/.* is read from the cache, co", said
    )
    with pytest.raises(OSError, match=r"average_l0_22/params\.npz of .* is not in the cache"):
        SAE.from_pretrained(GOOGLE, "layer_12/width_16k/average_l0_22")
    with pytest.raises(
        OSError, match=r"cannot be loaded: the hub cannot be reached: check the net"
    ):
        SAE.from_pretrained("user/other")


def test_part_of_a_listing_gives_no_canonical_sae(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants, hf_hub_download

    one = "layer_12/width_16k/average_l0_22"
    hf_hub_download(GOOGLE, f"{one}/params.npz")  # as SAELens fetches: the cache has no listing
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert SAE.from_pretrained(GOOGLE, one).config.l0 == 22
    with pytest.raises(ValueError, match=r"must name the whole folder .*or pass one of .*l0_22$"):
        SAE.from_pretrained(GOOGLE, "layer_12/width_16k/canonical")


@pytest.mark.parametrize(
    ("release", "sae_id", "options", "text"),
    [
        ("user/none", None, {}, "hf://user/none cannot be loaded: the hub has no such repository"),
        (GOOGLE, "layer_3", {"revision": "v9"}, "revision must be a branch, tag or .*got v9"),
        (
            GOOGLE,
            "layer_12/width_16k/average_l0_83",
            {},
            r"must name an SAE of hf.*; did you mean layer_12/width_16k/average_l0_82",
        ),
        (
            GOOGLE,
            "layer_12",
            {},
            r"must name one SAE .* holds 3: layer_12/width_16k/average_l0_22, ",
        ),
        (GOOGLE, None, {}, r"must name one SAE .*got none, which holds 4: layer_3/"),
        (GOOGLE, "layer_9/canonical", {}, "canonical must stand for one of .*got layer_9 of"),
        (GOOGLE, "../x", {}, r"sae_id must be a folder of .*got \.\./x"),
        ("hf://google", None, {}, r"hub address must be hf://USER/REPOSITORY\[@REVISION\]"),
        (f"hf://{GOOGLE}@a/x", None, {"revision": "b"}, "revision must be given once, got b"),
        (GOOGLE, None, {"storage_options": {"a": 1}}, "storage_options has no effect on google/"),
        ("memory://x", None, {"revision": "b"}, "revision has no effect on the URL memory://x"),
        ("memory://x", None, {}, r"must name an SAE of memory://x, got None; no folder of it"),
        ("./nothing", "x", {}, "release nothing must be a folder, a URL or an id on the hub"),
        (".", None, {"revision": "b"}, r"revision has no effect on the path \."),
    ],
)
def test_names_that_lead_nowhere_are_refused(
    hub: Hub, release: str, sae_id: str | None, options: Any, text: str
):
    with pytest.raises((ValueError, OSError), match=text):
        SAE.from_pretrained(release, sae_id, **options)


def test_gated_and_private_repositories_ask_for_a_login(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    hub.repositories[GOOGLE].gated = True
    with pytest.raises(OSError, match=r"it is gated: accept its licence .* `hf auth login`"):
        SAE.from_pretrained(GOOGLE, "layer_3")
    hub.repositories[GOOGLE].private = True
    with pytest.raises(OSError, match=r"no such repository, or it is private: .* `hf auth login`"):
        SAE.from_pretrained(GOOGLE, "layer_3")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert SAE.from_pretrained(GOOGLE, "layer_3").config.l0 == 59


def test_damaged_download_is_found_and_can_be_fetched_again(hub: Hub):
    hub.damage = lambda data: data[:-100] + bytes(100)
    with pytest.raises(
        ValueError, match=r"must be a readable npz .*force_download=True fetches it"
    ):
        SAE.from_pretrained(GOOGLE, "layer_3")
    hub.damage = lambda data: data
    assert SAE.from_pretrained(GOOGLE, "layer_3", force_download=True).config.l0 == 59
    assert SAE.from_pretrained(GOOGLE, "layer_3").config.l0 == 59


@pytest.mark.parametrize("format", ["gemma-scope", "sae-lens", "gemma-scope-2", "trained"])
def test_every_format_comes_from_hub_url_and_folder(hub: Hub, tmp_path: Path, format: str):
    sae = random_sae()
    release = tmp_path / "release"
    if format == "trained":
        sae.save(release / "some/folder")
    else:
        export_sae(saved(sae, tmp_path), format, release / "some/folder")
    hub.add("user/saes", folder_files(release))
    memory = fsspec.filesystem("memory")
    for name, data in folder_files(release).items():
        memory.pipe(f"/bucket-{format}/saes/{name}", data)
    for place in ("user/saes", f"memory://bucket-{format}/saes", release, str(release)):
        again = SAE.from_pretrained(place)
        assert all(torch.equal(again.tensors()[k], t) for k, t in sae.tensors().items())
        assert (again.config.site, again.config.model) == ("resid_post.5", "gemma-2-2b")
        assert again.source is not None and "some/folder" in again.source


def test_scale_of_a_checkpoint_comes_with_it_and_the_folders_name_tells_its_l0(
    hub: Hub, tmp_path: Path
):
    sae = random_sae()
    name = "average_l0_70"
    folder = export_sae(saved(sae, tmp_path), "sae-lens", tmp_path / "release" / name)
    record = json.loads((folder / "cfg.json").read_text())
    record["normalize_activations"] = "expected_average_only_in"
    (folder / "cfg.json").write_text(json.dumps(record))
    (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.5}')
    hub.add("user/saes", folder_files(tmp_path / "release"))
    memory = fsspec.filesystem("memory")
    for path, data in folder_files(folder).items():
        memory.pipe(f"/checkpoints/{name}/{path}", data)
    for place in ("user/saes", f"memory://checkpoints/{name}", folder):
        again = SAE.from_pretrained(place)
        assert torch.equal(again.W_enc, sae.W_enc / 2)
        assert torch.equal(again.W_dec, sae.W_dec * 2)
        assert (again.config.l0, again.config.normaliser) == (70, 2)


@pytest.mark.parametrize(
    ("place", "site", "target", "skip"),
    [
        ("resid_post/layer_9_width_65k_l0_small", "resid_post.9", None, False),
        ("attn_out_all/layer_0_width_16k_l0_big", "attn_out.0", None, False),
        ("transcoder_all/layer_3_width_16k_l0_big_affine", "mlp_in.3", "mlp_out.3", True),
    ],
)
def test_gemma_scope_2_folders_without_a_config_are_told_by_their_names(
    hub: Hub, tmp_path: Path, place: str, site: str, target: str | None, skip: bool
):
    made = random_sae("resid_post.5", "mlp_out.5" if target else None, skip)
    folder = export_sae(saved(made, tmp_path), "gemma-scope-2", tmp_path / "out")
    data = (folder / "params.safetensors").read_bytes()
    hub.add("google/gemma-scope-2-4b-pt", {f"{place}/params.safetensors": data})
    sae = SAE.from_pretrained("google/gemma-scope-2-4b-pt", place)
    assert torch.equal(sae.W_enc, made.W_enc)
    config = sae.config
    assert (config.site, config.target_site) == (site, target)
    assert (config.model, config.l0) == ("google/gemma-3-4b-pt", None)


def test_url_tells_what_googles_folders_do(tmp_path: Path):
    memory = fsspec.filesystem("memory")
    base = "copies/gemma-scope-2b-pt-mlp/layer_7/width_16k"
    memory.pipe(f"/{base}/average_l0_60/params.npz", npz(tmp_path, 60))
    memory.pipe(f"/{base}/average_l0_140/params.npz", npz(tmp_path, 140))
    sae = SAE.from_pretrained(
        "memory://copies/gemma-scope-2b-pt-mlp", "layer_7/width_16k/canonical"
    )
    assert (sae.config.site, sae.config.l0) == ("mlp_out.7", 60)
    assert sae.source == f"memory://{base}/average_l0_60"
    assert SAE.from_pretrained(f"memory://{base}/average_l0_140").config.l0 == 140


def test_folder_here_goes_before_an_id_of_its_name(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    random_sae().save(tmp_path / "google/gemma-scope-2b-pt-res")
    monkeypatch.chdir(tmp_path)
    assert SAE.from_pretrained(GOOGLE).source == GOOGLE
    assert hub.requests == []


def test_folder_that_holds_no_finished_sae_says_so(tmp_path: Path):
    random_sae().save(tmp_path / "sae")
    (tmp_path / "sae/sae.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="holds no finished SAE"):
        SAE.from_pretrained(tmp_path / "sae")
    with pytest.raises(FileNotFoundError, match=r"SAE path .* does not exist"):
        SAE.from_pretrained(tmp_path / "no")
    shutil.rmtree(tmp_path / "sae")
    with pytest.raises(ValueError, match=r"no folder of it holds an SAE: one of params\.npz"):
        SAE.from_pretrained(tmp_path)
