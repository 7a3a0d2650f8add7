"""What the machine is taken for."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

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
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    machine.cpu_flags.cache_clear()


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


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (2.5, 3), (0.5, 1), (99.0, 8)])
def test_threads_are_no_more_than_the_quota_allows(monkeypatch, quota, cores):
    monkeypatch.setattr(machine, "core_quota", lambda: quota)
    monkeypatch.setattr(machine, "_bound_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine.prepare()
    assert machine.available_cores() == cores
    assert os.environ.get("OMP_NUM_THREADS") == (str(cores) if cores < 8 else None)


@pytest.mark.parametrize(("n_cuda", "device"), [(0, "cpu"), (2, "cuda")])
def test_auto_is_cuda_where_there_is_one(monkeypatch, n_cuda, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
    assert machine.find_device("auto") == torch.device(device)
    assert machine.find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("n_cuda", [0, 2])
def test_a_named_device_must_be_there(monkeypatch, n_cuda):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
    if n_cuda:
        assert machine.find_device("cuda:1") == torch.device("cuda:1")
    missing = f"cuda:{n_cuda}"
    message = f"^device must be there, got {missing} on a machine with {n_cuda} CUDA devices; use"
    with pytest.raises(ValueError, match=message):
        machine.find_device(missing)
    with pytest.raises(ValueError, match=r"^device must be there, got cpu:1 on a mach"):
        machine.find_device("cpu:1")


@pytest.mark.parametrize(
    "name", ["tpu9", "", "cuda:-1", "cuda:99999999999", "mps", "xpu:3", "meta"]
)
def test_a_device_that_torch_cannot_use_is_one_line(monkeypatch, name):
    if torch.backends.mps.is_available() or torch.xpu.is_available():
        pytest.skip("this machine has such a device")
    message = rf"^device must be auto, cpu or a device that torch can use, got '{name}' \(.+\)$"
    with pytest.raises(ValueError, match=message):
        machine.find_device(name)


@pytest.mark.parametrize(("left", "free"), [(None, 5000), (4000, 4000), (9000, 5000)])
def test_free_memory_is_what_machine_and_groups_leave(monkeypatch, left, free):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=5000))
    monkeypatch.setattr(machine, "memory_left", lambda: left)
    assert machine.free_memory(torch.device("cpu")) == free


def test_free_memory_of_a_gpu_is_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (700 + device.index, 900))
    monkeypatch.setattr(machine, "memory_left", lambda: 1)
    assert machine.free_memory(torch.device("cuda:1")) == 701


def test_free_disk_is_asked_where_a_file_will_be(tmp_path, monkeypatch):
    asked = []
    usage = SimpleNamespace(free=17)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: asked.append(path) or usage)
    monkeypatch.chdir(tmp_path)
    assert machine.free_disk(Path("a/b/c")) == 17
    assert machine.nearest(tmp_path) == tmp_path
    assert asked == [tmp_path]


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


def test_freed_memory_goes_back_where_that_can_be_asked_for(monkeypatch):
    code = (
        "from scopeworks import machine; from pathlib import Path; import sys\n"
        "def held(): return int(Path('/proc/self/statm').read_text().split()[1]) * 4096\n"
        "small = [bytearray(1000) for _ in range(200000)]; kept = small[::5000]; del small\n"
        "before = held(); assert machine.give_back_memory(); print(before - held())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100 * 2**20
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _name: object())
    assert not machine.give_back_memory()


def test_a_failed_allocation_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60)
    assert machine.is_out_of_memory(refused.value)
    assert machine.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not machine.is_out_of_memory(RuntimeError("Connection closed by peer"))
