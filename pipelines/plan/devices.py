"""Devices: their peak operations a second by data sheet, and the share of it that steps reach.

Owns a small table, and the time of an SAE's update on a GPU. Another device is one row.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One accelerator.

    Attributes:
        peak_flops: operations a second of dense bfloat16 products.
        memory_gb: memory, 10^9 bytes.
        share: share of the peak that whole steps reach, 0 to 1.
        source: source of the figures.
        bytes_per_s: bandwidth of the memory; None for a device that our training step does not run
            on.
    """

    peak_flops: float
    memory_gb: float
    share: float
    source: str
    bytes_per_s: float | None = None

    def train_seconds(self, updates: float, flops: float, sparse_flops: float) -> float:
        """Seconds of one SAE's updates: a fixed time for each, dense work at a share of the peak,
        and the work of active latents at the memory's bandwidth.

        Args:
            updates: number of updates.
            flops: operations of all updates.
            sparse_flops: how many of these are for active latents.
        """
        if self.bytes_per_s is None:
            return flops / (self.peak_flops * self.share)
        dense_flops = flops - sparse_flops
        # The dense work of a very wide SAE reaches a larger share of the peak.
        first = min(dense_flops, updates * _FIRST_FLOPS)
        dense = (first / _DENSE_SHARE + (dense_flops - first) / _WIDE_SHARE) / self.peak_flops
        sparse = sparse_flops / (self.bytes_per_s * _SPARSE_FLOPS_PER_BYTE)
        return updates * _UPDATE_S + dense + sparse


_SHARE = 0.4  # of the peak; the report's TPUv3 reach 0.51 in dense steps

# Fitted by least squares to five shapes on an H100 SXM (torch 2.11, Triton 3.6,
# `benchmarks/train_step.py` on 2026-11-26), within 27%, and to two of 2^20 latents on an H200
# (gpu_steps.csv), within 10%; the test has the measured times. The bfloat16 product alone takes 0.5
# of 13.5 ms. That the rest scales with another device's memory is assumed, not measured.
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
