"""Checks the kernels on a device against float64, with the cases of the test suite.

Called by gpu.py. The cases, the float64 step and the tolerances are those of the tests
(`tests/reference/jumprelu_cases.py`): ties at θ, one row, all latents off, all on, strided rows,
NaN and infinity, trajectories. Three more need a GPU: a float32 product under each of a user's TF32
switches, arrays of more than 2^31 numbers, and sums that a compiler fuses. Exit code 1 if anything
is wrong.
"""

# pyright: reportArgumentType=false
# (kernels are launched through triton.jit, which the checker sees as the plain function)

import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from gpu import WRONG
from gpu_part import Part

from scopeworks.tests.reference import jumprelu_cases as cases
from scopeworks.train.kernels import Parameters, StepSettings, TrainState, step
from scopeworks.train.kernels.screen import row_terms
from scopeworks.train.kernels.triton import entries as kernels
from scopeworks.train.kernels.triton.encode import whole_batch
from scopeworks.train.kernels.triton.lists import make_copy

EXACT = ("triton/dense", "triton/sparse", "triton/screened")
TOY = ("triton/screened",)
WIDE = StepSettings(lr=1e-3, sparsity=0.3, bandwidth=0.5)
# batch, d, d_sae; the last two fill many blocks of rows and groups of latents.
SHAPES = {
    "square": (24, 16, 40),
    "one row": (1, 7, 40),
    "odd": (13, 5, 40),
    "tall": (97, 3, 40),
    "many rows": (1500, 24, 70),
    "wide": (64, 2304, 512),
}
SWITCHES: dict[str, Callable[[], None]] = {
    "precision high": lambda: torch.set_float32_matmul_precision("high"),
    "allow_tf32": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "fp32_precision tf32": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
}
Check = tuple[str, str, Callable[[], None]]


def gradient_checks(part: Part) -> Iterator[Check]:
    """Checks one step from exact numbers: result, gradients, updated state."""
    weight = torch.arange(40, device=part.device) / 7.0
    objectives: dict[str, StepSettings] = {
        "linear": WIDE,
        "quadratic": replace(WIDE, penalty="quadratic", target_l0=3.0, quadratic_coefficient=0.7),
        "weighted": replace(WIDE, latent_weight=weight),
        "log theta": replace(WIDE, theta_form="log"),
    }
    shapes = {"toy": (7, 3, 9)} if part.toy else SHAPES
    for path in paths(part):
        for name, (batch, d, d_sae) in shapes.items():
            for objective, settings in objectives.items():
                if settings.latent_weight is not None and d_sae != len(weight):
                    continue

                def check(b=batch, d=d, n=d_sae, s=settings, path=path) -> None:
                    state, x = cases.grid_case(b, d, n, seed=1, device=part.device)
                    cases.check_step(path, state, x, x, s)

                yield f"gradients, {objective}, {name}", path, check


def paths(part: Part) -> tuple[str, ...]:
    """The paths that compute in float32; a toy run checks only the one with the most kernels."""
    return TOY if part.toy else EXACT


def edge_checks(part: Part) -> Iterator[Check]:
    """Checks all off, all on, strides, bad numbers, a skip transcoder, rounding, trajectories."""
    n = (4, 3, 5) if part.toy else (37, 16, 40)

    def case(seed: int, **how: Any) -> tuple[TrainState, torch.Tensor]:
        return cases.grid_case(*n, seed=seed, device=part.device, **how)

    def dead(path: str) -> None:
        state, x = case(4, theta=1e6)
        before = state.parameters.clone()
        assert step(state, x, x, WIDE, path).l0 == 0
        assert torch.equal(state.parameters.W_enc, before.W_enc)
        assert not torch.equal(state.parameters.b_dec, before.b_dec)

    def alive(path: str) -> None:
        state, x = case(5, theta=0.5)
        state.parameters.b_enc.fill_(64.0)
        cases.check_step(path, state, x, x, WIDE)

    def strided(path: str) -> None:
        state, x = case(3)
        cases.check_strided_rows(path, state, x, x.roll(1, 1), WIDE)

    def skip_transcoder(path: str) -> None:
        state, x = case(2, d_out=6)
        target = x[:, :1] * torch.arange(6, device=part.device)
        cases.check_step(path, state, x, target, replace(WIDE, pre_bias=False))

    def bad(path: str) -> None:
        for number in (float("nan"), float("inf"), -float("inf")):
            state, x = case(1)
            cases.check_bad_row(path, state, x, x.flip(0), number)

    def trajectory(path: str) -> None:
        b, d, d_sae, steps = (8, 3, 4, 8) if part.toy else (128, 12, 48, 300)
        state, x = cases.gaussian_case(b, d, d_sae, seed=2, theta=0.3, device=part.device)
        settings = StepSettings(lr=5e-4, sparsity=2e-3, bandwidth=0.02)
        cases.follow_float64(path, state, list(x.split(b // 4)), settings, steps)

    checks = [dead, alive, strided, skip_transcoder, bad, trajectory]
    for path in paths(part):
        for check in checks:
            yield check.__name__.replace("_", " "), path, lambda c=check, p=path: c(p)

    def rounded() -> None:
        state, x = cases.whole_number_case(*n, device=part.device)
        cases.check_step("triton/bfloat16", state, x, x, replace(WIDE, encoder="bfloat16"))

    yield "exact products", "triton/bfloat16", rounded


def switch_checks(part: Part) -> Iterator[Check]:
    """Checks that each of a user's switches for float32 products gives the same bits."""
    b, d, d_sae = (4, 3, 5) if part.toy else (256, 576, 2048)

    def bits(path: str, switch: Callable[[], None] | None = None) -> dict[str, torch.Tensor]:
        state, x = cases.gaussian_case(b, d, d_sae, theta=0.05, device=part.device)
        try:
            if switch is not None:
                switch()
            for _ in range(2):
                step(state, x, x, StepSettings(lr=1e-2, sparsity=1e-3), path)
        finally:
            torch.set_float32_matmul_precision("highest")
            torch.backends.cuda.matmul.fp32_precision = "none"
        return state.tensors()

    def check(path: str, switch: Callable[[], None]) -> None:
        plain, other = bits(path), bits(path, switch)
        for name, tensor in plain.items():
            assert torch.equal(tensor, other[name]), name

    for path in paths(part):
        for name, switch in SWITCHES.items():
            yield f"bits under {name}", path, lambda p=path, s=switch: check(p, s)


def among_dead(own: Parameters, d_sae: int) -> TrainState:
    """An SAE of the given width whose last latents are the given ones; the others never fire."""
    n, d = own.W_dec.shape
    device = own.W_dec.device
    wide = Parameters(
        W_enc=torch.zeros(d_sae, d, device=device).t(),
        b_enc=torch.zeros(d_sae, device=device),
        W_dec=torch.zeros(d_sae, d, device=device),
        b_dec=own.b_dec.clone(),
        theta=torch.full((d_sae,), 1e6, device=device),
    )
    wide.W_dec[:, 0] = 1.0
    for name in ("b_enc", "W_dec", "theta"):
        getattr(wide, name)[-n:] = getattr(own, name)
    wide.W_enc.t()[-n:] = own.W_enc.t()
    return TrainState.fresh(wide)


def large_checks(part: Part) -> Iterator[Check]:
    """Checks that the last latents of arrays of over 2^31 numbers get the same update as in arrays
    a sixteenth as large.

    In both widths they are all in the last virtual shard, so that sums have the same order.
    """
    d, d_sae, fewer, n = (3, 128, 64, 8) if part.toy else (2304, 2**20, 2**16, 1024)

    def check(path: str) -> None:
        theta = 0.5 if part.toy else 2.0
        given, x = cases.grid_case(8, d, n, seed=6, theta=theta, device=part.device)
        small, large = (among_dead(given.parameters, width) for width in (fewer, d_sae))
        for one in (small, large):
            assert step(one, x, x, WIDE, path).l0 > 1
        p, wanted = large.parameters, small.parameters
        for name in ("W_dec", "b_enc", "theta"):
            assert torch.equal(getattr(p, name)[-n:], getattr(wanted, name)[-n:]), name
        assert torch.equal(p.W_enc.t()[-n:], wanted.W_enc.t()[-n:])
        assert not torch.equal(p.W_enc.t()[-n:], given.parameters.W_enc.t())
        assert torch.equal(p.b_dec, wanted.b_dec)
        assert bool((p.W_enc.t()[:-n] == 0).all())

    for path in paths(part)[-2:]:
        yield f"latents beyond 2^31 numbers, {d_sae} × {d}", path, lambda p=path: check(p)


def border_checks(part: Part) -> Iterator[Check]:
    """Checks that the counting kernel and the writing kernel agree on proposals exactly at the
    bound; with fused sums their bounds would differ in the last bit."""
    shape = (6, 3, 40) if part.toy else (2048, 576, 8192)

    def check() -> None:
        state, x = cases.gaussian_case(*shape, device=part.device)
        copy, x16 = make_copy(state), x.bfloat16()
        product = copy.weights @ x16.t()
        terms, norms = row_terms(x, x16), (copy.rounded_norm, copy.error_norm)
        reach = terms.error * norms[0][:, None]
        reach += terms.norm * norms[1][:, None]
        height = product.float() + reach
        low = height[:, shape[0] // 2].contiguous()  # of each latent, a row that is on the edge
        length = torch.zeros(shape[2], dtype=torch.int64, device=part.device)
        grid, size = (shape[2],), whole_batch(shape[0])
        kernels.count_proposals[grid](product, low, *terms, *norms, length, **size)
        wanted = (height > low[:, None]).nonzero()
        assert torch.equal(length, wanted[:, 0].bincount(minlength=shape[2]))
        rows = torch.full((len(wanted) + 1,), -1, dtype=torch.int32, device=part.device)
        start = length.cumsum(0) - length
        kernels.fill_proposals[grid](product, low, *terms, *norms, start, rows, **size)
        assert torch.equal(rows[:-1].long(), wanted[:, 1]) and int(rows[-1]) == -1

    yield "counted as written", "triton/screened", check


def main() -> None:
    """Runs every check and reports whether it passed."""
    part = Part("correctness")
    wrong = 0
    if not part.runs:
        return
    for checks in (border_checks, gradient_checks, edge_checks, switch_checks, large_checks):
        for name, path, check in checks(part):
            if part.late(f"{name}, {path}"):
                break
            try:
                check()
                verdict = "right"
            except torch.OutOfMemoryError as error:
                part.skip(f"{name}, {path}", str(error).split(". ")[0])
                continue
            except Exception as error:  # a check that fails is a result
                traceback.print_exc()
                verdict = f"WRONG: {type(error).__name__} {error}".strip().split("\n")[0]
                wrong += 1
            part.record({"case": name, "path": path, "verdict": verdict, "dtype": "float32"})
    sys.exit(WRONG if wrong else 0)


if __name__ == "__main__":
    main()
