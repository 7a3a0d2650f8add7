"""What float32 products mean in a step, whatever the process has set: no TF32, no bfloat16.

A user's switch (`torch.set_float32_matmul_precision("high")`, `allow_tf32`, autocast) is meant for
the user's own model. A step's products are exact unless `StepSettings.encoder` says otherwise. Owns
the switches that a step sets; each is restored afterwards.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# torch's own types do not know these switches.
_ALL: Any = torch.backends
_CUDA, _CPU = _ALL.cuda.matmul, _ALL.mkldnn.matmul

_one_at_a_time = threading.RLock()


@contextmanager
def products(cuda: str | None = None, cpu: str | None = None) -> Iterator[None]:
    """Within it, float32 products are made as "ieee", "tf32" or "bf16"; None leaves them alone.

    "bf16" lets oneDNN choose its own loops, see `cpu.encode.fast_float32`.
    """
    wanted = [(_CUDA, _ALL.cudnn, cuda), (_CPU, _ALL.mkldnn, cpu)]
    moved = [
        (switch, _own_value(switch, parent), value)
        for switch, parent, value in wanted
        if value is not None
    ]
    try:
        for switch, _, value in moved:
            switch.fp32_precision = value
        yield
    finally:
        for switch, before, _ in moved:
            switch.fp32_precision = before


@contextmanager
def exact_products(device_type: str) -> Iterator[None]:
    """Within it, float32 products are exact on every device, and nothing is cast to half.

    One thread at a time: the switches belong to the process, and one thread would restore them
    while another still needs them.
    """
    with (
        _one_at_a_time,
        torch.autocast(device_type, enabled=False),
        products(cuda="ieee", cpu="ieee"),
    ):
        yield


@contextmanager
def float32_sums() -> Iterator[None]:
    """Within it, bfloat16 products on CUDA are summed in float32 throughout."""
    before = (
        _CUDA.allow_bf16_reduced_precision_reduction,
        _CUDA.allow_bf16_reduced_precision_reduction_split_k,
    )
    _CUDA.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        _CUDA.allow_bf16_reduced_precision_reduction = before


def _own_value(switch: Any, parent: Any) -> str:
    """A switch's value, or "none" if it equals its parent's, so that it keeps following that."""
    value = switch.fp32_precision
    return "none" if value == parent.fp32_precision else value
