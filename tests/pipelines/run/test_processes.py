"""Runs as processes: killed and run again, and two at once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scopeworks.store.place.files import leftovers
from scopeworks.tests.pipelines.small_suite import files_below, write_suite, write_text

pytestmark = pytest.mark.slow


def begin(path: Path, *more: str) -> subprocess.Popen[str]:
    """`scopeworks run`, begun."""
    command = [sys.executable, "-m", "scopeworks", "run", str(path), *more]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )


def ended(process: subprocess.Popen[str]) -> str:
    """What it printed; it must have ended well."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """The release of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    ended(begin(write_suite(folder)))
    return files_below(folder / "out" / "release")


@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_at_any_moment_ends_in_the_same_release(whole, tmp_path, seed):
    path, moments = write_suite(tmp_path), random.Random(seed)
    kills = 0
    while kills < 4:
        process = begin(path)
        try:
            process.wait(timeout=moments.uniform(2.0, 8.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        if process.returncode == 0:
            break
    ended(begin(path))
    assert files_below(tmp_path / "out" / "release") == whole
    folders = [folder for folder in (tmp_path / "out").rglob("*") if folder.is_dir()]
    assert [left for folder in folders for left in leftovers(folder)] == []
    again = ended(begin(path))
    assert again.count(": before (") == 6


def test_two_runs_at_once_that_share_stores_harvest_once(whole, tmp_path):
    text, common = write_text(tmp_path / "text"), tmp_path / "common"
    head = f'stores = "{common / "stores"}"\ntokens = "{common / "tokens"}"'
    paths = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        paths.append(write_suite(tmp_path / name, text=text, head=head))
    both = [begin(path) for path in paths]
    printed = [ended(process) for process in both]
    for name in ("a", "b"):
        assert files_below(tmp_path / name / "out" / "release") == whole
    stores = [path for path in (common / "stores").iterdir() if (path / "zarr.json").is_file()]
    assert len(stores) == 1
    assert sum("harvest: now" in text for text in printed) >= 1
    assert sum(" rows of mlp_out.1, resid_post.1 in " in text for text in printed) == 1


def test_two_runs_of_one_suite_at_once_end_in_one_release(whole, tmp_path):
    path = write_suite(tmp_path)
    ended(begin(path, "--until", "evaluate"))
    both = [begin(path), begin(path)]
    for process in both:
        ended(process)
    assert files_below(tmp_path / "out" / "release") == whole


def test_a_stopped_run_says_so_and_goes_on(whole, tmp_path):
    path = write_suite(tmp_path)
    process = begin(path, "--set", "train.steps=4000", "--until", "train")
    record = tmp_path / "out" / "steps" / "train.json"
    for _ in range(600):
        if record.is_file():
            break
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert '"state": "stopped"' in record.read_text(encoding="utf-8")
    ended(begin(path))
    assert files_below(tmp_path / "out" / "release") == whole
