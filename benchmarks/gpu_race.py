"""Looks for races between GPU threads: repeats one step from the same state and compares the bits.

Called by gpu.py. The latents' last update was 1,000 updates ago, so a warp that misses the decay of
its part of a row (0.999^1000 = 0.37) leaves different moments. Widths with fewer elements than
threads are included because several threads then load a value that one of them stores.
"""

import sys

import torch
from gpu import WRONG
from gpu_part import Part

from scopeworks.tests.reference.jumprelu_cases import copy_of, gaussian_case
from scopeworks.train.kernels import StepSettings, step

# batch, d, width, θ; 56 to 80 latents of a row fire.
SHAPES = [(1024, 2304, 4096, 0.045), (1024, 3584, 4096, 0.036), (1024, 576, 4096, 0.09),
          (1024, 64, 2048, 0.25)]  # fmt: skip
SETTINGS = StepSettings(lr=1e-3, sparsity=1e-3, bandwidth=1e-2)


def repeats(part: Part, path: str, shape: tuple[int, int, int, float], seconds: float) -> bool:
    """Repeats a step, records how often the result was the same, and returns whether it always
    was."""
    batch, d, width, theta = shape
    state, x = gaussian_case(batch, d, width, theta=theta, device=part.device)
    for _, moment in state.second_moments.items():
        moment.fill_(1e-4)
    state.n_updates = 1000
    first, n, different, l0 = None, 0, 0, 0.0
    end = part.left() - seconds
    most = 3 if part.toy else 1000
    while n < 3 or (part.left() > end and n < most):
        copy = copy_of(state)
        l0 = step(copy, x, x, SETTINGS, path).l0
        tensors = copy.tensors()
        if first is None:
            first = tensors
        different += any(not torch.equal(tensor, first[name]) for name, tensor in tensors.items())
        n += 1
    verdict = "right" if different == 0 else f"WRONG: {different} differ"
    row = {"path": path, "batch": batch, "d": d, "width": width, "l0": f"{l0:.1f}"}
    part.record(row | {"repeats": n, "verdict": verdict, "dtype": "float32"})
    return different == 0


def main() -> None:
    """Runs every shape on both paths, with equal shares of the time."""
    part = Part("race")
    if not part.runs:
        return
    shapes = [(6, 3, 8, 0.1)] if part.toy else SHAPES
    cases = [(path, shape) for shape in shapes for path in ("triton/sparse", "triton/screened")]
    right = [repeats(part, *case, part.left() / (len(cases) - k)) for k, case in enumerate(cases)]
    sys.exit(0 if all(right) else WRONG)


if __name__ == "__main__":
    main()
