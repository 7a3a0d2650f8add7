"""What the parts of the GPU benchmark share: their options, their time, their rows."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from gpu import skipped
from recording import record, surroundings

PACKAGES = ("torch", "triton", "numpy", "numba", "transformers", "zarr")


class Part:
    """One part's run: where its rows go, on which device, and for how long.

    Attributes:
        toy: whether it runs at toy sizes on the CPU.
        device: "cuda", or "cpu" for a toy.
        runs: whether it can run at all; if not, that was said.
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
        """Seconds of its time that are left."""
        return self.end - time.monotonic()

    def late(self, what: str) -> bool:
        """Whether the time is over; then says so of the first thing that is left out."""
        if self.left() < 0 and not self._late:
            self._late = True
            self.skip(f"{what} and what follows", "no time left")
        return self._late

    def skip(self, what: str, reason: str) -> None:
        """Says why something is not done."""
        skipped(self.out, self.name, what, reason)

    def record(self, row: Mapping[str, object]) -> None:
        """Writes a row, with what it depends on, and shows its beginning."""
        record(f"gpu_{self.name}", dict(row) | self.around, self.out)
        print(
            f"{self.name}: " + ", ".join(f"{k} {v}" for k, v in row.items() if v != ""), flush=True
        )

    def wait(self) -> None:
        """Waits for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()
