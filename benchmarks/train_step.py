"""How long one training step takes: this project's backends, two peers, and the encoder's product.

    python benchmarks/train_step.py                                   both CPU shapes, everything
    python benchmarks/train_step.py --shape 2048x576x8192 --l0 20 60 200 700 --only cpu
    python benchmarks/train_step.py --device cuda                     the GPU shapes

All run in one process on the same rows, the same initial weights and thresholds, hence the same L0,
and update their parameters at every step. Rows are Gaussian with E‖x‖² = 1, the weights fresh: the
latents fire about equally often, which is the sparse step's worst case (no latent is untouched).
Rows of medians and quartiles are printed and appended to benchmarks/results/train_step.csv. Needs
torch and numpy only; what else is missing is skipped with a line that says so. Beside the
wall-clock time stands the processor time of all threads, which a busy machine disturbs less.
"""

import argparse
import contextlib
import csv
import datetime
import importlib
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# As the command line does: after a product, OpenMP's threads sleep instead of spinning for
# milliseconds against the loops that follow. Read when torch is loaded; holds for the peers too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "train_step.csv"
# rows × d × width
SHAPES = {
    "cpu": ["2048x576x8192", "1024x2304x16384"],
    "cuda": [
        f"4096x{d}x{width}" for d in (2304, 3584) for width in (2**14, 2**16, 2**17)
    ] + ["4096x2304x1048576"],
}  # fmt: skip
N_BATCHES = 4
# lr is that of the first steps of the report's warm-up: the L0 stays near the one asked for.
LR, SPARSITY, BANDWIDTH = 7e-6, 1e-3, 1e-3


@dataclass(frozen=True)
class Run:
    """One implementation set up for a case: a step on a batch, and its L0 (outside the timing)."""

    step: Callable[[Tensor], object]
    l0: Callable[[Tensor], float] = lambda _: float("nan")


def count_active(x: Tensor, W: Tensor, bias: Tensor, theta: Tensor, b_dec: Tensor) -> float:
    """The mean L0 of some rows under some parameters."""
    rows = x[:256]
    with torch.no_grad():
        return float(((rows - b_dec) @ W + bias > theta).sum()) / rows.shape[0]


@dataclass(frozen=True)
class Case:
    """One shape at one L0 on one device."""

    batch: int
    d: int
    width: int
    l0: float
    device: str

    def batches(self) -> list[Tensor]:
        """The rows all implementations see."""
        generator = torch.Generator().manual_seed(1)
        rows = torch.randn(N_BATCHES, self.batch, self.d, generator=generator) / self.d**0.5
        return list(rows.to(self.device))

    def parameters(self):
        """Fresh weights, with the threshold that makes the first batch fire `l0` latents a row."""
        kernels = load_kernels()
        p = kernels.initial_parameters(self.d, self.d, self.width, 1.0, 0, device=self.device)
        z = (self.batches()[0][:256] @ p.W_enc).flatten()
        rank = round(self.l0 * min(256, self.batch))
        p.theta.fill_(float(torch.topk(z, rank + 1).values[-1]))
        return p


def load_kernels() -> types.ModuleType:
    """The kernels of this checkout, installed or not."""
    if importlib.util.find_spec("scopeworks") is None:
        spec = importlib.util.spec_from_file_location(
            "scopeworks", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules["scopeworks"] = package
        spec.loader.exec_module(package)
    return importlib.import_module("scopeworks.train.kernels")


def ours(case: Case, backend: str) -> Run:
    """This project's step by a backend, or a path of one."""
    kernels = load_kernels()
    state = kernels.TrainState.fresh(case.parameters())
    settings = kernels.StepSettings(lr=LR, sparsity=SPARSITY, bandwidth=BANDWIDTH)
    p = state.parameters
    return Run(
        lambda x: kernels.step(state, x, x, settings, backend),
        lambda x: count_active(x, p.W_enc, p.b_enc, p.theta, p.b_dec),
    )


def product(case: Case, dtype: torch.dtype) -> Run:
    """x @ W_enc + b_enc alone, by the faster float32 product on a CPU."""
    p = case.parameters()
    W, bias = p.W_enc.to(dtype), p.b_enc.to(dtype)
    out = torch.empty(case.batch, case.width, dtype=dtype, device=case.device)
    if case.device == "cpu" and dtype == torch.float32:
        encode = importlib.import_module("scopeworks.train.kernels.cpu_encode")
        scope = encode.fast_float32
    else:
        scope = torch.no_grad

    def run(x: Tensor) -> None:
        rows = x.to(dtype)
        with scope():
            torch.addmm(bias, rows, W, out=out)

    return Run(run)


def sae_lens(case: Case) -> Run:
    """SAELens: JumpReLUTrainingSAE and its trainer's `step`, with the report's β1, λ and ε."""
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    p = case.parameters()
    sae = JumpReLUTrainingSAE(
        JumpReLUTrainingSAEConfig(
            d_in=case.d,
            d_sae=case.width,
            device=case.device,
            jumprelu_init_threshold=float(p.theta[0]),
            jumprelu_bandwidth=BANDWIDTH,
            l0_coefficient=SPARSITY,
            apply_b_dec_to_input=True,
        )
    )
    sae.W_enc.data.copy_(p.W_enc)
    sae.W_dec.data.copy_(p.W_dec)
    config = SAETrainerConfig(
        total_training_samples=10**9,
        train_batch_size_samples=case.batch,
        lr=LR,
        lr_end=LR,
        adam_beta1=0.0,
        device=case.device,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(config, sae, iter([]))

    def run(x: Tensor) -> None:
        trainer.step(x)
        trainer.n_training_steps += 1

    def l0(x: Tensor) -> float:
        return count_active(x, sae.W_enc, sae.b_enc, sae.threshold, sae.b_dec)

    return Run(run, l0)


def dictionary_learning(case: Case) -> Run:
    """dictionary_learning's JumpReluTrainer.update; its buffer's nnsight is not needed here."""
    if "nnsight" not in sys.modules and importlib.util.find_spec("nnsight") is None:
        stand_in = types.ModuleType("nnsight")
        stand_in.__dict__["LanguageModel"] = object
        sys.modules.setdefault("nnsight", stand_in)
    module = importlib.import_module("dictionary_learning.trainers.jumprelu")
    p = case.parameters()
    trainer = module.JumpReluTrainer(
        steps=10**6,
        activation_dim=case.d,
        dict_size=case.width,
        layer=0,
        lm_name="none",
        lr=LR,
        bandwidth=BANDWIDTH,
        sparsity_penalty=SPARSITY,
        target_l0=case.l0,
        device=case.device,
    )
    trainer.ae.W_enc.data.copy_(p.W_enc)
    trainer.ae.W_dec.data.copy_(p.W_dec)
    trainer.ae.threshold.data.copy_(p.theta)
    steps = iter(range(10**6))

    def l0(x: Tensor) -> float:
        ae = trainer.ae
        return count_active(x, ae.W_enc, ae.b_enc, ae.threshold, torch.zeros_like(ae.b_dec))

    return Run(lambda x: trainer.update(next(steps), x), l0)


def implementations(device: str) -> dict[str, Callable[[Case], Run]]:
    """Name → what makes its step, in the order they run."""
    kernels = load_kernels()
    table: dict[str, Callable[[Case], Run]] = {
        "encoder product float32": lambda case: product(case, torch.float32),
        "encoder product bfloat16": lambda case: product(case, torch.bfloat16),
    }
    for backend in kernels.available_backends(device):
        table[backend] = lambda case, backend=backend: ours(case, backend)
        module = importlib.import_module(f"scopeworks.train.kernels.{backend}")
        for path in module.PATHS if len(module.PATHS) > 1 else ():
            name = f"{backend}/{path}"
            table[name] = lambda case, name=name: ours(case, name)
    return table | {"sae_lens": sae_lens, "dictionary_learning": dictionary_learning}


def measure(case: Case, make: Callable[[Case], Run], seconds: float) -> dict[str, float]:
    """Quartiles of the step time in ms over about `seconds`, the L0, and the peak memory."""
    batches = case.batches()
    before = reset_peak(case.device)
    run = make(case)
    for k in range(3):
        run.step(batches[k % N_BATCHES])
    peak = peak_bytes(case.device) - before
    times, cpu_times = [], []
    end = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 200):
        synchronize(case.device)
        start, cpu_start = time.perf_counter(), time.process_time()
        run.step(batches[len(times) % N_BATCHES])
        synchronize(case.device)
        times.append((time.perf_counter() - start) * 1e3)
        cpu_times.append((time.process_time() - cpu_start) * 1e3)
    quartiles = statistics.quantiles(times, n=4)
    return {
        "median_ms": quartiles[1],
        "q1_ms": quartiles[0],
        "q3_ms": quartiles[2],
        "min_ms": min(times),
        "cpu_ms": statistics.median(cpu_times),
        "n_steps": len(times),
        "l0": run.l0(batches[0]),
        "peak_bytes_per_parameter": peak / (2 * case.d * case.width),
    }


def synchronize(device: str) -> None:
    """Waits for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def reset_peak(device: str) -> int:
    """Starts a new peak of memory and returns the bytes in use now."""
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


def surroundings(device: str) -> dict[str, str]:
    """What a figure depends on besides the code."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    names = ("torch", "numba", "triton", "sae-lens")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {importlib.import_module('importlib.metadata').version(name)}")
        except ImportError:
            continue
    chip = torch.cuda.get_device_name() if device == "cuda" else processor()
    return {
        "device": f"{chip}, {torch.get_num_threads()} threads" if device == "cpu" else chip,
        "wait_policy": os.environ["OMP_WAIT_POLICY"],
        "load": f"{os.getloadavg()[0]:.1f}",
        "versions": ", ".join([*versions, f"python {platform.python_version()}"]),
        "commit": commit or "none",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Every shape at every L0 asked for."""
    for shape in arguments.shape or SHAPES[arguments.device]:
        batch, d, width = (int(part) for part in shape.split("x"))
        for l0 in arguments.l0:
            yield Case(batch, d, width, l0, arguments.device)


def record(row: Mapping[str, object]) -> None:
    """Appends a row to the results."""
    RESULTS.parent.mkdir(exist_ok=True)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    """Measures what was asked for, prints a table per case and appends its rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=sorted(SHAPES))
    parser.add_argument("--shape", nargs="*", help="ROWSxDxWIDTH")
    parser.add_argument("--l0", nargs="*", type=float, default=[60.0])
    parser.add_argument("--only", nargs="*", help="names to measure; a prefix will do")
    parser.add_argument("--seconds", type=float, default=4.0, help="time spent on each")
    arguments = parser.parse_args()
    load_kernels()
    for case in cases(arguments):
        print(f"{case.batch} × {case.d} × {case.width}, L0 {case.l0:g}, {case.device}")
        for name, make in implementations(case.device).items():
            if arguments.only and not any(name.startswith(wanted) for wanted in arguments.only):
                continue
            try:
                result = measure(case, make, arguments.seconds)
            except (ImportError, torch.OutOfMemoryError) as error:
                print(f"  {name:28} skipped: {error}".splitlines()[0])
                continue
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
            around = surroundings(case.device)
            record({"name": name} | shape | rounded | {"dtype": dtype} | around)


if __name__ == "__main__":
    main()
