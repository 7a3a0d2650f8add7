"""Devices: how many operations a second they do, by their makers, and how much of it one gets.

Owns a small table, and what an update of an SAE takes on a GPU. Another device is one row.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One accelerator.

    Attributes:
        peak_flops: dense bfloat16 products a second.
        memory_gb: of the device.
        share: of the peak that whole steps reach.
        source: where the figures are from.
        bytes_per_s: of the memory, where our own training step runs on it.
    """

    peak_flops: float
    memory_gb: float
    share: float
    source: str
    bytes_per_s: float | None = None

    def train_seconds(self, updates: float, flops: float, sparse_flops: float) -> float:
        """Seconds of one SAE's updates: each takes a while whatever its size, its encoder product
        and what is as large as the SAE go by the peak (of a very wide SAE by more of it), its
        active latents by the memory.

        Args:
            updates: how many.
            flops: of all of them.
            sparse_flops: those among them that active latents need.
        """
        if self.bytes_per_s is None:
            return flops / (self.peak_flops * self.share)
        dense_flops = flops - sparse_flops
        first = min(dense_flops, updates * _FIRST_FLOPS)
        dense = (first / _DENSE_SHARE + (dense_flops - first) / _WIDE_SHARE) / self.peak_flops
        sparse = sparse_flops / (self.bytes_per_s * _SPARSE_FLOPS_PER_BYTE)
        return updates * _UPDATE_S + dense + sparse


_SHARE = 0.4  # of the peak; the report's own TPUv3 reach 0.51 in dense steps

# Least squares over five shapes on an H100 SXM (torch 2.11, Triton 3.6, `benchmarks/train_step.py`
# on 2026-11-26), which they meet within 27%, and two of 2^20 latents on an H200 (gpu_steps.csv),
# within 10%; the test has them. The bfloat16 product alone takes 0.5 ms of 13.5. That the rest
# scales with another device's memory is assumed, not measured.
_UPDATE_S = 4.3e-3
_DENSE_SHARE = 0.156
_FIRST_FLOPS, _WIDE_SHARE = 2.5e12, 0.38  # of an update's dense product: 2,304 × 131,072 × 4,096
_SPARSE_FLOPS_PER_BYTE = 0.345

DEVICES = {
    "h100": Device(989e12, 80, _SHARE, "NVIDIA H100 SXM data sheet, dense", 3.35e12),
    "a100": Device(312e12, 80, _SHARE, "NVIDIA A100 data sheet, dense", 2.04e12),
    "l4": Device(121e12, 24, _SHARE, "NVIDIA L4 data sheet, dense", 0.3e12),
    "tpu-v3": Device(
        123e12, 32, 0.51, "Cloud TPU documentation, a chip; share: Gemma Scope report"
    ),
}


def device_named(name: str) -> Device:
    """The device of that name.

    Raises:
        ValueError: there is none in the table.
    """
    if name not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {name!r}")
    return DEVICES[name]
