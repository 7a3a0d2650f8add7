"""A step's products are exact whatever the process has set, and the process finds its own again."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from scopeworks.tests.reference.jumprelu_cases import gaussian_case
from scopeworks.train import kernels
from scopeworks.train.kernels import StepSettings, available_backends, step
from scopeworks.train.kernels.precision import exact_products, float32_sums, products

CUDA: Any = torch.backends.cuda.matmul
EVERYWHERE: Any = torch.backends
CPU: Any = EVERYWHERE.mkldnn.matmul


def switches() -> tuple[str, ...]:
    """All that says what a float32 product is; torch's older getters raise where both kinds of
    switch have been used, and then that is what they say."""
    said = [CUDA.fp32_precision, CPU.fp32_precision, EVERYWHERE.fp32_precision]
    for ask in (torch.get_float32_matmul_precision, lambda: CUDA.allow_tf32):
        try:
            said.append(str(ask()))
        except RuntimeError as error:
            said.append(str(error))
    return tuple(said)


def old_switch(name: str) -> Callable[[], None]:
    return lambda: torch.set_float32_matmul_precision(name)


def new_switch(place: Any, value: str) -> Callable[[], None]:
    return lambda: setattr(place, "fp32_precision", value)


USERS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "high": old_switch("high"),
    "medium": old_switch("medium"),
    "allow_tf32": lambda: setattr(CUDA, "allow_tf32", True),
    "cuda tf32": new_switch(CUDA, "tf32"),
    "cpu bf16": new_switch(CPU, "bf16"),
    "everywhere tf32": new_switch(EVERYWHERE, "tf32"),
}


@pytest.fixture(params=USERS)
def user(request) -> Iterator[tuple[str, ...]]:
    """Each way to ask for quick products, and what the switches say then."""
    try:
        USERS[request.param]()
        yield switches()
    finally:
        torch.set_float32_matmul_precision("highest")
        for place in (EVERYWHERE, CUDA, CPU):
            place.fp32_precision = "none"


def test_products_are_exact_within_and_as_before_afterwards(user):
    with exact_products("cpu"):
        assert (CUDA.fp32_precision, CPU.fp32_precision) == ("ieee", "ieee")
        with products(cuda="tf32"):
            assert (CUDA.fp32_precision, CPU.fp32_precision) == ("tf32", "ieee")
        assert CUDA.fp32_precision == "ieee"
    assert switches() == user


def test_switches_go_on_following_the_one_above_them():
    try:
        with exact_products("cpu"):
            pass
        EVERYWHERE.fp32_precision = "tf32"
        with exact_products("cpu"):
            pass
        EVERYWHERE.fp32_precision = "ieee"
        assert (CUDA.fp32_precision, CPU.fp32_precision) == ("ieee", "ieee")
    finally:
        EVERYWHERE.fp32_precision = "none"


def test_switches_are_as_before_after_an_error(user):
    with contextlib.suppress(ZeroDivisionError), exact_products("cpu"):
        raise ZeroDivisionError
    assert switches() == user


def test_bfloat16_sums_keep_both_of_the_users_choices():
    before = (
        CUDA.allow_bf16_reduced_precision_reduction,
        CUDA.allow_bf16_reduced_precision_reduction_split_k,
    )
    try:
        for chosen in ((True, True), (False, True), (False, False)):
            CUDA.allow_bf16_reduced_precision_reduction = chosen
            with float32_sums():
                assert not CUDA.allow_bf16_reduced_precision_reduction
            assert CUDA.allow_bf16_reduced_precision_reduction == chosen[0]
            assert CUDA.allow_bf16_reduced_precision_reduction_split_k == chosen[1]
    finally:
        CUDA.allow_bf16_reduced_precision_reduction = before


@pytest.mark.parametrize("path", ["reference/dense", "cpu/dense", "cpu/sparse", "cpu/screened"])
def test_step_does_not_follow_the_users_switch(path, user):
    losses = [_second_loss(path)]
    torch.set_float32_matmul_precision("highest")
    for place in (EVERYWHERE, CUDA, CPU):
        place.fp32_precision = "none"
    losses.append(_second_loss(path))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("backend", ["reference", "cpu", "triton"])
def test_backends_run_with_exact_products_and_no_autocast(backend, user, monkeypatch):
    if backend not in available_backends():
        pytest.skip(f"{backend} does not run here")
    module = kernels.backend_module(backend)
    seen = []

    def record(*_: Any) -> None:
        seen.append((CUDA.fp32_precision, CPU.fp32_precision, torch.is_autocast_enabled("cpu")))

    monkeypatch.setattr(module, "step", record)
    state, x = gaussian_case(4, 3, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step(state, x, x, StepSettings(lr=1e-3, sparsity=1e-3), backend)
    assert seen == [("ieee", "ieee", False)]


def _second_loss(path: str) -> float:
    """The loss of a second step, which depends on all products of the first."""
    if path.partition("/")[0] not in available_backends():
        pytest.skip(f"{path} does not run here")
    state, x = gaussian_case(64, 128, 256, theta=0.1)
    settings = StepSettings(lr=1e-2, sparsity=1e-3)
    step(state, x, x, settings, path)
    return step(state, x, x, settings, path).loss


def test_switches_are_moved_by_one_thread_at_a_time():
    """Steps and measuring both move them; who came first would put them back too early."""
    before, inside = CPU.fp32_precision, threading.Event()

    def enter() -> None:
        with exact_products("cpu"):
            inside.set()

    other = threading.Thread(target=enter, daemon=True)
    with exact_products("cpu"):
        other.start()
        assert not inside.wait(0.2)
        with exact_products("cpu"):  # the same thread may, as often as it likes
            pass
    other.join()
    assert inside.is_set()
    assert CPU.fp32_precision == before
