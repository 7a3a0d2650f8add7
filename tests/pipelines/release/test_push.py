"""Releases pushed to a hub on 127.0.0.1 by the real client, and loaded back."""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scopeworks import SAE
from scopeworks.pipelines.release.folder import write_release
from scopeworks.pipelines.release.push import push
from scopeworks.tests.hub_server import TOKEN, Hub, environment, folder_files, serving, use
from scopeworks.tests.pipelines.release.saes import trained
from scopeworks.tests.pipelines.release.test_folder import FACTS

# huggingface_hub's own way to hand a file to httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO, NAME = "user/saes", "layer_5/width_4k/average_l0_50"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, and this process logged in."""
    with serving() as hub:
        use(hub, tmp_path / "cache", monkeypatch)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release of one SAE."""
    return write_release(tmp_path / "release", [trained(tmp_path / "sae")], FACTS)


def test_pushed_release_is_loaded_back_bit_for_bit(hub: Hub, folder: Path, tmp_path: Path):
    address = push(folder, REPO)
    assert hub.files(REPO) == {".gitattributes": b"*.npz filter=lfs\n"} | folder_files(folder)
    sae = SAE.load(tmp_path / "sae")
    for name in (NAME, f"sae_lens/{NAME}"):
        again = SAE.from_pretrained(REPO, name)
        assert again.source == f"{address}/{name}"
        assert all(torch.equal(again.tensors()[k], t) for k, t in sae.tensors().items())


def test_sae_lens_loads_what_the_card_says(hub: Hub, folder: Path, tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sae_lens = pytest.importorskip("sae_lens", reason="needs the extra `interop`")
        push(folder, REPO)
        place = f"sae_lens/{NAME}"
        theirs = [sae_lens.SAE.load_from_disk(folder / place)]
        theirs.append(sae_lens.SAE.from_pretrained(REPO, place))
    assert f'SAE.load_from_disk("{place}")' in (folder / "README.md").read_text()
    ours = SAE.load(tmp_path / "sae")
    x = 30 * torch.randn(4, ours.config.d_in, generator=torch.Generator().manual_seed(1))
    for sae in theirs:
        with torch.no_grad():
            torch.testing.assert_close(sae(x), ours(x), rtol=1e-5, atol=1e-3)


def test_second_push_sends_nothing(hub: Hub, folder: Path):
    first = push(folder, REPO)
    hub.requests.clear()
    assert push(folder, REPO) == first
    assert hub.asked("PUT", "/") == hub.asked("POST", "/commit/") == []


def test_push_that_broke_off_continues_and_shows_nothing_before(hub: Hub, folder: Path):
    hub.fails = lambda line: 403 if "/commit/" in line else None
    with pytest.raises(
        OSError, match=r"cannot be pushed .*refuses it \(403\): run `hf auth login`"
    ):
        push(folder, REPO)
    assert hub.files(REPO).keys() == {".gitattributes"}
    sent = len(hub.asked("PUT", "/objects/"))
    assert sent
    hub.fails = lambda _line: None
    push(folder, REPO)
    assert len(hub.asked("PUT", "/objects/")) == sent
    assert hub.files(REPO).keys() > folder_files(folder).keys()


def test_branch_gets_the_release_and_other_files_stay(hub: Hub, folder: Path, tmp_path: Path):
    push(folder, REPO)
    before = hub.files(REPO)
    other = write_release(
        tmp_path / "other",
        [trained(tmp_path / "mlp", site="mlp_out.2")],
        FACTS,
        formats=["sae-lens"],
    )
    push(other, REPO, revision="v2")
    assert hub.files(REPO) == before
    kept = {".gitattributes": before[".gitattributes"]}
    assert hub.files(REPO, "v2") == kept | folder_files(other)


def test_hub_that_holds_other_bytes_is_found(hub: Hub, folder: Path):
    real = hub.objects

    class Losing(dict[str, bytes]):
        def __setitem__(self, name: str, data: bytes) -> None:
            super().__setitem__(name, data[:-1] + b"?")

    hub.objects = Losing(real)
    with pytest.raises(OSError, match=r"the hub lists \d+ files otherwise than SHA256SUMS, "):
        push(folder, REPO)


def test_public_repository_gets_nothing_that_was_to_be_private(hub: Hub, folder: Path):
    before = hub.add(REPO, {"notes.md": b"mine"})
    with pytest.raises(ValueError, match=r"user/saes must be private, got one .* and public; "):
        push(folder, REPO, private=True)
    assert hub.repositories[REPO].refs == {"main": before}
    assert hub.asked("PUT", "/") == hub.asked("POST", "/commit/") == []
    push(folder, REPO, private=False)
    assert hub.files(REPO)["notes.md"] == b"mine"


def test_hub_that_fails_on_the_way_is_told_with_its_answer(hub: Hub, folder: Path):
    hub.fails = lambda line: 400 if line.startswith("PUT ") else None
    with pytest.raises(
        OSError, match=r"the hub answers 400 \(Broken\); the same command continues"
    ):
        push(folder, REPO)
    hub.fails = lambda line: None
    push(folder, REPO)


def test_what_cannot_be_pushed_is_refused(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for repo in ("saes", "user/my--saes"):
        with pytest.raises(ValueError, match=f"push must be USER/REPOSITORY, .*got {repo}"):
            push(folder, repo)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no complete release"):
        push(tmp_path / "empty", REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(OSError, match=r"refuses it \(401\): run `hf auth login`") as caught:
        push(folder, REPO)
    assert "hf_wrong" not in str(caught.value)
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"metrics\.json must be the file that was released"):
        push(folder, REPO)
    assert hub.repositories == {}


def command(hub: Hub, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, with the hub by HF_ENDPOINT."""
    return subprocess.run(
        [sys.executable, "-m", "scopeworks", *arguments],
        env=os.environ | environment(hub, home) | {"HF_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_pushes_and_export_reads_it_by_its_address(hub: Hub, folder: Path, tmp_path: Path):
    done = command(hub, tmp_path / "home", "release", str(folder), "--push", REPO, "--private")
    assert done.returncode == 0, done.stderr
    address = done.stdout.split()[-1]
    assert hub.repositories[REPO].private and address.startswith(f"hf://{REPO}@")
    assert TOKEN not in done.stdout + done.stderr
    out = str(tmp_path / "out")
    options = ("--sae", f"{address}/{NAME}", "--format", "sae-lens", "--out", out)
    done = command(hub, tmp_path / "home", "export", *options)
    assert done.returncode == 0, done.stderr
    assert torch.equal(SAE.load(out).W_enc, SAE.load(tmp_path / "sae").W_enc)
    shutil.rmtree(folder / "figures")
    done = command(hub, tmp_path / "home", "release", "nope")
    assert done.stderr.rstrip().endswith("; or the folder of a release or of a run")
    done = command(hub, tmp_path / "home", "release", str(folder))
    assert (done.returncode, done.stdout) == (2, "")
    assert "must hold figures/" in done.stderr
