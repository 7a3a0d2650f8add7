"""What the machine is taken for, and where caches go."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from scopeworks import machine

FAULTS = """
import resource
import torch
{keep}
torch.set_num_threads(1)
for _ in range(12):
    torch.ones(50_000_000 // 4)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(12):
    torch.ones(50_000_000 // 4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture(autouse=True)
def _asked_again():
    machine.cpu_flags.cache_clear()
    machine._private_folder.cache_clear()
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    machine.cpu_flags.cache_clear()
    machine._private_folder.cache_clear()


@pytest.mark.parametrize(
    ("cpuinfo", "dtype"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16\n", "bfloat16"),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", "bfloat16"),
        ("Features\t: fp asimd bf16 i8mm\n", "bfloat16"),
        ("flags\t\t: fpu avx2 avx512f avx_vnni\n", "float32"),
        ("Features\t: fp asimd ebf16\n", "float32"),
        ("flags\t\t: avx512_bf16\n\nflags\t\t: avx2\n", "float32"),
        ("processor\t: 0\n", "float32"),
        (None, "float32"),
    ],
)
def test_good_dtype_follows_the_processors_flags(tmp_path, monkeypatch, cpuinfo, dtype):
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    assert machine.good_dtype("cpu") == dtype
    assert machine.good_dtype("cuda") == "bfloat16"
    assert machine.good_dtype("mps") == "float32"


def test_prepare_keeps_what_the_user_has_set(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    machine.prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    machine.prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("250000 100000", 3),
        ("50000 100000", 1),
        ("9900000 100000", 8),
        ("nonsense", 8),
        (None, 8),
    ],
)
def test_threads_are_no_more_than_the_quota_allows(tmp_path, monkeypatch, quota, cores):
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_bound_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine.prepare()
    assert machine.available_cores() == cores
    assert os.environ.get("OMP_NUM_THREADS") == (str(cores) if cores < 8 else None)


@pytest.fixture
def homeless(tmp_path, monkeypatch) -> Path:
    """A user whose home cannot be, with a temporary folder of their own."""
    (tmp_path / "file").write_text("")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR", *machine._CACHES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path / "tmp" / f"scopeworks-{os.getuid()}"


def test_caches_go_to_a_private_folder_where_the_home_cannot_be_written(homeless, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    machine.prepare()
    assert os.environ["MPLCONFIGDIR"] == str(homeless / "matplotlib")
    assert os.environ["TRITON_CACHE_DIR"] == "/elsewhere"
    assert homeless.stat().st_mode & 0o077 == 0


def test_a_home_that_may_not_be_looked_into_is_no_place(homeless, monkeypatch):
    def refused(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refused)
    machine.prepare()
    assert os.environ["MPLCONFIGDIR"] == str(homeless / "matplotlib")


def test_no_private_folder_is_made_where_none_is_needed(homeless, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    machine.prepare()
    assert machine.compiled()(lambda x: x + 1)(1) == 2
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
    machine.prepare()
    assert "MPLCONFIGDIR" not in os.environ
    assert machine._private_folder() is None


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


def faults(keep: str) -> int:
    """Page faults of twelve temporaries of 50 MB, after twelve others."""
    command = [sys.executable, "-c", FAULTS.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heap")
def test_temporaries_of_a_layer_fault_no_more():
    keep = "from scopeworks.machine import keep_freed_memory; assert keep_freed_memory()"
    assert faults("") > 12 * 1000
    assert faults(keep) < 1000


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _name: object())
    machine.keep_freed_memory.cache_clear()
    assert not machine.keep_freed_memory()
    machine.keep_freed_memory.cache_clear()
