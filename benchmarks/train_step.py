"""The time of one training step: this project's backends, two peers, and the encoder's product.

    python benchmarks/train_step.py                                   both CPU shapes, everything
    python benchmarks/train_step.py --shape 2048x576x8192 --l0 20 60 200 700 --only cpu
    python benchmarks/train_step.py --device cuda                     the GPU shapes

All run in one process on the same rows, weights and thresholds, and so at the same L0. They do the
whole step, with a learning rate too small to move anything. They take turns for `--rounds` rounds,
so that a disturbance of the machine affects all. Rows are Gaussian with E‖x‖² = 1 and the weights
are new, so latents fire about equally often: the sparse step's worst case, since every latent fires
in a batch. Medians and quartiles, of wall-clock time and of the processor time of all threads
(which other processes change less), are printed and appended to benchmarks/results/train_step.csv.
Needs only torch and numpy; an implementation whose package is missing is skipped with a message.
"""

import argparse
import contextlib
import importlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# As the command line does: after a product, OpenMP's threads sleep instead of spinning for
# milliseconds against the loops that follow. Read when torch is loaded; holds for the peers too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from recording import record, surroundings
from step_case import BANDWIDTH, LR, N_BATCHES, SPARSITY, Case, Run, count_active, load_kernels
from step_peers import dictionary_learning, sae_lens
from torch import Tensor

PACKAGES = ("torch", "numba", "triton", "sae-lens", "dictionary-learning")
# rows × d × width
SHAPES = {
    "cpu": ["2048x576x8192", "1024x2304x16384"],
    "cuda": [
        f"4096x{d}x{width}" for d in (2304, 3584) for width in (2**14, 2**16, 2**17)
    ] + ["4096x2304x1048576"],
}  # fmt: skip


def ours(case: Case, backend: str) -> Run:
    """This project's step with a backend, or with one path of it."""
    kernels = load_kernels()
    state = kernels.TrainState.fresh(case.parameters())
    settings = kernels.StepSettings(lr=LR, sparsity=SPARSITY, bandwidth=BANDWIDTH)
    p = state.parameters
    return Run(
        lambda x: kernels.step(state, x, x, settings, backend),
        lambda x: count_active(x, p.W_enc, p.b_enc, p.theta, p.b_dec),
    )


def product(case: Case, dtype: torch.dtype) -> Run:
    """x @ W_enc + b_enc alone; on a CPU by the faster float32 product."""
    p = case.parameters()
    W, bias = p.W_enc.to(dtype), p.b_enc.to(dtype)
    out = torch.empty(case.batch, case.width, dtype=dtype, device=case.device)
    if case.device == "cpu" and dtype == torch.float32:
        encode = importlib.import_module("scopeworks.train.kernels.cpu.encode")
        scope = encode.fast_float32
    else:
        scope = torch.no_grad

    def run(x: Tensor) -> None:
        rows = x.to(dtype)
        with scope():
            torch.addmm(bias, rows, W, out=out)

    return Run(run)


def implementations(device: str) -> dict[str, Callable[[Case], Run]]:
    """Name → function that makes its step, in the order in which they run."""
    kernels = load_kernels()
    table: dict[str, Callable[[Case], Run]] = {
        "encoder product float32": lambda case: product(case, torch.float32),
        "encoder product bfloat16": lambda case: product(case, torch.bfloat16),
    }
    for backend in kernels.available_backends(device):
        table[backend] = lambda case, backend=backend: ours(case, backend)
        module = kernels.backend_module(backend)
        for path in module.PATHS if len(module.PATHS) > 1 else ():
            name = f"{backend}/{path}"
            table[name] = lambda case, name=name: ours(case, name)
    return table | {"sae_lens": sae_lens, "dictionary_learning": dictionary_learning}


@dataclass
class Timing:
    """The times of one implementation's rounds."""

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    l0: float = float("nan")
    peak: int = 0
    """Peak bytes, minus those in use before it was made."""

    def result(self, case: Case) -> dict[str, float]:
        """Quartiles of the step time, the L0 and the peak memory, as recorded."""
        quartiles = statistics.quantiles(self.wall_ms, n=4)
        return {
            "median_ms": quartiles[1],
            "q1_ms": quartiles[0],
            "q3_ms": quartiles[2],
            "min_ms": min(self.wall_ms),
            "cpu_ms": statistics.median(self.cpu_ms),
            "n_steps": len(self.wall_ms),
            "l0": self.l0,
            "peak_bytes_per_parameter": self.peak / (2 * case.d * case.width),
        }


def run_round(case: Case, make: Callable[[Case], Run], seconds: float, timing: Timing) -> None:
    """Sets up an implementation and times its steps for about `seconds`."""
    batches = case.batches()
    before = reset_peak(case.device)
    run = make(case)
    for k in range(3):
        run.step(batches[k % N_BATCHES])
    timing.peak = max(timing.peak, peak_bytes(case.device) - before)
    end, n = time.perf_counter() + seconds, 0
    while n < 5 or (time.perf_counter() < end and n < 200):
        synchronize(case.device)
        start, cpu_start = time.perf_counter(), time.process_time()
        run.step(batches[n % N_BATCHES])
        synchronize(case.device)
        timing.wall_ms.append((time.perf_counter() - start) * 1e3)
        timing.cpu_ms.append((time.process_time() - cpu_start) * 1e3)
        n += 1
    timing.l0 = run.l0(batches[0])


def measure(
    case: Case, makers: Mapping[str, Callable[[Case], Run]], rounds: int, seconds: float
) -> dict[str, Timing]:
    """Name → times of all rounds; an implementation that cannot run is left out, with a message."""
    timings = {name: Timing() for name in makers}
    for _ in range(rounds):
        for name in list(timings):
            try:
                run_round(case, makers[name], seconds / rounds, timings[name])
            except (ImportError, torch.OutOfMemoryError) as error:
                print(f"  {name:28} skipped: {error}".splitlines()[0])
                del timings[name]
    return timings


def synchronize(device: str) -> None:
    """Waits for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def reset_peak(device: str) -> int:
    """Resets the peak of memory and returns the bytes in use now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    # Without Linux's reset the peak is that of the whole process.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes(device)


def peak_bytes(device: str) -> int:
    """The peak since `reset_peak`."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    held = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return held[0] if held else 0


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Every requested shape at every requested L0."""
    for shape in arguments.shape or SHAPES[arguments.device]:
        batch, d, width = (int(part) for part in shape.split("x"))
        for l0 in arguments.l0:
            yield Case(batch, d, width, l0, arguments.device)


def main() -> None:
    """Measures the requested cases, prints a table for each and appends its rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=sorted(SHAPES))
    parser.add_argument("--shape", nargs="*", help="ROWSxDxWIDTH")
    parser.add_argument("--l0", nargs="*", type=float, default=[60.0])
    parser.add_argument("--only", nargs="*", help="names to measure; a prefix will do")
    parser.add_argument("--seconds", type=float, default=4.0, help="time spent on each")
    parser.add_argument("--rounds", type=int, default=3, help="turns each takes in that time")
    arguments = parser.parse_args()
    load_kernels()
    for case in cases(arguments):
        print(f"{case.batch} × {case.d} × {case.width}, L0 {case.l0:g}, {case.device}")
        makers = {
            name: make
            for name, make in implementations(case.device).items()
            if not arguments.only or any(name.startswith(wanted) for wanted in arguments.only)
        }
        timings = measure(case, makers, arguments.rounds, arguments.seconds)
        for name, timing in timings.items():
            result = timing.result(case)
            print(
                f"  {name:28} {result['median_ms']:9.2f} ms  ({result['q1_ms']:.2f} … "
                f"{result['q3_ms']:.2f}, processor {result['cpu_ms']:.1f} ms, "
                f"{result['n_steps']:.0f} steps, L0 {result['l0']:.1f}, "
                f"{result['peak_bytes_per_parameter']:.1f} bytes/parameter at peak)",
                flush=True,
            )
            shape = {"batch": case.batch, "d": case.d, "width": case.width, "l0_asked": case.l0}
            rounded = {key: round(value, 3) for key, value in result.items()}
            dtype = "bfloat16" if name.endswith("bfloat16") else "float32"
            how = {"dtype": dtype, "wait_policy": os.environ["OMP_WAIT_POLICY"]}
            around = surroundings(case.device, PACKAGES)
            record("train_step", {"name": name} | shape | rounded | how | around)


if __name__ == "__main__":
    main()
