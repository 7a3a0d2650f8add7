"""One owner a folder: processes that really hold it, are killed, and file systems without locks."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scopeworks.store.place import ownership
from scopeworks.store.place.ownership import owned

HOLD = """
import errno, fcntl, sys, time
from pathlib import Path
from scopeworks.store.place import ownership
if sys.argv[2] == "leased":
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")
    fcntl.flock = no_locks
with ownership.owned(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


class Holder:
    """A process that owns a folder until it is told to end."""

    def __init__(self, folder: Path, kind: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def end(self) -> None:
        """Lets it go the usual way."""
        self.process.communicate()


@pytest.fixture(params=["locked", "leased"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system with locks, and one without."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if request.param == "leased":
        monkeypatch.setattr(fcntl, "flock", no_locks)
        monkeypatch.setattr(ownership, "LEASE_S", 30.0)
        monkeypatch.setattr(ownership, "PATIENCE_S", 0.2)
    monkeypatch.setattr(ownership, "POLL_S", 0.05)
    return request.param


def test_second_is_told_who_owns_the_folder_and_since_when(tmp_path: Path, kind: str):
    holder = Holder(tmp_path / "out", kind)
    try:
        pid = holder.process.pid
        with (
            pytest.raises(
                ValueError, match=rf"process {pid} on .* since 20\d\d-.*owns; add --wait"
            ),
            owned(tmp_path / "out"),
        ):
            pass
    finally:
        holder.end()


def test_second_waits_where_it_is_told_to(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
):
    holder = Holder(tmp_path / "out", kind)
    told = threading.Event()

    def end() -> None:
        told.set()
        holder.end()

    threading.Timer(0.5, end).start()
    with owned(tmp_path / "out", wait=True):
        assert told.is_set()
    assert f"waiting for process {holder.process.pid} on" in capsys.readouterr().err


def test_waiting_has_an_end_where_it_is_given_one(tmp_path: Path, kind: str):
    holder = Holder(tmp_path / "out", kind)
    try:
        text = rf"process {holder.process.pid} on .* still owns after 0\.3 s; .*: end it"
        with (
            pytest.raises(ValueError, match=text),
            owned(tmp_path / "out", wait=True, limit_s=0.3),
        ):
            pass
    finally:
        holder.end()


def test_folder_of_a_killed_owner_is_free(tmp_path: Path, kind: str):
    holder = Holder(tmp_path / "out", kind)
    os.kill(holder.process.pid, signal.SIGKILL)
    holder.process.communicate()
    started = time.monotonic()
    with owned(tmp_path / "out", wait=True):
        assert time.monotonic() - started < ownership.LEASE_S


def test_lease_of_another_machine_ends_with_its_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What a killed owner on another machine left: nobody here can see whether it lives."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(ownership, "LEASE_S", 1.0)
    monkeypatch.setattr(ownership, "PATIENCE_S", 3.0)
    monkeypatch.setattr(ownership, "POLL_S", 0.05)
    with owned(tmp_path):
        left = (tmp_path / ".owner.lease").read_text()
    (tmp_path / ".owner.lease").write_text(left.replace(os.uname().nodename, "elsewhere"))
    with owned(tmp_path):
        assert "elsewhere" not in (tmp_path / ".owner.lease").read_text()


def test_nothing_is_left_behind(tmp_path: Path, kind: str):
    del kind
    with owned(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / ".owner.json").is_file()
    assert list(tmp_path.iterdir()) == []
    with owned(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "work").write_text("kept")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["work"]


def test_file_in_the_place_of_the_folder_is_named(tmp_path: Path):
    (tmp_path / "out").write_text("work")
    with (
        pytest.raises(ValueError, match=r"out must be a folder, got the file .*out"),
        owned(tmp_path / "out"),
    ):
        pass
    with (
        pytest.raises(ValueError, match=r"out must be a folder, got the file .*out"),
        owned(tmp_path / "out" / "inner"),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_named():
    message = "out must be a folder that can be made, got /proc/x/y; choose another place"
    with pytest.raises(FileNotFoundError, match=f"^{message}$"), owned(Path("/proc/x/y")):
        pass


def test_folder_that_may_only_be_read_needs_no_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    with owned(tmp_path):
        assert list(tmp_path.iterdir()) == []
