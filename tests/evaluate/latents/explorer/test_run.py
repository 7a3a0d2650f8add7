"""The command: one line with the address, a quiet end, one line for what a user can mend."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from scopeworks.evaluate.latents.explorer.run import serve_indexes
from scopeworks.evaluate.latents.explorer.settings import ServeSettings
from scopeworks.tests.evaluate.latents import made_contents

COMMAND = [sys.executable, "-m", "scopeworks", "latents", "serve"]


def test_an_index_that_cannot_be_served_opens_no_port(tmp_path: Path, monkeypatch):
    def listens(*_: object):
        raise AssertionError("listens before the index is read")

    monkeypatch.setattr("scopeworks.evaluate.latents.explorer.run.listen", listens)
    (tmp_path / "parts").mkdir()
    with pytest.raises(FileNotFoundError, match="must be finished, got none or a part of one"):
        serve_indexes(ServeSettings(index=(tmp_path,)))


def test_settings_bounds():
    with pytest.raises(ValueError, match="port"):
        ServeSettings(index=(Path("a"),), port=65536)
    with pytest.raises(ValueError, match="index"):
        ServeSettings(index=())


@pytest.mark.slow
def test_it_serves_until_ctrl_c_and_ends_quietly(tmp_path: Path):
    made_contents.write(tmp_path / "index", 8)
    process = subprocess.Popen(
        [*COMMAND, str(tmp_path / "index"), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("latents: http://127.0.0.1:") and line.endswith(" (Ctrl-C ends)\n")
        url = line.split()[1]
        with urllib.request.urlopen(f"{url}index/index.json", timeout=30) as answer:
            assert json.load(answer)["sae"]["d_sae"] == 8
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
def test_a_folder_without_an_index_is_one_line_and_exit_2(tmp_path: Path):
    done = subprocess.run([*COMMAND, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: index in ") and done.stderr.count("\n") == 1
