"""Where a study's documents come from: what is given wins, what is there is not made again."""

from pathlib import Path

import pytest

from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.evaluate.studies.table import study_named
from scopeworks.evaluate.study.study import LackError
from scopeworks.pipelines.studies import runs
from scopeworks.pipelines.studies.gathering import of_saes, of_suite
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.tests.pipelines.small_suite import files_below, write_suite, write_text

GIVEN = {"model": "m", "tokens": "t", "n_sequences": 7}


def test_what_the_user_gives_wins_over_the_study(tmp_path, monkeypatch):
    module = "scopeworks.pipelines.studies.gathering"
    monkeypatch.setattr("scopeworks.evaluate.run.evaluation_of", EvaluateSettings.model_dump)
    monkeypatch.setattr(f"{module}._check_saes", lambda _study, _settings: None)
    found = of_saes(study_named("precision"), ["a", "b"], False, tmp_path, **GIVEN).documents
    assert {one["n_sequences"] for (one,) in found.values()} == {7}
    assert {one["sae_dtype"] for (one,) in found.values()} == {"float32", "bfloat16"}
    with pytest.raises(ValueError, match="--full has no effect on study precision"):
        of_saes(study_named("precision"), ["a", "b"], True, tmp_path, **GIVEN)
    del (own := dict(GIVEN))["n_sequences"]
    found = of_saes(study_named("precision"), ["a", "b"], True, tmp_path, **own).documents
    assert {one["n_sequences"] for (one,) in found.values()} == {2048}


def test_a_study_from_python_writes_what_the_command_does(tmp_path, monkeypatch):
    asked = []

    def gathered(study, file, full):
        asked.append((study.name, file.path, full))
        raise LackError("no SAEs")

    monkeypatch.setattr(runs, "of_suite", gathered)
    path = write_suite(tmp_path)
    for suite in (path, str(path), SuiteFile(path)):
        with pytest.raises(LackError, match="no SAEs"):
            runs.study_suite("frontier", suite, full=True)
    assert asked == [("frontier", path, True)] * 3
    with pytest.raises(ValueError, match="study"):
        runs.study_suite("frontiers", path)


def test_subsets_of_pythons_sources_are_measured_once(tmp_path, monkeypatch):
    sources = sorted(write_text(tmp_path / "stdlib", 12).iterdir())
    for module in ("harvest.text.sources", "pipelines.studies.inputs.subset_text"):
        monkeypatch.setattr(f"scopeworks.{module}.stdlib_sources", lambda: sources)
    path = write_suite(tmp_path, text=Path("python:stdlib"))
    study = study_named("subsets")
    first = of_suite(study, SuiteFile(path), False)
    assert first.made
    points = study.points(first.documents)
    assert {point["subset"] for point in points} == {"docstrings", "comments", "code"}
    before = files_below(tmp_path / "out")
    again = of_suite(study, SuiteFile(path), False)
    assert not again.made and again.documents == first.documents
    after = files_below(tmp_path / "out")
    assert after.pop("digests.json") and before.pop("digests.json")  # what was looked at
    assert after == before
