"""The time of a training step on a GPU and of its phases, by width, L0, firing rates and path.

Called by gpu.py. Rows are Gaussian with E‖x‖² = 1, weights are unit rows drawn on the device, and
the learning rate is so small that nothing moves. The most informative shapes come first; a shape
that does not fit the memory or the time is skipped. Each phase's share of the step is measured in
separate, slower steps, which wait for the device after every phase:

    find      the encoder's product and the list of active entries
    by_row    the list sorted by rows
    update    gradients and Adam of the latents' parameters
    shared    gradients and Adam of b_dec
    rest      reconstruction, df, the result

The product x @ W_enc alone is timed too, in bfloat16 and float32.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from gpu_part import Part
from step_case import BANDWIDTH, LR, SPARSITY, thresholds

from scopeworks.train.kernels import Parameters, StepSettings, TrainState, step
from scopeworks.train.kernels.triton import backend, dense

BATCH = 4096
SHAPES = [(2304, 2**14), (2304, 2**16), (3584, 2**16), (2304, 2**17), (3584, 2**14), (3584, 2**17),
          (2304, 2**20), (3584, 2**20)]  # fmt: skip
L0S = (60.0, 30.0, 120.0)
PATHS = ("triton/screened", "triton/sparse", "triton/bfloat16", "triton/dense")
# Bytes a parameter of W_enc and W_dec takes: itself, its moment, and W_enc's bfloat16 copy.
STATE_BYTES = 4 + 4 + 1
# The dense step's gradients and its matrices [batch, width].
DENSE_BYTES, PAIR_BYTES = 3 * 4, 6 * 4
# Passing products, lists and rows, and what the allocator cannot use.
SPARE_BYTES = 6e9
SETTINGS = StepSettings(lr=LR, sparsity=SPARSITY, bandwidth=BANDWIDTH)


def random_state(d: int, width: int, device: str) -> TrainState:
    """Unit rows, drawn on the device a slice at a time; the encoder is the decoder's transpose."""
    generator = torch.Generator(device).manual_seed(0)
    W_dec = torch.empty(width, d, device=device)
    for rows in W_dec.split(2**14):
        torch.randn(rows.shape, generator=generator, device=device, out=rows)
        rows.div_(rows.norm(dim=1, keepdim=True))
    zeros = torch.zeros(width, device=device)
    p = Parameters(W_dec.clone().t(), zeros, W_dec, torch.zeros(d, device=device), zeros.clone())
    return TrainState.fresh(p)


def fits(part: Part, d: int, width: int, dense: bool) -> bool:
    """Whether a shape's state (and a dense step of it) fits the memory."""
    need = 2 * d * width * (STATE_BYTES + DENSE_BYTES * dense) + PAIR_BYTES * BATCH * width * dense
    return part.toy or need + SPARE_BYTES < torch.cuda.get_device_properties(0).total_memory


def times(part: Part, run: Callable[[int], object], seconds: float) -> list[float]:
    """Milliseconds of single calls during about so many seconds, after two calls to warm up."""
    for k in range(2):
        run(k)
    end, found = time.monotonic() + seconds, []
    while len(found) < (2 if part.toy else 5) or (time.monotonic() < end and len(found) < 100):
        part.wait()
        start = time.perf_counter()
        run(len(found))
        part.wait()
        found.append((time.perf_counter() - start) * 1e3)
    return found


@contextmanager
def phases(part: Part, path: str) -> Iterator[dict[str, float]]:
    """Collects the milliseconds of the backend's phases during the block."""
    spent: dict[str, float] = {"find": 0.0, "by_row": 0.0, "update": 0.0, "shared": 0.0}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            part.wait()
            start = time.perf_counter()
            result = function(*arguments)
            part.wait()
            spent[name] += (time.perf_counter() - start) * 1e3
            return result

        return run

    kind = path.partition("/")[2]
    places = (
        ("by_row", backend, "list_by_row"),
        ("update", backend, "_update_touched"),
        ("shared", dense, "update_shared"),
    )
    before = [(module, where, getattr(module, where)) for _, module, where in places]
    find = backend.FIND[kind]
    backend.FIND[kind] = timed("find", find)
    for (name, *_), (module, where, function) in zip(places, before, strict=True):
        setattr(module, where, timed(name, function))
    try:
        yield spent
    finally:
        backend.FIND[kind] = find
        for module, where, function in before:
            setattr(module, where, function)


def shares(part: Part, path: str, run: Callable[[int], object]) -> dict[str, str]:
    """Each phase's share of a step."""
    names = ("find", "by_row", "update", "shared", "rest")
    if path == "triton/dense":
        return dict.fromkeys(names, "")
    with phases(part, path) as spent:
        start = time.perf_counter()
        for k in range(1 if part.toy else 5):
            run(k)
        part.wait()
        total = (time.perf_counter() - start) * 1e3
    found = {name: value / total for name, value in spent.items()}
    found["rest"] = 1 - sum(found.values())
    return {name: f"{found[name]:.2f}" for name in names}


def summary(milliseconds: list[float]) -> dict[str, object]:
    """Median, quartiles and number of the times."""
    quartiles = statistics.quantiles(milliseconds, n=4)
    names = ("q1_ms", "median_ms", "q3_ms")
    found = dict(zip(names, (f"{value:.3f}" for value in quartiles), strict=True))
    return {"median_ms": found["median_ms"], "q1_ms": found["q1_ms"], "q3_ms": found["q3_ms"],
            "n_steps": len(milliseconds)}  # fmt: skip


def measure_product(part: Part, state: TrainState, x: torch.Tensor, dtype: torch.dtype) -> None:
    """Times x @ W_enc alone, in slices of latents with 2^28 values of z each."""
    W, rows = state.parameters.W_enc.t(), x.to(dtype)
    each = max(1, 2**28 // len(x))
    weights = [slice_.to(dtype) for slice_ in W.split(each)]

    def run(_: int) -> None:
        for slice_ in weights:
            torch.mm(slice_, rows.t())

    name = f"encoder product {str(dtype).removeprefix('torch.')}"
    shape = {"name": name, "batch": len(x), "d": W.shape[1], "width": W.shape[0]}
    empty = dict.fromkeys(("find", "by_row", "update", "shared", "rest"), "")
    row = shape | {"rates": "", "l0_asked": "", "l0": ""} | summary(times(part, run, part.pause))
    part.record(row | empty | {"peak_gib": "", "dtype": str(dtype).removeprefix("torch.")})


def measure_step(
    part: Part, state: TrainState, batches: list[torch.Tensor], path: str, l0: float, rates: str
) -> None:
    """Times one path of the step at one L0."""
    p = state.parameters
    p.theta.copy_(thresholds(p.d_sae, p.d_in, l0, rates, part.device))
    state.entries_per_row = l0

    def run(k: int) -> Any:
        x = batches[k % len(batches)]
        return step(state, x, x, SETTINGS, path)

    if part.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found = times(part, run, part.pause)
    peak = torch.cuda.max_memory_allocated() / 2**30 if part.device == "cuda" else float("nan")
    seen = run(0).l0
    shape = {"name": path, "batch": len(batches[0]), "d": p.d_in, "width": p.d_sae, "rates": rates}
    row = shape | {"l0_asked": l0, "l0": f"{seen:.1f}"} | summary(found)
    row |= shares(part, path, run)
    part.record(row | {"peak_gib": f"{peak:.2f}", "dtype": "float32"})


def measure_shape(part: Part, d: int, width: int) -> None:
    """Measures everything for one shape; its state is made once."""
    batch = 4 if part.toy else BATCH
    state = random_state(d, width, part.device)
    generator = torch.Generator(part.device).manual_seed(1)
    rows = torch.randn(2, batch, d, generator=generator, device=part.device) / d**0.5
    batches = list(rows)
    for dtype in (torch.bfloat16, torch.float32):
        measure_product(part, state, batches[0], dtype)
    l0s = (2.0,) if part.toy else L0S
    wanted = [(l0, rates, path) for l0 in l0s for rates in ("equal", "lognormal") for path in PATHS]
    for l0, rates, path in wanted:
        what = f"{d} × {width}, L0 {l0:g}, {rates}, {path}"
        dense = path == "triton/dense"
        if dense and (l0, rates) != (l0s[0], "equal"):
            continue  # its time does not depend on them
        if dense and not fits(part, d, width, dense=True):
            part.skip(what, "does not fit the memory")
        elif part.late(what):
            return
        else:
            try:
                measure_step(part, state, batches, path, l0, rates)
            except torch.OutOfMemoryError as error:
                part.skip(what, str(error).split(". ")[0])


def main() -> None:
    """Measures every shape that fits, while there is time."""
    part = Part("steps")
    if not part.runs:
        return
    for d, width in [(4, 8)] if part.toy else SHAPES:
        if not fits(part, d, width, dense=False):
            part.skip(f"{d} × {width}", "does not fit the memory")
        elif part.late(f"{d} × {width}"):
            return
        else:
            measure_shape(part, d, width)
            if part.device == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
