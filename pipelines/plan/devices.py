"""Devices: how many operations a second they do, by their makers, and how much of it one gets.

Owns a small table. Another device is one row.
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
    """

    peak_flops: float
    memory_gb: float
    share: float
    source: str


_SHARE = 0.4  # of the peak; the report's own TPUv3 reach 0.51 in dense steps

DEVICES = {
    "h100": Device(989e12, 80, _SHARE, "NVIDIA H100 SXM data sheet, dense"),
    "a100": Device(312e12, 80, _SHARE, "NVIDIA A100 data sheet, dense"),
    "l4": Device(121e12, 24, _SHARE, "NVIDIA L4 data sheet, dense"),
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
