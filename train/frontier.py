"""The state of a sweep: a table of its members, and the sparsity-fidelity frontier as a picture.

Owns what `sweep` shows while members train, and `sweep.json` and `frontier.png` in its folder.
Shows training's numbers only; `evaluate` measures Δ loss and held-out text.
"""

import io
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..store.place.files import write_file, write_json
from .sae.config import SAEConfig
from .settings import TrainSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUMMARY_FILE = "sweep.json"
PLOT_FILE = "frontier.png"
_SHOW_EVERY_S = 60.0


@dataclass
class Standing:
    """One member's row: its settings, how far it is, and its newest numbers."""

    name: str
    width: int
    sparsity: float
    target_l0: float | None
    steps: int
    step: int = 0
    l0: float | None = None
    fvu: float | None = None
    dead_share: float | None = None
    missed: str = ""
    """How far a trained SAE's L0 is off its target, if by more than 5%."""
    measured: bool = False
    """False: means over the last stretch of training. True: measured after training."""


class Board:
    """Keeps the standings of a sweep and shows them at most once a minute."""

    def __init__(self, members: Sequence[TrainSettings], out: Path):
        self._out, self._shown_at = out, time.monotonic()
        self.rows = {
            member.out: Standing(
                member.out.name, member.width, member.sparsity, member.target_l0, member.steps
            )
            for member in members
        }

    def watch(self, settings: TrainSettings, line: dict[str, Any]) -> None:
        """Takes a member's metrics line, with its λ: if λ is steered, the table shows this one."""
        row = self.rows[settings.out]
        row.step, row.l0, row.fvu = line["step"], line["l0"], line["fvu"]
        row.dead_share, row.sparsity = line["dead_share"], line["sparsity"]
        if time.monotonic() - self._shown_at >= _SHOW_EVERY_S:
            self.show()

    def measured(self, out: Path, config: SAEConfig) -> None:
        """Takes what was measured of a trained member."""
        row = self.rows[out]
        row.step, row.l0, row.fvu = row.steps, config.l0, config.fvu
        row.dead_share, row.measured, row.missed = config.dead_share, True, config.missed
        row.sparsity = row.sparsity if config.sparsity is None else config.sparsity

    def show(self) -> None:
        """Prints the table, and writes sweep.json and frontier.png."""
        self._shown_at = time.monotonic()
        rows = list(self.rows.values())
        print(table(rows), file=sys.stderr, flush=True)
        self._out.mkdir(parents=True, exist_ok=True)
        write_json(self._out / SUMMARY_FILE, {"members": [asdict(row) for row in rows]})
        plot(rows, self._out / PLOT_FILE)


def table(rows: Sequence[Standing]) -> str:
    """The standings as aligned text, the densest SAE first."""
    head = ("member", "width", "λ", "step", "L0", "FVU", "dead", "")
    lines: list[tuple[str, ...]] = [head]
    for row in sorted(rows, key=lambda row: -(row.l0 or 0)):
        numbers = ("…", "…", "…")
        if row.l0 is not None and row.fvu is not None and row.dead_share is not None:
            numbers = (f"{row.l0:.1f}", f"{row.fvu:.4f}", f"{row.dead_share:.1%}")
        step = "done" if row.measured else f"{row.step:,}/{row.steps:,}"
        lines.append((row.name, str(row.width), f"{row.sparsity:.3g}", step, *numbers, row.missed))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, len(head) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def plot(rows: Sequence[Standing], path: Path) -> None:
    """FVU against L0, a line and a marker for each width; hollow points are still in training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for i, width in enumerate(sorted({row.width for row in rows})):
        known = [row for row in rows if row.width == width and row.l0 and row.fvu]
        points = sorted((row.l0 or 0.0, row.fvu or 0.0, row.measured) for row in known)
        if not points:
            continue
        mark, dashes = "os^D"[i % 4], ("-", "--", "-.", ":")[i % 4]
        x, y = [p[0] for p in points], [p[1] for p in points]
        (line,) = axes.plot(x, y, marker=mark, linestyle=dashes, label=f"{width:,}")
        for l0, fvu, measured in points:
            fill = line.get_color() if measured else "white"
            axes.plot([l0], [fvu], mark, color=line.get_color(), markerfacecolor=fill)
    axes.set(xlabel="L0, active latents per row (log scale)", ylabel="FVU")
    plain_log_axis(axes, "x")
    if axes.get_lines():  # room above the highest point, however close together the points are
        axes.set_ylim(0, 1.08 * axes.dataLim.y1)
    axes.grid(linewidth=0.5, alpha=0.4)
    if axes.get_lines():
        figure.legend(title="width", loc="outside right upper", frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_file(path, picture.getvalue())


def plain_log_axis(axes: "Axes", which: Literal["x", "y"], most: int = 7) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 of each decade; at fewer if that gives
    more than `most`, at more if it gives fewer than three. Call it when the axis has its limits.
    """
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    view = axis.get_view_interval()
    axis.set_major_locator(FixedLocator(_log_ticks(min(view), max(view), most)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _position: plain_number(value))


def plain_number(value: float) -> str:
    """A tick's number as text: 20, 0.005, 10,000; as a power of ten from 10 million on."""
    if value and not 1e-5 <= abs(value) < 1e7:
        return f"{value:g}"
    return f"{value:,.9f}".rstrip("0").rstrip(".")


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Ticks in sight of a logarithmic axis, round ones first."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

    def ticks(firsts: Sequence[float], stride: int = 1) -> list[float]:
        found = [first * 10.0**n for n in decades if n % stride == 0 for first in firsts]
        return [tick for tick in found if 0.999 * low <= tick <= 1.001 * high]

    choices = [ticks(firsts) for firsts in ((1, 2, 5), (1, 3), (1,))]
    fitting = [some for some in choices if len(some) <= most]
    if not fitting:
        return ticks((1,), stride=math.ceil(len(choices[-1]) / most))
    if len(fitting[0]) >= 3:
        return fitting[0]
    finer = ticks((1, 1.5, 2, 3, 4, 5, 6, 8))
    return finer if len(finer) >= 2 else _even_ticks(low, high)


def _even_ticks(low: float, high: float) -> list[float]:
    """A few round numbers, for a logarithmic axis that spans very little."""
    from matplotlib.ticker import MaxNLocator

    return [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
