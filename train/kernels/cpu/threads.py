"""Compiles the CPU step's loops and runs them on several threads.

A kernel is a numba function `kernel(block, n_blocks, *arguments)` that works on one block of a
range and writes nothing that another block uses. The threads are plain ones that sleep between
kernels, not numba's own pool: the two OpenMP pools (torch's and numba's) would spin against each
other at every change between a product and a loop, and numba's parallel loops multiply the time to
compile.
"""

import hashlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from ....caches import compiled

Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be reordered into SIMD lanes; NaN and infinity keep their meaning.
FLAGS = {"reassoc", "contract", "nsz", "arcp"}


def jit(function: Function) -> Function:
    """Compiles at the first call, without the GIL, cached on disk; keeps the type for checkers."""
    options = {"nogil": True, "fastmath": FLAGS, "error_model": "numpy"}
    return compiled(version=_version(), **options)(function)


@cache
def _version() -> str:
    """A name made of all sources of the CPU step.

    numba checks only the file of the function itself. Functions of other files are inlined into
    compiled code, which would be used again after those files have changed.
    """
    here = Path(__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))
    return f"scopeworks-{hashlib.sha256(sources).hexdigest()[:12]}"


def blocks_for(n_numbers: int) -> int:
    """Blocks for a loop over n_numbers numbers, 1 … 64.

    Few, because starting one costs about 20 µs; more than there are threads, so that a slow thread
    delays the loop little. A function of the size alone: sums that are kept per block must not
    depend on the machine.
    """
    return max(1, min(64, n_numbers // 2**16))


def run_blocks(kernel: Callable[..., Any], n_blocks: int, *arguments: Any) -> None:
    """Calls kernel(block, n_blocks, *arguments) once for every block, on torch's number of threads.

    Any thread may take any block. Blocks share no output, so results depend neither on that nor on
    the number of threads.
    """
    # next() on itertools.count is atomic under the GIL: the threads draw blocks from it.
    blocks = itertools.count()

    def work() -> None:
        while (block := next(blocks)) < n_blocks:
            kernel(block, n_blocks, *arguments)

    helpers = min(torch.get_num_threads(), n_blocks) - 1
    if helpers < 1:
        work()
        return
    futures = [_pool(helpers).submit(work) for _ in range(helpers)]
    work()
    wait(futures)
    for future in futures:
        future.result()


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    """The helper threads, started once."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="scopeworks-kernel")
