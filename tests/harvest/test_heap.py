"""Freed memory is kept for the next layer instead of being faulted in again."""

import platform
import subprocess
import sys

import pytest

from scopeworks.harvest import heap

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


def faults(keep: str) -> int:
    """Page faults of twelve temporaries of 50 MB, after twelve others."""
    command = [sys.executable, "-c", FAULTS.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heap")
def test_temporaries_of_a_layer_fault_no_more():
    keep = "from scopeworks.harvest.heap import keep_freed_memory; assert keep_freed_memory()"
    assert faults("") > 12 * 1000
    assert faults(keep) < 1000


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _name: object())
    heap.keep_freed_memory.cache_clear()
    assert not heap.keep_freed_memory()
    heap.keep_freed_memory.cache_clear()
