"""All checks and measurements of a GPU, in ten minutes: python benchmarks/gpu.py OUT [--toy].

Called by gpu.sh. Runs the parts one after the other, each in its own process, because an error on a
GPU makes its process unusable. Each part has a share of the time and writes its rows as they come.
A part that takes longer is stopped, and its rows are kept. At the end prints OUT's CSV files as
tables. Exit code 1 if a result is wrong, a part failed or nothing could run.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Part → its share of the seconds, in the order they run.
PARTS = {"correctness": 120.0, "race": 40.0, "ranks": 70.0, "steps": 210.0, "harvest": 110.0}
# Seconds a part may take beyond its own, to start up and to end the measurement in hand.
GRACE = 20.0
LIMIT = 585.0
# A part's exit code if it ended well and found something wrong.
WRONG = 3
# Columns of the table; the CSV files have all.
SHOWN = {
    "gpu_correctness": ["case", "path", "verdict"],
    "gpu_race": ["path", "d", "width", "repeats", "verdict"],
    "gpu_ranks": ["case", "verdict"],
    "gpu_steps": [
        "name", "d", "width", "rates", "l0_asked", "l0", "median_ms", "q1_ms", "q3_ms", "find",
        "by_row", "update", "shared", "rest", "peak_gib",
    ],
    "gpu_harvest": ["case", "rows", "seconds", "rows_per_s", "overhead"],
    "gpu_skipped": ["part", "what", "reason"],
}  # fmt: skip


def run(part: str, out: Path, seconds: float, toy: bool) -> str | None:
    """Runs a part; returns why it failed, or None."""
    command = [
        sys.executable,
        str(HERE / f"gpu_{part}.py"),
        str(out),
        "--seconds",
        f"{seconds:.1f}",
    ]
    environment = dict(os.environ)
    if toy:
        environment |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    try:
        code = subprocess.run(
            command + ["--toy"] * toy, env=environment, timeout=seconds + GRACE, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return f"did not end within {seconds + GRACE:.0f} s and was stopped"
    return None if code in (0, WRONG) else f"ended with exit code {code}"


def skipped(out: Path, part: str, what: str, reason: str) -> None:
    """Reports why something was skipped, on the screen and in gpu_skipped.csv."""
    print(f"{part}: {what} skipped: {reason}", flush=True)
    path = out / "gpu_skipped.csv"
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(["part", "what", "reason"])
        writer.writerow([part, what, reason])


def table(out: Path) -> str:
    """A folder's CSV files as tables of their main columns; right results are only counted."""
    lines = []
    for name, columns in SHOWN.items():
        path = out / f"{name}.csv"
        if not path.exists():
            continue
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        right = [row for row in rows if row.get("verdict") == "right"]
        lines += ["", f"## {name}", ""] + ([f"{len(right)} right"] if "verdict" in columns else [])
        cells = [[row[key] for key in columns] for row in rows if row not in right]
        if cells:
            widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
            for row in [columns, ["-" * width for width in widths], *cells]:
                padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                lines.append("| " + " | ".join(padded) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the parts and prints their results."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder for CSV files and table.md")
    parser.add_argument("--toy", action="store_true", help="toy sizes on the CPU, interpreted")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    if stale := sorted(path.name for path in out.glob("gpu_*.csv")):
        sys.exit(f"error: OUT must be a folder without results, got {out} with {', '.join(stale)}")
    failed = False
    for part in arguments.only:
        left = LIMIT - GRACE - (time.monotonic() - started)
        if left < GRACE:
            skipped(out, part, "everything", "no time left")
            continue
        reason = run(part, out, min(PARTS[part], left), arguments.toy)
        if reason is not None:
            skipped(out, part, "the rest", reason)
            failed = True
    text = table(out)
    measured = {path.name for path in out.glob("gpu_*.csv")} - {"gpu_skipped.csv"}
    failed = failed or "WRONG" in text or not measured
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"{time.monotonic() - started:.0f} s in all; everything is in {out}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
