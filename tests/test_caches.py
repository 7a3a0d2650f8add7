"""Where caches go on machines that have no place for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scopeworks import caches


@pytest.fixture(autouse=True)
def _asked_again():
    caches._private_folder.cache_clear()
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    caches._private_folder.cache_clear()


@pytest.fixture
def homeless(tmp_path, monkeypatch) -> Path:
    """A user whose home cannot be, with a temporary folder of their own."""
    (tmp_path / "file").write_text("")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR", *caches._CACHES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path / "tmp" / f"scopeworks-{os.getuid()}"


def test_caches_go_to_a_private_folder_where_the_home_cannot_be_written(homeless, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    caches.place_caches()
    assert os.environ["MPLCONFIGDIR"] == str(homeless / "matplotlib")
    assert os.environ["TRITON_CACHE_DIR"] == "/elsewhere"
    assert homeless.stat().st_mode & 0o077 == 0


def test_a_home_that_may_not_be_looked_into_is_no_place(homeless, monkeypatch):
    def refused(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refused)
    caches.place_caches()
    assert os.environ["MPLCONFIGDIR"] == str(homeless / "matplotlib")


def test_no_private_folder_is_made_where_none_is_needed(homeless, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    caches.place_caches()
    assert caches.compiled()(lambda x: x + 1)(1) == 2
    assert not homeless.exists()
    assert "MPLCONFIGDIR" not in os.environ


@pytest.mark.parametrize("kind", ["writable by others", "a link", "a file"])
def test_a_folder_that_others_could_write_to_is_no_place_for_code(homeless, tmp_path, kind):
    if kind == "a file":
        homeless.write_text("")
    elif kind == "a link":
        (tmp_path / "theirs").mkdir()
        homeless.symlink_to(tmp_path / "theirs")
    else:
        homeless.mkdir()
        homeless.chmod(0o777)
    caches.place_caches()
    assert "MPLCONFIGDIR" not in os.environ
    assert caches._private_folder() is None


SUMS = """
import numpy as np, os
from numba.core.caching import _CacheLocator
plain, allowed = _CacheLocator.ensure_cache_path, os.environ["ALLOWED"]
def ensure(self):
    if not self.get_cache_path().startswith(allowed):
        raise OSError(30, "Read-only file system")
    plain(self)
_CacheLocator.ensure_cache_path = ensure
{more}
from scopeworks.store.format import sums as sums_module
from scopeworks.train.kernels.cpu.threads import jit
sums = np.zeros((1, 2, 3))
sums_module._sum_float32(np.ones((2, 3), np.float32), sums)
assert sums.tolist() == [[[2, 2, 2], [2, 2, 2]]]
assert jit(lambda x: x + 1)(1) == 2
"""
FULL_DISK = """
import scopeworks.store.format.values, tempfile
from numba.core import caching
def full(*_): raise OSError(28, "No space left on device")
caching.IndexDataCacheFile.save = caching.IndexDataCacheFile.load = full
"""


@pytest.mark.parametrize(("allowed", "more"), [("tmp", ""), ("nowhere", ""), ("tmp", FULL_DISK)])
def test_code_is_compiled_where_no_cache_can_be_kept(homeless, allowed, more):
    place = homeless.parent if allowed == "tmp" else homeless / "nowhere"
    done = subprocess.run(
        [sys.executable, "-c", SUMS.format(more=more)],
        env=os.environ | {"ALLOWED": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    kept = list(homeless.glob("numba/**/*.nbi"))
    assert bool(kept) == (allowed == "tmp" and not more)


RENAMED = """
import sys
from pathlib import Path
from collections import namedtuple

from scopeworks.caches import compiled

NAME = namedtuple("NAME", "x")


@compiled()
def double(value):
    return NAME(value.x * 2)


assert double(NAME(21)).x == 42
print(sum(double.stats.cache_hits.values()))
"""


def test_code_that_was_cached_by_another_version_is_compiled_again(tmp_path):
    """The class that its signature names has another name now: numba cannot read its own index."""

    def run(name: str) -> str:
        path = tmp_path / "module.py"
        path.write_text(RENAMED.replace("NAME", name))
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import module"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert [run("Before"), run("Before")] == ["0", "1"]
    assert [run("Behind"), run("Behind")] == ["0", "1"]


def test_a_cache_that_is_cut_short_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))

    def calls() -> int:
        function = caches.compiled()(_increment)
        assert function(1) == 2
        return sum(function.stats.cache_hits.values())  # pyright: ignore[reportFunctionMemberAccess]

    assert [calls(), calls()] == [0, 1]
    for path in tmp_path.rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:-9])
    assert [calls(), calls()] == [0, 1]


def _increment(x):
    return x + 1
