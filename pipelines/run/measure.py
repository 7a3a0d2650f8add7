"""Calibration: how fast this machine does a suite's steps, measured by two short runs of the suite.

Owns the two cut-down runs, in a temporary folder. Their difference in time gives the speed; the
rest of the time (imports, compilation, loading) is fixed.
"""

import contextlib
import copy
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..plan.estimate import UNITS, Speed
from ..plan.quantities import CHARACTERS_PER_TOKEN, Quantities, quantities
from ..suite.settings import SuiteFile, Table
from .records import records_of
from .runner import run_suite

_ROWS = (2**15, 3 * 2**15)
_TOKENS = (3 * 10**5, 9 * 10**5)
"""Fewest tokens of each run: enough that some documents are held out."""

_TOLD_APART_S = 1.0
"""Smallest difference in seconds from which a speed is computed."""

_STEPS = (40, 160)
_SEQUENCES = (4, 20)


def measured_speed(file: SuiteFile, text_bytes: int | None, name: str) -> Speed:
    """Runs the suite twice, cut down to two sizes, and returns this machine's speed.

    Raises:
        ValueError, OSError: what `run` raises.
    """
    found: list[dict[str, tuple[float, Quantities]]] = []
    with tempfile.TemporaryDirectory(prefix="scopeworks-plan-") as folder:
        for i in range(2):
            small = _cut(file, Path(folder, str(i)), i, text_bytes)
            with contextlib.redirect_stdout(io.StringIO()):
                run_suite(small, last="evaluate")
            found.append(_timed(small, text_bytes))
    speeds, fixed = {}, {}
    for step, unit in UNITS.items():
        (few_s, few), (many_s, many) = found[0][step], found[1][step]
        more = getattr(many, unit) - getattr(few, unit)
        per_s = more / (many_s - few_s) if more > 0 and many_s - few_s > _TOLD_APART_S else 0.0
        if per_s <= 0:
            per_s = getattr(many, unit) / max(many_s, 1e-9)
        speeds[step] = per_s
        fixed[step] = max(0.0, many_s - getattr(many, unit) / per_s)
    harvest = found[1]["harvest"][1]
    flops = speeds["harvest"] * harvest.flops / harvest.rows
    return Speed(name, flops, speeds, fixed)


def actual_seconds(out: Path, steps: Sequence[str]) -> dict[str, float]:
    """Step -> seconds of its last run, all shares added up, from the records of finished steps."""
    found = {step: records_of(out, step) for step in steps}
    return {
        step: sum(record.seconds for record in records)
        for step, records in found.items()
        if records and all(record.state == "done" for record in records)
    }


def _cut(file: SuiteFile, out: Path, which: int, text_bytes: int | None) -> SuiteFile:
    """The suite cut down to little work, with all outputs in `out`."""
    small, steps = copy.copy(file), _STEPS[which]
    short = {"steps": steps, "lr_warmup_steps": steps // 4, "sparsity_warmup_steps": steps // 4}
    dropped = ("tokens", "checkpoint_minutes")
    saes = tuple(
        {name: value for name, value in table.items() if name not in dropped} | short
        for table in file.suite.sae
    )
    rows = [_rows(table, text_bytes, which) for table in file.suite.harvest]
    pairs = zip(file.suite.harvest, rows, strict=True)
    harvest = tuple(table | {"rows": n} for table, n in pairs)
    tokens = max(2 * max(rows), _TOKENS[which])
    text = file.suite.text | {"tokens": min(tokens, file.suite.text.get("tokens", tokens))}
    evaluate = file.suite.evaluate | {"n_sequences": _SEQUENCES[which]}
    small.suite = file.suite.model_copy(
        update={
            "out": out,
            "tokens": None,
            "stores": None,
            "checkpoints": None,
            "read": (),
            "sae": saes,
            "harvest": harvest,
            "text": text if "sources" in text else file.suite.text,
            "evaluate": evaluate,
        }
    )
    return small


def _rows(table: Table, text_bytes: int | None, which: int) -> int:
    """Rows to harvest, at most as many as the suite's own."""
    most = table.get("rows") or int((text_bytes or 2**40) / CHARACTERS_PER_TOKEN / 2)
    return min(_ROWS[which], most // (3, 1)[which])


def _timed(file: SuiteFile, text_bytes: int | None) -> dict[str, tuple[float, Quantities]]:
    """Step -> its seconds, and the quantities of its work."""
    seconds = actual_seconds(file.suite.out, list(UNITS))
    return {q.step: (seconds[q.step], q) for q in quantities(file, text_bytes) if q.step in seconds}
