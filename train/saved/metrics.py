"""Training's metrics and their file, metrics.jsonl.

Owns the running means between two lines, the dead-latent counters and the file. A line is one JSON
object; every mean is over the updates since the last line that was due by `log_every`.
"""

import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...foreign import Document, parse_json, validated
from ...store.place.files import write_file
from ...store.place.local import LocalFiles
from ...store.place.partials import naming
from ..settings import TrainSettings
from .checkpoint import Checkpoints

METRICS_FILE = "metrics.jsonl"
THETA_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class _Line(Document):
    """The part of a line that is checked when a run is continued."""

    step: int


class Means:
    """Running means for the next line, with a clock for rows per second and the share of time spent
    waiting.

    Attributes:
        since: the update after which the means began; lines up to it are final.
    """

    def __init__(self, since: int = 0, n_updates: int = 0, sums: dict[str, float] | None = None):
        self.since, self._n_updates, self._sums = since, n_updates, dict(sums or {})
        self._n_rows, self._started, self._waited_s = 0, time.monotonic(), 0.0

    def add(self, n_rows: int, waited_s: float, **values: float) -> None:
        """Counts one update."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._n_updates += 1
        self._n_rows += n_rows
        self._waited_s += waited_s

    def line(self) -> dict[str, float]:
        """The means so far; the timings cover this process only, not an earlier one's updates."""
        elapsed_s = max(time.monotonic() - self._started, 1e-9)
        line = {name: value / self._n_updates for name, value in self._sums.items()}
        line["rows_per_s"] = self._n_rows / elapsed_s
        line["waiting_share"] = min(1.0, self._waited_s / elapsed_s)
        return line

    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps: `Means(**record)` goes on with the same sums."""
        return {"since": self.since, "n_updates": self._n_updates, "sums": dict(self._sums)}


def count_idle_rows(rows_idle: Tensor, fired: Tensor, n_rows: int) -> None:
    """Adds a batch to each latent's count of rows since it last fired; in place.

    Args:
        rows_idle: int64 [d_sae].
        fired: [d_sae], rows of the batch in which the latent was active.
        n_rows: rows of the batch.
    """
    rows_idle += n_rows
    rows_idle.masked_fill_(fired > 0, 0)


def theta_quantiles(theta: Tensor) -> dict[str, float]:
    """5, 25, 50, 75 and 95% quantiles of θ, in scaled units.

    By sorting: torch.quantile refuses more than 2^24 entries, and interpolation adds nothing here.
    """
    ordered = torch.sort(theta.detach().flatten().float()).values
    last = ordered.numel() - 1
    return {f"theta_{round(100 * q):02d}": float(ordered[round(q * last)]) for q in THETA_QUANTILES}


def append_line(out_dir: Path, line: dict[str, Any]) -> None:
    """Appends one line to metrics.jsonl; an error of writing names the file."""
    path = out_dir / METRICS_FILE
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


def read_metrics(out_dir: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a last line cut off by a kill is dropped.

    Raises:
        ValueError: another line is damaged; the text names file and line.
    """
    path = out_dir / METRICS_FILE
    data = path.read_bytes() if path.is_file() else b""
    lines = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        where = f"{path} line {number}"
        parsed = parse_json(line, where)
        validated(_Line, parsed, where)
        lines.append(parsed)
    return lines


def keep(settings: TrainSettings, checkpoints: Checkpoints) -> None:
    """Flushes metrics.jsonl to the disk, before a checkpoint is written. If checkpoints have a
    place of their own, also copies it there: they may outlive `out`."""
    path = settings.out / METRICS_FILE
    if path.is_file():
        LocalFiles(settings.out).flush([METRICS_FILE])
        if settings.checkpoints is not None:
            checkpoints.save_metrics(path.read_bytes())


def take_kept(settings: TrainSettings, checkpoints: Checkpoints) -> None:
    """Takes the copy of the metrics beside the checkpoints if `out` has none."""
    path, kept = settings.out / METRICS_FILE, checkpoints.metrics()
    if kept is not None and not path.is_file():
        write_file(path, kept)


def cut_after(out_dir: Path, step: int) -> None:
    """Drops the lines after `step`: a run that continues from there writes them again."""
    kept = [line for line in read_metrics(out_dir) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    write_file(out_dir / METRICS_FILE, text.encode())
