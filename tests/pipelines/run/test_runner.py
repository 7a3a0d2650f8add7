"""Runs of a small suite: what is done is left alone; what changed is done again, and no more."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scopeworks.console import NotReadyError
from scopeworks.pipelines.cli import app
from scopeworks.pipelines.release.sums import read_sums
from scopeworks.pipelines.run import space
from scopeworks.pipelines.run.records import records_of
from scopeworks.pipelines.run.runner import Outcome, run_suite
from scopeworks.pipelines.run.status import suite_status
from scopeworks.pipelines.run.unused import line, unused
from scopeworks.pipelines.steps.table import STEPS
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.store.place.files import leftovers
from scopeworks.store.place.place import Place
from scopeworks.tests.evaluate.page.study_folder import write_study
from scopeworks.tests.pipelines.small_suite import files_below, suite, write_suite, write_text
from scopeworks.workers.share import TaskShare

ALL = [step.name for step in STEPS if step.name != "latents"]
"""What the small suite asks for."""


def now(outcomes: list[Outcome]) -> list[str]:
    """Steps that were run."""
    return [outcome.step for outcome in outcomes if outcome.done == "now"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a suite that has been run."""
    folder = tmp_path_factory.mktemp("suite")
    assert now(run_suite(suite(folder))) == ALL
    return folder


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """The same in a folder of its own, its suite file and text too."""
    shutil.copytree(finished / "out", tmp_path / "out")
    shutil.copytree(finished / "text", tmp_path / "text")
    write_suite(tmp_path)
    return tmp_path


def test_a_second_run_does_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in (finished / "out").rglob("*")}
    outcomes = run_suite(SuiteFile(finished / "suite.toml"))
    assert [outcome.done for outcome in outcomes] == ["before"] * len(ALL)
    assert {path: path.stat().st_mtime_ns for path in (finished / "out").rglob("*")} == before


def test_keys_hold_no_place_a_copy_elsewhere_is_done(copied):
    assert now(run_suite(copied / "suite.toml")) == []


def test_saes_of_the_very_text_they_are_measured_on_are_called_out(finished, copied, capsys):
    changes = ["harvest.split=held_out", "harvest.rows=2_000", "sae.sparsity=3e-3"]
    run_suite(SuiteFile(copied / "suite.toml", changes), last="evaluate")
    told = {
        path.name: json.loads(path.read_bytes())["saes"][0]["warnings"]
        for path in (copied / "out" / "evaluations").glob("*.json")
    }
    new = told.keys() - {path.name for path in (finished / "out" / "evaluations").iterdir()}
    assert len(new) == 2
    for name, warnings in told.items():
        seen = [text for text in warnings if "trained on the split held_out" in text]
        assert len(seen) == (name in new)
    assert "trained on the split held_out of these tokens" in capsys.readouterr().err


def test_an_added_price_trains_and_evaluates_those_saes_only(copied, capsys):
    before = files_below(copied / "out" / "saes")
    path = write_suite(copied, sparsity=[3e-3, 6e-3, 2e-2])
    assert now(run_suite(SuiteFile(path))) == ["train", "evaluate", "release", "report"]
    after = files_below(copied / "out" / "saes")
    assert {name: data for name, data in after.items() if name in before} == before
    assert len({name.split("/")[0] for name in after.keys() - before.keys()}) == 2
    assert len(list((copied / "out" / "evaluations").glob("*.json"))) == 6
    # What stood there before gives the same release again once the price is gone.
    release = write_suite(copied)
    run_suite(SuiteFile(release))
    assert len(list((copied / "out" / "release").rglob("params.npz"))) == 4


def test_dask_workers_train_the_same_saes(copied):
    from distributed import LocalCluster

    before = files_below(copied / "out" / "saes")
    shutil.rmtree(copied / "out" / "saes")
    local: Any = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    )
    with local:
        file = SuiteFile(copied / "suite.toml", [f"dask={local.scheduler_address}"])
        assert now(run_suite(file)) == ["train"]
    after = files_below(copied / "out" / "saes")
    assert before.keys() == after.keys()
    weights = [name for name in before if name.endswith(".safetensors")]
    assert {name for name in weights if before[name] != after[name]} == set()
    assert len(weights) > 4


def test_a_changed_text_is_tokenized_again_with_all_that_follows(copied):
    tokens = {path.name for path in (copied / "out" / "tokens").iterdir() if path.is_dir()}
    changed = sorted((copied / "text").iterdir())[2]
    changed.write_text(changed.read_text(encoding="utf-8") + "\nmore = 1\n", encoding="utf-8")
    assert now(run_suite(SuiteFile(copied / "suite.toml"))) == ALL
    after = {path.name for path in (copied / "out" / "tokens").iterdir() if path.is_dir()}
    assert tokens < after and len(after) == 2


def test_a_text_that_was_only_touched_is_the_same(copied):
    for path in (copied / "text").iterdir():
        path.touch()
    assert now(run_suite(SuiteFile(copied / "suite.toml"))) == []


@pytest.mark.parametrize("step", ["evaluate", "release", "report"])
def test_what_is_lost_is_made_again_to_the_same_bytes(copied, step):
    out = copied / "out"
    lost = {"evaluate": out / "evaluations", "release": out / "release", "report": out}[step]
    before = files_below(lost)
    pattern = {"evaluate": "*.json", "release": "params.npz", "report": "report.html"}[step]
    next(lost.rglob(pattern)).unlink()
    assert step in now(run_suite(SuiteFile(copied / "suite.toml")))
    names = {name for name in before if not name.startswith(("steps/", "digests"))}
    assert {n: files_below(lost)[n] for n in names} == {n: before[n] for n in names}


def test_a_study_that_is_there_comes_onto_the_page_and_a_changed_one_again(copied):
    out, file = copied / "out", SuiteFile(copied / "suite.toml")
    folder = write_study(out / "studies" / "width")
    (out / "studies" / "begun").mkdir()
    assert now(run_suite(file)) == ["report"]
    assert "Wider is better." in (out / "report.html").read_text(encoding="utf-8")
    assert now(run_suite(file)) == []
    write_study(folder, sentence="Wider is worse.")
    assert now(run_suite(file)) == ["report"]
    shutil.rmtree(out / "studies")
    assert now(run_suite(file)) == ["report"]
    assert "Wider is" not in (out / "report.html").read_text(encoding="utf-8")


def test_from_until_and_only_choose_steps(copied):
    file = SuiteFile(copied / "suite.toml")
    chosen = [outcome.step for outcome in run_suite(file, first="train", last="evaluate")]
    assert chosen == ["train", "evaluate"]
    assert [outcome.step for outcome in run_suite(file, only="report")] == ["report"]
    with pytest.raises(ValueError, match=r"step must be one of tokenize.*did you mean 'harvest'"):
        run_suite(file, only="harvst")
    with pytest.raises(ValueError, match="from must not come after until, got train and harvest"):
        run_suite(file, first="train", last="harvest")
    with pytest.raises(ValueError, match="only must stand alone"):
        run_suite(file, only="train", first="train")
    with pytest.raises(ValueError, match="share must be of one step, got 0/2 for all"):
        run_suite(file, share=TaskShare(0, 2))


def test_a_dry_run_writes_nothing(tmp_path):
    outcomes = run_suite(suite(tmp_path), dry_run=True)
    assert [outcome.done for outcome in outcomes] == ["would run"] * len(ALL)
    assert not (tmp_path / "out").exists()


def test_a_step_whose_inputs_are_not_there_is_not_ready(tmp_path):
    file = suite(tmp_path)
    for step in ALL[1:]:
        with pytest.raises(NotReadyError):
            run_suite(file, only=step)
    assert [record.state for record in records_of(tmp_path / "out", "train")] == ["waiting"]


def test_shares_in_any_order_make_what_one_process_makes(finished, tmp_path):
    path = write_suite(tmp_path)
    shares = {"tokenize": 2, "harvest": 3, "train": 2, "evaluate": 2, "release": 1, "report": 1}
    for step, count in shares.items():
        for index in [*range(1, count), 0, *range(1, count)]:
            try:
                run_suite(SuiteFile(path), only=step, share=TaskShare(index, count))
            except NotReadyError:  # the first one begins the store
                assert step == "harvest" and index > 0
    release = files_below(tmp_path / "out" / "release")
    assert release == files_below(finished / "out" / "release")


def test_two_suites_with_one_folder_of_stores_harvest_a_site_once(tmp_path, capsys):
    text, stores = write_text(tmp_path / "text"), tmp_path / "stores"
    head = f'stores = "{stores}"\ntokens = "{tmp_path / "tokens"}"'
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = SuiteFile(write_suite(tmp_path / "a", text=text, head=head), ["sae.site=mlp_out.1"])
    assert now(run_suite(first, last="harvest")) == ["tokenize", "harvest"]
    second = SuiteFile(write_suite(tmp_path / "b", text=text, head=head))
    assert now(run_suite(second)) == ["harvest", "train", "evaluate", "release", "report"]
    found = sorted(path for path in stores.iterdir() if (path / "zarr.json").is_file())
    assert sorted(p.name for s in found for p in (s / "sites").iterdir() if p.is_dir()) == [
        "mlp_out.1",
        "resid_post.1",
    ]
    alone = SuiteFile(write_suite(tmp_path / "b", out=tmp_path / "c" / "out", text=text))
    run_suite(alone)
    assert files_below(tmp_path / "c" / "out" / "release") == files_below(
        tmp_path / "b" / "out" / "release"
    )


def test_a_site_wanted_later_is_joined_with_those_that_are_there(tmp_path):
    path = write_suite(tmp_path, sparsity=[3e-3])
    early = run_suite(SuiteFile(path, ["sae.site=transcoder_in.1"]), last="harvest")
    assert now(early) == ["tokenize", "harvest"]
    both = ["sae.site=transcoder_in.1", "sae.target_site=mlp_out"]
    run_suite(SuiteFile(path, both))
    stores = [p for p in (tmp_path / "out" / "stores").iterdir() if (p / "zarr.json").is_file()]
    assert len(stores) == 2
    alone = SuiteFile(write_suite(tmp_path, out=tmp_path / "alone", sparsity=[3e-3]), both)
    run_suite(alone)
    assert len([p for p in (tmp_path / "alone" / "stores").iterdir() if p.is_dir()]) == 1
    assert files_below(tmp_path / "alone" / "release") == files_below(tmp_path / "out" / "release")


def test_a_store_is_only_read_where_the_suite_says_so(finished, tmp_path):
    (store,) = (p for p in (finished / "out" / "stores").iterdir() if (p / "zarr.json").is_file())
    (tokens,) = (p for p in (finished / "out" / "tokens").iterdir() if p.is_dir())
    before = files_below(store)
    path = write_suite(tmp_path, head=f'read = ["{store}"]')
    path.write_text(path.read_text().replace("sources", f'store = "{tokens}"\n#'))
    outcomes = run_suite(SuiteFile(path))
    assert now(outcomes) == ["train", "evaluate", "release", "report"]
    assert files_below(store) == before and not (tmp_path / "out" / "stores").exists()


def test_a_folder_of_another_suite_or_of_anything_else_is_refused(copied, tmp_path_factory):
    with pytest.raises(ValueError, match=r"got .*/out of suite small; choose another folder"):
        run_suite(SuiteFile(copied / "suite.toml", ["name=other"]))
    folder = tmp_path_factory.mktemp("other")
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ValueError, match=r"without suite.json; choose another folder"):
        run_suite(suite(folder))
    assert (folder / "out" / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_stores_that_no_suite_refers_to_are_told(finished, copied):
    file, stores = SuiteFile(finished / "suite.toml"), finished / "out" / "stores"
    assert unused([file], Place(str(stores))) == []
    other = SuiteFile(finished / "suite.toml", ["harvest.seed=5"])
    (entry,) = unused([other], Place(str(stores)))
    assert entry.stored_bytes and "mlp_out.1, resid_post.1; 0.00" in line(entry)
    assert unused([file, other], Place(str(stores))) == []
    command = ["status", "--unused", str(finished / "suite.toml"), str(stores)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.output == "0 stores, 0.000 GB, in no suite named here\n"


def test_status_shows_every_step(finished, tmp_path):
    rows = suite_status(SuiteFile(finished / "suite.toml"))
    assert suite_status(finished / "suite.toml") == rows
    assert [row.step for row in rows] == ALL and {row.state for row in rows} == {"done"}
    assert rows[2].done == rows[2].total == 4 and rows[2].unit == "SAEs"
    done = CliRunner().invoke(app, ["status", str(finished / "suite.toml"), "--json"])
    assert json.loads(done.output)["steps"][1]["unit"] == "buckets"
    waiting = suite_status(suite(tmp_path))
    assert {row.state for row in waiting} == {"waiting"}
    assert not (tmp_path / "out").exists()


def release(*arguments: object) -> Any:
    """The command `release`, in this process."""
    command = ["release", *map(str, arguments)]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def test_a_finished_suite_is_released(finished, copied):
    done = release(finished / "suite.toml")
    folder = finished / "out" / "release"
    assert done.output == f"{folder}: {len(read_sums(folder))} files as released\n"
    assert release(folder).output == release(folder.parent).output == done.output
    file = copied / "suite.toml"
    again = rf"must have its release .* make it: scopeworks run {file} --set=evaluate.n_sequences=3"
    with pytest.raises(FileNotFoundError, match=again):
        release(file, "--set", "evaluate.n_sequences=3")
    shutil.rmtree(copied / "out" / "release" / "figures")
    with pytest.raises(FileNotFoundError, match=rf"make it: scopeworks run {file}$"):
        release(file)
    with pytest.raises(FileNotFoundError, match=r"none\.toml does not exist"):
        release(copied / "none.toml")


def test_options_without_effect_on_a_release_are_refused(finished):
    folder = finished / "out" / "release"
    for option in (["--revision", "v2"], ["--private"], ["--public"]):
        with pytest.raises(ValueError, match=r"have no effect without --push"):
            release(folder, *option)
    with pytest.raises(ValueError, match=r"--set and .* have no effect on a folder"):
        release(folder, "--set", "seed=1")


def test_text_without_held_out_documents_is_refused_before_the_harvest(tmp_path):
    with pytest.raises(ValueError, match=r"step tokenize failed: .*must have held-out sequences"):
        run_suite(SuiteFile(write_suite(tmp_path), ["text.held_out=0"]))
    assert not (tmp_path / "out" / "stores").exists()


def test_a_step_that_the_disk_has_no_room_for_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "free_disk", lambda path: 10_000)
    with pytest.raises(ValueError, match=r"step tokenize failed: disk at .* must have room for"):
        run_suite(suite(tmp_path))
    assert not (tmp_path / "out" / "tokens").exists()


def test_a_step_that_fails_says_how_to_try_again_and_is_recorded(copied):
    path = copied / "suite.toml"
    path.write_text(path.read_text().replace("width = 32", "width = 32\ntarget_l0 = 5"))
    text = path.read_text().replace("sparsity = [", "cache_dir = '/x'\nsparsity = [")
    path.write_text(text)
    with pytest.raises(ValueError, match=r"suite .*\[\[sae\]\] 1: cache_dir has no effect"):
        run_suite(SuiteFile(path))
    (text_file, *_) = sorted((copied / "text").iterdir())
    write_suite(copied)
    text_file.write_bytes(b"\xff\xfe\x00 no text")
    with pytest.raises(ValueError, match=r"step tokenize failed: .*; to try again: scopeworks run"):
        run_suite(SuiteFile(path))
    (record,) = records_of(copied / "out", "tokenize")
    assert record.state == "failed" and "UTF" in str(record.error)


def test_nothing_half_written_is_left(finished):
    folders = [path for path in (finished / "out").rglob("*") if path.is_dir()]
    assert [left for folder in folders for left in leftovers(folder)] == []
