"""What the Triton kernels become on a GPU, found without one: prints a JSON line per kernel.

    python -m scopeworks.tests.reference.triton_compiled --arch 90 --d 3584

Runs real steps with a driver that only compiles, so that every kernel is compiled for just what the
backend hands it: argument types, alignment, warps. Reads registers and stack off the machine code
(a spilled register lives on the stack). The interpreter must be off: TRITON_INTERPRET unset.
"""

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from scopeworks.tests.reference.jumprelu_cases import gaussian_case
from scopeworks.train.kernels import Share, StepSettings
from scopeworks.train.kernels.triton import backend

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
# What the launches would have written and the host reads.
RESULTS = ("length", "row_loss", "row_l0", "fired")
UPDATES = (0, 1, 15, 16)


class CompileOnly:
    """A driver for a GPU that is not there."""

    def __init__(self, arch: int) -> None:
        self.target = GPUTarget("cuda", arch, 32)

    def get_current_target(self) -> GPUTarget:
        """The GPU."""
        return self.target

    def get_current_device(self) -> int:
        """Its number."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """A stream that nothing is sent to."""
        return device


def compile_steps(arch: int, d: int) -> dict[str, list[Any]]:
    """Kernel name → what it was compiled to, a compilation for every kind of arguments.

    The steps' numbers are those after which a run was seen to compile again: 1, 2, 16, 17.
    """
    stand_in: Any = CompileOnly(arch)
    driver.set_active(stand_in)
    compiled: dict[str, dict[int, Any]] = {}
    original = JITFunction.run

    def run(self: Any, *arguments: Any, **options: Any) -> Any:
        options["warmup"] = True
        kernel = original(self, *arguments, **options)
        compiled.setdefault(self.fn.__name__, {})[id(kernel)] = kernel
        for name, value in zip(self.arg_names, arguments, strict=False):
            if name in RESULTS:
                value.zero_()
        return kernel

    JITFunction.run = run
    try:
        for path in ("sparse", "screened", "bfloat16"):
            state, x = gaussian_case(16, d, 256)
            share = Share.whole(256)
            for n_updates in UPDATES:
                state.n_updates = n_updates
                backend.step(state, x, x, StepSettings(lr=1e-3, sparsity=1e-3), share, path)
    finally:
        JITFunction.run = original
    return {name: list(kernels.values()) for name, kernels in compiled.items()}


def usage(cubin: bytes) -> dict[str, int]:
    """Registers and bytes of stack a thread needs."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [TOOLS / "cuobjdump", "-res-usage", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", done.stdout + done.stderr)
    assert found, done
    return {"registers": int(found[1]), "stack_bytes": int(found[2])}


def main() -> None:
    """Compiles and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--arch", type=int, required=True, help="80, 90, 100")
    parser.add_argument("--d", type=int, required=True, help="width of the activations")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, kernels in compile_steps(arguments.arch, arguments.d).items():
        for kernel in kernels:
            row = {
                "kernel": name,
                "warps": kernel.metadata.num_warps,
                "barriers": kernel.asm["ptx"].count("bar.sync"),
                "may_fuse": len(re.findall(r"\bfma\.|\b(?:mul|add)\.f32", kernel.asm["ptx"])),
                "ttir": kernel.asm["ttir"],
            }
            print(json.dumps(row | usage(kernel.asm["cubin"])), flush=True)


if __name__ == "__main__":
    main()
