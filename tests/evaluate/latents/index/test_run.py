"""The command's run: whole, resumed, spread over workers, refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scopeworks.evaluate.latents.files import explanations
from scopeworks.evaluate.latents.files.counting import counted
from scopeworks.evaluate.latents.files.folder import open_index
from scopeworks.evaluate.latents.files.manifest import NAME, OtherFacts
from scopeworks.evaluate.latents.index import inputs as inputs_module
from scopeworks.evaluate.latents.index import on_dask, run
from scopeworks.evaluate.latents.index.firing import Pass
from scopeworks.evaluate.latents.index.run import TIMING, index
from scopeworks.evaluate.latents.index.settings import IndexSettings
from scopeworks.evaluate.latents.weights.identity import sae_fingerprint
from scopeworks.harvest.settings import to_worker
from scopeworks.store import TokenStore
from scopeworks.tests.evaluate.latents import planted
from scopeworks.train.sae.sae import SAE

Given = dict[str, Any]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> planted.Planted:
    return planted.plant(tmp_path_factory.mktemp("planted") / "p", 40)


@pytest.fixture
def given(found: planted.Planted, tmp_path: Path) -> Given:
    values = {name: getattr(found, name) for name in ("tokens", "store", "sae", "model")}
    return values | {"out": tmp_path / "index", "device": "cpu"}


def made(given: Given, **changes: Any) -> dict[str, bytes]:
    """An index's files, but for the times of the run."""
    settings = IndexSettings.model_validate(given | changes)
    index(settings)
    paths = [path for path in settings.out.rglob("*") if path.is_file()]
    return {
        path.relative_to(settings.out).as_posix(): path.read_bytes()
        for path in paths
        if path.name != TIMING
    }


@pytest.fixture(scope="module")
def whole(found, tmp_path_factory) -> dict[str, bytes]:
    """The index made by one process without a stop."""
    values = {name: getattr(found, name) for name in ("tokens", "store", "sae", "model")}
    return made(values | {"out": tmp_path_factory.mktemp("whole") / "index", "device": "cpu"})


def peaks(record: dict[str, Any]) -> list[str]:
    """The tokens at which a latent's examples fire."""
    return [
        one["tokens"][one["train_token_ind"]]
        for band in record["examples_quantiles"]
        for one in band["examples"]
    ]


def test_planted_latents_are_told_by_their_records(given):
    settings = IndexSettings.model_validate(given)
    manifest = index(settings)
    there = open_index(settings.out)
    assert manifest == there.manifest and not (settings.out / "parts").exists()
    assert manifest.n_alive == planted.D_SAE - 1
    assert manifest.settings["documents"].startswith("of the text")
    digits = there.record(planted.DIGIT)
    assert len(peaks(digits)) > 10
    assert all(any(c.isdigit() for c in text) for text in peaks(digits))
    returns = there.page(planted.RETURN)
    assert returns["tokens"][0][0].strip() == "return" and returns["tokens"][0][2:] == [1, 1]
    twin = there.page(planted.TWIN)["together"][0]
    assert twin[:2] == [planted.AFTER_DEF, 1] and twin[2] == pytest.approx(1)
    assert there.page(planted.DEAD)["fired"] == 0 and peaks(there.record(planted.DEAD)) == []
    found = counted(there)
    assert found["examples"] > 200 and found["filler"] == found["doubles"] == 0
    for band in there.record(planted.AFTER_DEF)["examples_quantiles"]:
        for one in band["examples"]:
            assert one["tokens"][one["train_token_ind"] - 1].strip() == "def"


def test_a_complete_index_is_left_as_it_is(given, monkeypatch, capsys):
    first = made(given)
    assert "is complete" not in capsys.readouterr().err
    monkeypatch.setattr(run, "firings", None)
    assert made(given) == first
    assert "is complete: it stays as it is" in capsys.readouterr().err


def test_what_a_stop_behind_the_manifest_left_is_put_right(given):
    first = made(given)
    (given["out"] / "places.json").unlink()
    (given["out"] / "parts").mkdir()
    (given["out"] / "parts" / "count-00.safetensors").write_bytes(b"left")
    assert made(given) == first and not (given["out"] / "parts").exists()


@pytest.mark.parametrize(
    "name", ["tables/mine.parquet", "index.html", "parts/thesis.txt", "thesis.tex"]
)
def test_other_files_are_not_replaced(given, name):
    path = given["out"] / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(ValueError, match=rf"out must be empty .* with {name.split('/')[0]}; pass"):
        made(given)
    assert path.read_text() == "mine" and not (given["out"] / NAME).exists()


def test_an_index_without_tables_is_completed_where_they_can_be_written(given, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(run.tables, "available", lambda: False)
        first = made(given)
    assert "pip install 'scopeworks[latents]'" in capsys.readouterr().err
    assert not any(name.startswith("tables/") for name in first)
    pytest.importorskip("pyarrow")
    assert {name for name in made(given) if name.startswith("tables/")}


def test_a_damaged_index_is_made_again(given, whole):
    made(given)
    page = given["out"] / "data" / "pages.bin"
    page.write_bytes(page.read_bytes()[:-1])
    assert made(given)["data/pages.bin"] == whole["data/pages.bin"]


def stop_after(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """Lets `n` parts be done, then stops as a full disk does."""
    real, left = Pass.do, [n]

    def do(self: Pass, *arguments: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("disk full")
        real(self, *arguments)

    monkeypatch.setattr(Pass, "do", do)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_a_resumed_index_is_the_same(given, whole, monkeypatch, n):
    n_parts = len(Pass(inputs_module.Inputs.load(IndexSettings.model_validate(given))).parts)
    assert n_parts > 3
    with monkeypatch.context() as patch:
        stop_after(patch, n)
        with pytest.raises(OSError, match="disk full"):
            made(given)
    assert not (given["out"] / NAME).exists()
    stop_after(monkeypatch, 2 * n_parts - n)  # no part is done twice
    assert made(given) == whole


def test_a_part_that_was_cut_short_is_done_again(given, whole, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(OSError, match="disk full"):
            made(given)
    part = next((given["out"] / "parts").glob("count-00*"))
    part.write_bytes(part.read_bytes()[:-9])
    assert made(given) == whole


@pytest.fixture
def scheduler():
    """The address of a scheduler with two workers in this process."""
    from distributed import LocalCluster

    on_dask._work_here.cache_clear()
    local: Any = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    )
    with local:
        yield local.scheduler_address


def test_two_workers_write_what_one_process_writes(given, whole, scheduler, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given["out"] = Path("index")  # as a person names it
    assert made(given, dask=scheduler) == whole


def test_workers_are_sent_paths_that_they_find_from_any_folder(given, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = ("sae", "store", "tokens", "out")
    sent = json.loads(to_worker(IndexSettings.model_validate(given | {n: n for n in names})))
    assert [sent[name] for name in names] == [str(tmp_path / name) for name in names]


def test_a_worker_with_other_rows_is_refused(given, scheduler, monkeypatch):
    settings = IndexSettings.model_validate(given)
    work = Pass(inputs_module.Inputs.load(settings.model_copy(update={"dask": scheduler})))
    work.inputs.facts["rows"] = "others"
    with (
        pytest.raises(ValueError, match="every worker must have the same inputs, one has rows"),
        on_dask.doing(work) as do,
    ):
        do("count", work.parts[:1], "")


@pytest.mark.slow
def test_an_index_killed_ten_times_is_the_same(given, whole):
    script = (
        "import sys, json, pathlib\n"
        "from scopeworks.evaluate.latents.index.run import index\n"
        "from scopeworks.evaluate.latents.index.settings import IndexSettings\n"
        "from scopeworks.evaluate.latents.index import firing\n"
        "real = firing.Pass.do\n"
        "def do(self, stage, part, key, advance):\n"
        "    print(stage, part.number, flush=True)\n"
        "    real(self, stage, part, key, advance)\n"
        "firing.Pass.do = do\n"
        "index(IndexSettings.model_validate_json(sys.argv[1]))\n"
    )
    values = json.dumps({name: str(value) for name, value in given.items()})
    for kill in range(10):
        process = subprocess.Popen([sys.executable, "-c", script, values], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline()  # a part has begun
        time.sleep(0.002 * kill)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert made(given) == whole


def other_sae(folder: Path, change: Callable[[SAE], Any]) -> str:
    """The planted SAE with a change to its tensors or its config."""
    sae = planted.sae()
    sae = change(sae) or sae
    sae.save(folder / "other")
    return str(folder / "other")


def with_config(**changes: Any) -> Callable[[SAE], SAE]:
    """A change of an SAE's config."""

    def change(sae: SAE) -> SAE:
        return SAE(sae.config.model_copy(update=changes), **sae.tensors())

    return change


def test_inputs_that_do_not_belong_together_are_refused(given, found, tmp_path):
    others = {
        "must have rows of resid_post.2, which SAE other reads, got resid_post.3": {
            "sae": other_sae(tmp_path / "a", with_config(site="resid_post.2"))
        },
        r"rows of the model that SAE other was trained on, .*\(beef\)": {
            "sae": other_sae(tmp_path / "b", with_config(model_fingerprint="beef"))
        },
        "tokens must be those whose rows store": {"tokens": other_tokens(found, tmp_path)},
        "no activation store at": {"store": str(tmp_path / "nothing")},
        "no complete token store": {"tokens": str(tmp_path / "nothing")},
        "out must be a folder, got the file": {"out": Path(__file__)},
    }
    for message, changes in others.items():
        with pytest.raises((ValueError, OSError), match=message):
            made(given, **changes)
    assert not given["out"].exists()


def other_tokens(found: planted.Planted, folder: Path) -> str:
    """A token store with the same sequences in another order."""
    old = TokenStore.open(found.tokens)
    new = TokenStore.create(
        folder / "tokens", context=old.context, bos=2, eos=1, pad=0, provenance=old.provenance
    )
    new.write({"train": np.asarray(old.sequences("train"))[::-1]})
    return str(folder / "tokens")


def test_another_model_is_refused(given, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(planted.MODEL, folder)
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] + 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="model must be the one whose rows store"):
        made(given, model=str(folder))
    assert not given["out"].exists()


def test_a_store_without_rows_or_origin_is_refused(given, found, tmp_path):
    empty = shutil.copytree(found.store, tmp_path / "empty")
    shutil.rmtree(Path(empty) / "commits")
    with pytest.raises(ValueError, match="must have rows, got none yet"):
        made(given, store=str(empty))
    planted.write_store(
        planted.Planted(found.tokens, str(tmp_path / "unknown"), found.sae),
        provenance={"model_fingerprint": planted.fingerprint()},
    )
    with pytest.raises(ValueError, match="must say which tokens its rows are of"):
        made(given, store=str(tmp_path / "unknown"))


def test_a_folder_of_another_sae_is_refused(given, tmp_path):
    first = made(given)

    def change(sae: SAE) -> None:
        sae.theta[3] = 0.3

    given["sae"] = other_sae(tmp_path, change)
    with pytest.raises(
        ValueError, match=r"out must be empty or hold this index.*SAE sae with other"
    ):
        made(given)
    assert (given["out"] / NAME).read_bytes() == first[NAME]


def test_a_harvest_that_goes_on_makes_no_other_index(given, monkeypatch, capsys):
    first = made(given, rows=100)
    real = run.StoreFacts
    monkeypatch.setattr(
        run, "StoreFacts", lambda **facts: real.model_validate(facts | {"rows": 10**6})
    )
    capsys.readouterr()
    assert made(given, rows=100) == first
    assert "is complete: it stays as it is" in capsys.readouterr().err


def test_parts_made_on_another_kind_of_device_are_refused(given, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(OSError, match="disk full"):
            made(given)
    real = inputs_module.Inputs.load
    elsewhere = lambda settings: replace(  # noqa: E731
        (found := real(settings)), facts=found.facts | {"device": "cuda"}
    )
    monkeypatch.setattr(inputs_module.Inputs, "load", elsewhere)
    with pytest.raises(ValueError, match=r"hold parts of the same index.*of another device"):
        made(given)


def test_parts_of_another_sae_are_refused(given, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(OSError, match="disk full"):
            made(given)
    places = (given["out"] / "places.json").read_bytes()

    def change(sae: SAE) -> None:
        sae.theta[3] = 0.3

    given["sae"] = other_sae(tmp_path, change)
    with pytest.raises(ValueError, match=r"hold parts of the same index.*of another sae"):
        made(given)
    assert (given["out"] / "places.json").read_bytes() == places


def test_activations_that_are_not_finite_are_refused(given, tmp_path):
    def change(sae: SAE) -> None:
        sae.W_enc[0] = 3e38
        sae.W_enc[1] = 3e38

    with pytest.raises(ValueError, match="activations must be finite"):
        made(given, sae=other_sae(tmp_path, change))


def test_too_little_room_is_told_before(given, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(inputs_module, "free_memory", lambda _: 10**6)
        with pytest.raises(ValueError, match="memory must hold the index's counts"):
            made(given)
    monkeypatch.setattr(run, "free_disk", lambda _: 10**6)
    with pytest.raises(OSError, match="out must be on a disk with about"):
        made(given)
    assert not given["out"].exists()


def test_another_sae_is_compared(given, tmp_path):
    def change(sae: SAE) -> None:
        sae.W_dec.copy_(torch.flip(sae.W_dec, [0]))

    path = other_sae(tmp_path, change)
    files = made(given, compare=(path,))
    there = open_index(given["out"])
    assert there.manifest.others == [OtherFacts(name="other", fingerprint=print_of(path))]
    assert there.page(2)["others"]["other"][0] == [planted.D_SAE - 3, 1]
    assert str(tmp_path).encode() not in files[NAME]

    moved = shutil.copytree(path, tmp_path / "elsewhere" / "moved")
    assert made(given, compare=(str(moved),)) == files
    shutil.rmtree(path)
    other_sae(tmp_path, rolled(1))
    with pytest.raises(ValueError, match=r"other compare: .*; pass another folder"):
        made(given, compare=(path,))
    with pytest.raises(ValueError, match=r"other compare: .*; pass another folder"):
        made(given)


def rolled(by: int) -> Callable[[SAE], None]:
    """A change of an SAE: latents' decoder rows change places."""

    def change(sae: SAE) -> None:
        sae.W_dec.copy_(torch.roll(sae.W_dec, by, 0))

    return change


def test_explanations_of_the_sae_stay_and_another_s_go(given, tmp_path):
    made(given)
    facts = explanations.origin(open_index(given["out"]).manifest)
    told = {"explainer": "llm", "by": "m", "drawn_by": facts, "settings": {}, "twin": {}}
    told |= {"texts": {"2": "fires after def"}, "failed": 0, "nonsense": 0}
    explanations.write_explanations(given["out"], explanations.Explanations.model_validate(told))
    script = explanations.SCRIPT
    (given["out"] / NAME).unlink()
    assert b"fires after def" in made(given)[script]
    (given["out"] / NAME).unlink()
    assert b"fires after def" not in made(given, sae=other_sae(tmp_path, rolled(1)))[script]


def print_of(path: str) -> str:
    return sae_fingerprint(SAE.load(path))


def test_compared_saes_of_one_name_are_told_apart_by_their_tensors(given, tmp_path):
    paths = tuple(other_sae(tmp_path / str(by), rolled(by)) for by in (1, 2))
    settings = IndexSettings.model_validate(given | {"compare": paths})
    names = [other.name for other in inputs_module.compared(settings)]
    assert names == [f"other ({print_of(path)})" for path in paths]
    encoder = shutil.copytree(paths[0], tmp_path / "encoder")
    alone = settings.model_copy(update={"compare": (str(encoder),)})
    assert inputs_module.compared(alone)[0].name == f"encoder ({print_of(paths[0])})"
    twice = settings.model_copy(update={"compare": (*paths, str(encoder))})
    with pytest.raises(ValueError, match=r"compare must be given once, got .*encoder with the"):
        index(twice)


def test_compared_saes_are_read_one_after_another(given, tmp_path, monkeypatch):
    paths = [other_sae(tmp_path / str(by), rolled(by)) for by in (1, 2)]
    held: list[weakref.ref[SAE]] = []

    def read(path: str, settings: IndexSettings) -> SAE:
        assert not any(one() for one in held), "the one before is still there"
        sae = SAE.load(path)
        if path in paths:
            held.append(weakref.ref(sae))
        return sae

    monkeypatch.setattr(inputs_module, "read_sae", read)
    monkeypatch.setattr(run, "read_sae", read)
    index(IndexSettings.model_validate(given | {"compare": tuple(paths)}))
    assert len(held) == 4
