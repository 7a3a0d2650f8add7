"""Records of steps: the last cut into shares counts, and secrets are in none."""

import json

import pytest

from scopeworks.pipelines.run.records import recorded, records_of
from scopeworks.pipelines.run.runner import command
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.tests.pipelines.small_suite import write_suite
from scopeworks.workers.share import ALL, TaskShare


def test_a_step_that_was_cut_otherwise_before_is_known_by_its_last_cut(tmp_path):
    for index in range(2):
        with (
            pytest.raises(ValueError, match="broken"),
            recorded(tmp_path, "train", TaskShare(index, 4)),
        ):
            raise ValueError("broken")
    for path in (tmp_path / "steps").iterdir():
        old = json.loads(path.read_text()) | {"started": "2020-01-01T00:00:00+00:00"}
        path.write_text(json.dumps(old))
    assert [record.state for record in records_of(tmp_path, "train")] == ["failed", "failed"]
    with recorded(tmp_path, "train", ALL):
        pass
    assert [record.state for record in records_of(tmp_path, "train")] == ["done"]


def test_a_process_that_is_gone_was_stopped(tmp_path):
    with recorded(tmp_path, "train", ALL):
        assert [record.state for record in records_of(tmp_path, "train")] == ["running"]
        path = tmp_path / "steps" / "train.json"
        lost = json.loads(path.read_text()) | {"pid": 2**22 + 1}
        path.write_text(json.dumps(lost))
        assert [record.state for record in records_of(tmp_path, "train")] == ["stopped"]


def test_what_to_type_again_holds_no_storage_option(tmp_path):
    path = write_suite(tmp_path)
    file = SuiteFile(path, ["storage_options.token=hush", "seed=3"])
    assert command(file, "--only", "train") == f"scopeworks run {path} --only train --set=seed=3"
