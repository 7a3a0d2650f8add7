"""Result files: a CSV file per benchmark, with machine, versions and commit in every row.

Owns the format of these files and the description of the machine. Needs only torch.
"""

import csv
import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def record(benchmark: str, row: Mapping[str, object], folder: Path = RESULTS) -> None:
    """Appends a row to <folder>/<benchmark>.csv, which is made if it does not exist.

    Raises:
        ValueError: the file has other columns.
    """
    path = folder / f"{benchmark}.csv"
    path.parent.mkdir(exist_ok=True)
    new = not path.exists()
    if not new:
        with path.open(newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file))
        if columns != list(row):
            raise ValueError(f"columns of {path} must be {list(row)}, got {columns}; move it away")
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def surroundings(device: str, packages: tuple[str, ...]) -> dict[str, str]:
    """Columns for what a figure depends on: machine, versions, commit. Packages that are not
    installed are left out. In a checkout without its history, the environment variable COMMIT names
    the commit."""
    versions = [f"python {platform.python_version()}"]
    for name in packages:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    cpu = f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu,
        "load": f"{os.getloadavg()[0]:.1f}",
        "versions": ", ".join(versions),
        "commit": os.environ.get("COMMIT") or commit or "none",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
