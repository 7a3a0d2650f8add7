"""Options, time limit and result rows of the parts of the GPU benchmark."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from gpu import skipped
from recording import record, surroundings

PACKAGES = ("torch", "triton", "numpy", "numba", "transformers", "zarr")


class Part:
    """The run of one part: the folder of its rows, its device and its time.

    Attributes:
        toy: whether it runs at toy sizes on the CPU.
        device: "cuda", or "cpu" for a toy run.
        runs: whether it can run; if not, it has reported why.
        pause: seconds that one figure may take.
    """

    def __init__(self, name: str) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("out", type=Path)
        parser.add_argument("--seconds", type=float, default=600.0)
        parser.add_argument("--toy", action="store_true")
        arguments = parser.parse_args()
        self.name, self.out, self.toy = name, arguments.out, arguments.toy
        self._late = False
        self.end = time.monotonic() + arguments.seconds
        self.pause = 0.0 if self.toy else 0.4
        self.device = "cpu" if self.toy else "cuda"
        self.runs = self.toy or torch.cuda.is_available()
        if not self.runs:
            self.skip("everything", "no CUDA device")
        else:
            self.around = surroundings(self.device, PACKAGES)

    def left(self) -> float:
        """Seconds left."""
        return self.end - time.monotonic()

    def late(self, what: str) -> bool:
        """Whether the time is over; reports the first thing that is skipped because of it."""
        if self.left() < 0 and not self._late:
            self._late = True
            self.skip(f"{what} and what follows", "no time left")
        return self._late

    def skip(self, what: str, reason: str) -> None:
        """Reports why something is skipped."""
        skipped(self.out, self.name, what, reason)

    def record(self, row: Mapping[str, object]) -> None:
        """Appends a row with device, versions and commit, and prints its beginning."""
        record(f"gpu_{self.name}", dict(row) | self.around, self.out)
        print(
            f"{self.name}: " + ", ".join(f"{k} {v}" for k, v in row.items() if v != ""), flush=True
        )

    def wait(self) -> None:
        """Waits for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()
