"""`scopeworks study` as a user types it: whole studies of a suite of seconds, and bad input."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scopeworks.evaluate.latents.rate.answers import AnswerChange, AnswerFile
from scopeworks.evaluate.latents.rate.session import open_session
from scopeworks.evaluate.saved.study_file import read_minutes, read_reading
from scopeworks.evaluate.study.study import AbsentError, LackError
from scopeworks.pipelines.cli import app
from scopeworks.pipelines.studies import runs
from scopeworks.pipelines.studies.findings import page, write_findings
from scopeworks.pipelines.studies.gathering import GatheredStudy
from scopeworks.tests.evaluate.latents.rate.cases import a_session
from scopeworks.tests.evaluate.studies.documents import evaluation, sae
from scopeworks.tests.pipelines.small_suite import files_below, write_suite


def scopeworks(*words: object) -> tuple[int, str]:
    """Runs the command to its exit code; errors as they are raised."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def studied(tmp_path_factory) -> Path:
    """A folder with a suite of which the frontier was studied."""
    folder = tmp_path_factory.mktemp("studied")
    path = write_suite(folder)
    path.write_text(path.read_text().replace('site = ["resid_post.1", "mlp_out.1"]', RESIDUAL))
    code, text = scopeworks("study", "frontier", path, "--findings", folder / "docs" / "found.md")
    assert code == 0 and "frontier: cannot be told." in text
    return folder


RESIDUAL = 'site = ["resid_post.3"]'


def test_a_study_leaves_points_plots_reading_and_no_path(studied):
    folder = studied / "out" / "studies" / "frontier"
    reading = read_reading(folder)
    assert (reading.model, reading.text) == ("tiny_gemma2", "4 held-out sequences of 64 tokens")
    for plot in reading.plots:
        assert (folder / f"{plot.name}.svg").is_file() and (folder / f"{plot.name}.png").is_file()
    assert str(studied) not in (folder / "reading.json").read_text()
    assert (folder / "points.csv").read_text().count("\n") == 1 + 2 * 24
    assert read_minutes(folder) is not None


def test_a_second_run_makes_nothing_and_writes_the_same(studied):
    before = files_below(studied / "out")
    code, text = scopeworks("study", "frontier", studied / "suite.toml")
    assert code == 0 and ": now" not in text
    assert files_below(studied / "out") == before


def test_the_suite_itself_goes_on_with_what_the_study_made(studied):
    code, text = scopeworks("run", studied / "suite.toml", "--until", "train")
    assert code == 0 and "train: before (2 of 2 SAEs" in text


def test_findings_name_the_command_and_show_the_figures(studied):
    text = (studied / "docs" / "found.md").read_text()
    assert "| 2, 13, 14, 17, 18 | `scopeworks study frontier" in text
    assert "Model: tiny_gemma2. Text: 4 held-out sequences of 64 tokens." in text
    assert "(figures/frontier-fvu-sites.svg)" in text
    assert (studied / "docs" / "figures" / "frontier-fvu-sites.svg").is_file()
    assert str(studied / "out") not in text


def test_findings_written_again_remove_figures_of_the_old_page_and_no_others(studied, tmp_path):
    page, figures = tmp_path / "found.md", tmp_path / "figures"
    figures.mkdir()
    page.write_text("![gone](figures/frontier-gone.svg) ![mine](figures/mine.svg)\n")
    for name in ("frontier-gone.svg", "frontier-of-my-own.svg", "mine.svg"):
        (figures / name).write_text("<svg/>")
    write_findings(page, studied / "out", "suite.toml")
    left = {path.name for path in figures.glob("*.svg")}
    assert {"frontier-of-my-own.svg", "mine.svg", "frontier-fvu-sites.svg"} <= left
    assert "frontier-gone.svg" not in left


def test_findings_name_models_once_and_no_machine(studied):
    reading = read_reading(studied / "out" / "studies" / "frontier")
    both = reading.model_copy(update={"model": "tiny_gemma2_it, tiny_gemma2"})
    text = page({"frontier": reading, "transfer": both}, {"frontier": 0.02}, "s.toml", "f.md")
    assert "Model: tiny_gemma2, tiny_gemma2_it. Text: 4 held-out sequences of 64 tokens." in text
    assert "| frontier | under 0.1 |" in text and "two cores" not in text


def test_list_says_what_was_found(studied):
    _, text = scopeworks("study", "list")
    assert "frontier" in text and "found" not in text
    _, text = scopeworks("study", "list", studied / "suite.toml")
    (line,) = [line for line in text.splitlines() if line.startswith("frontier")]
    assert "cannot be told" in line


def test_saes_that_are_there_are_studied(studied, tmp_path, monkeypatch):
    saes = sorted((studied / "out" / "saes").glob("resid_post.3-width_32-*"))
    (tokens,) = [path for path in (studied / "out" / "tokens").iterdir() if path.is_dir()]
    given = [word for path in saes for word in ("--sae", path)]
    given += ["--model", "pipelines/tiny_gemma2", "--tokens", tokens, "--out", tmp_path]
    code, text = scopeworks("study", "frontier", *given, "--n-sequences", 2)
    assert code == 0 and "frontier: cannot be told." in text
    assert read_reading(tmp_path / "studies" / "frontier").text.startswith("2 held-out sequences")
    shutil.rmtree(tmp_path / "studies")
    with pytest.raises(ValueError, match="--full has no effect on study frontier of these SAEs"):
        scopeworks("study", "frontier", *given, "--full")
    monkeypatch.setattr("scopeworks.evaluate.run.evaluation_of", None)  # is not come to
    with pytest.raises(LackError, match="make them: scopeworks sweep --store STORE --site resid"):
        scopeworks("study", "frontier", *given[2:], "--n-sequences", 2)
    assert not (tmp_path / "studies").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "precision",
            r"two SAEs or more, got 1; give \[\[sae\]\] of suite .*--set 'sae.sparsity=\[",
        ),
        ("frontier", r"SAEs of two λs or more at one site and width, got one at each of \d+; give"),
        ("importance", r"SAEs of two λs or more at one site and width, got one at each of 3; give"),
    ],
)
def test_too_few_saes_are_refused_before_anything_is_run(tmp_path, name, message):
    path = write_suite(tmp_path, sparsity=3e-3)
    path.write_text(path.read_text().replace('site = ["resid_post.1", "mlp_out.1"]', RESIDUAL))
    with pytest.raises(LackError, match=message):
        scopeworks("study", name, path)
    assert not (tmp_path / "out").exists()


def test_a_suite_with_wanted_l0s_is_told_to_want_more(tmp_path):
    path = write_suite(tmp_path, sparsity=3e-3)
    path.write_text(path.read_text().replace("sparsity = 0.003", "target_l0 = 6.0"))
    with pytest.raises(LackError, match=r"--set 'sae.target_l0=\["):
        scopeworks("study", "frontier", path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frontir", "demo"], "study must be one of .*did you mean 'frontier'"),
        (["frontier"], "study must be given a suite, or SAEs with --sae, and not both"),
        (["frontier", "demo", "--sae", "x"], "study must be given a suite, or SAEs with --sae"),
        (["frontier", "demo", "--model", "m"], "--model has no effect without --sae"),
        (["frontier", "--sae", "x", "--model", "m"], "--tokens must be given with --sae"),
        (["all", "--sae", "x"], "study must be one with --sae, got all"),
        (["frontier", "--sae", "x", "--findings", "f"], "--set and --findings have no effect"),
        (["list", "--sae", "x", "--model", "m"], "got --sae, --model, which would have no effect"),
        (["list", "demo", "--full", "--findings", "f"], "got --full, --findings, which would have"),
        (["list", "--set", "out=x"], "got --set, which would have no effect"),
        (["frontier", "demo", "--model", "m", "--site", "s"], "--model, --site have no effect"),
        (["frontier", "demo", "--ratings", "r"], "--ratings has no effect on study frontier"),
        (["ratings", "--ratings", "r"], "must be given with --out and nothing else, got no --out"),
        (
            ["ratings", "--ratings", "r", "--out", "o", "--model", "m", "--full"],
            "must be given with --out and nothing else, got --full, --model",
        ),
        (["ratings", "--ratings", "r", "--out", "o", "--set", "a=1"], "nothing else, got --set"),
        (["simulation", "demo", "--index", "i"], "--index has an effect on study simulation wit"),
        (["frontier", "--index", "i"], "--index has an effect on study simulation without a su"),
        (["simulation", "--index", "i"], "--index without a suite must be given with --out and"),
        (["simulation", "--index", "i", "--out", "o"], "index must be a folder that"),
        (["all", "--ratings", "r"], "study must be given a suite, or SAEs with --sae"),
        (["frontier", "demoo"], "suite demoo does not exist; did you mean 'demo'"),
        (["frontier", "demo", "--set", "sae.widht=3"], "unknown setting 'widht'"),
        (["frontier", "demo", "--findings", "docs"], "findings must be a file, got the folder"),
    ],
)
def test_bad_input_is_one_line(words, message):
    with pytest.raises((ValueError, OSError), match=message):
        scopeworks("study", *words)


def test_findings_are_written_over_no_other_page(tmp_path):
    page = tmp_path / "found.md"
    page.write_text("# My findings")
    with pytest.raises(ValueError, match="findings must be a new file or a page of findings to"):
        scopeworks("study", "frontier", write_suite(tmp_path), "--findings", page)
    assert page.read_text() == "# My findings" and not (tmp_path / "out").exists()


def test_ratings_are_studied_with_a_suite_and_without(tmp_path):
    folder = tmp_path / "said"
    session = open_session(folder, a_session(n=8))
    ada = AnswerFile(folder / "ada.jsonl", session.items)
    for number, item in session.items.items():
        ada.add(AnswerChange(item=number, answer="no" if item.sae else "yes"))
    code, text = scopeworks("study", "ratings", "--ratings", folder, "--out", tmp_path / "own")
    assert code == 0 and "ratings: does not hold. Latents that people find clear" in text
    reading = read_reading(tmp_path / "own" / "studies" / "ratings")
    assert (reading.model, reading.text) == ("tiny_model", "latents rated by 1 person")
    path = write_suite(tmp_path)
    with pytest.raises(LackError, match=r"by people, got none in .*/out/ratings; rate"):
        scopeworks("study", "ratings", path)
    shutil.copytree(folder, tmp_path / "out" / "ratings")
    code, text = scopeworks("study", "ratings", path)
    assert code == 0 and read_reading(tmp_path / "out" / "studies" / "ratings") == reading
    with pytest.raises(FileNotFoundError, match="make it: scopeworks latents rate"):
        scopeworks("study", "ratings", path, "--ratings", tmp_path)


def test_without_matplotlib_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"matplotlib, which cannot be imported .*install it"):
        scopeworks("study", "frontier", write_suite(tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_study_that_fails_does_not_keep_the_others_from_being_run(tmp_path, monkeypatch, capsys):
    good, lacking = (runs.STUDIES[0], fails_as("lacking"))
    monkeypatch.setattr(runs, "STUDIES", (lacking, good))
    saes = [sae(l0=l0, delta_loss=1 / l0) for l0 in (10.0, 20.0)]
    failed = runs.run_all(
        tmp_path, lambda _study: GatheredStudy({"v": [evaluation(*saes)]}, made=True)
    )
    assert failed == {"lacking": "study lacking must have SAEs of two widths"}
    assert [path.name for path in (tmp_path / "studies").iterdir()] == [good.name]
    assert json.loads((tmp_path / "studies" / good.name / "timing.json").read_text())["minutes"] < 5
    assert "lacking: failed: study lacking must have" in capsys.readouterr().out


def test_what_people_have_not_done_is_left_out_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "STUDIES", (fails_as("lacking", AbsentError),))
    found = GatheredStudy({"v": [evaluation(sae())]}, made=True)
    assert runs.run_all(tmp_path, lambda _study: found) == {}
    assert "lacking: left out: study lacking must have SAEs" in capsys.readouterr().out


def fails_as(name: str, kind: type[LackError] = LackError):
    """A study that lacks SAEs."""
    import dataclasses

    def points(_documents):
        raise kind(f"study {name} must have SAEs of two widths")

    return dataclasses.replace(runs.STUDIES[0], name=name, points=points)
