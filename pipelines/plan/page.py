"""What `plan` shows: a table, JSON, and a picture.

Owns their wording and units. Units of bytes are powers of ten: 1 TB is 10^12 bytes.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...store.place.files import check_can_be_written, write_file
from ..suite.members import SuiteMember
from ..suite.settings import SuiteFile
from .estimate import (
    BreakEven,
    Prices,
    Speed,
    break_even,
    by_codec,
    model_bytes,
    read_bytes_per_s,
)
from .memory import train_memory_bytes
from .quantities import Quantities
from .together import choices

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SUFFIXES = (".svg", ".png")


def as_json(
    file: SuiteFile,
    members: Sequence[SuiteMember],
    found: Sequence[Quantities],
    speed: Speed,
    rates: Prices,
    ranks: int | None = None,
) -> dict[str, Any]:
    """All figures of a plan as JSON values.

    Args:
        file: the suite.
        members: its SAEs.
        found: quantities of each step.
        speed: speed of the device or machine.
        rates: prices.
        ranks: devices that train the widest SAE together; None shows this only if one device is
            too small.

    Raises:
        ValueError: `ranks` is given for a device whose links are not known.
    """
    even = break_even(found, speed, rates, members)
    device = speed.device
    return {
        "suite": file.suite.name,
        "device": speed.name,
        "saes": len(members),
        "steps": [
            {
                "step": q.step,
                "tokens": q.tokens,
                "rows": q.rows,
                "flops": q.flops,
                "report_flops": q.report_flops,
                "written_bytes": q.written,
                "seconds": speed.seconds(q),
                "price": speed.seconds(q) / 3600 * rates.gpu_hour,
            }
            for q in found
        ],
        "activation_bytes": by_codec(found),
        "read_bytes": sum(q.read_bytes for q in found),
        "read_bytes_per_s": read_bytes_per_s(found, speed),
        "memory_bytes": {
            "harvest": model_bytes(file),
            "train": train_memory_bytes(file, members),
            "device": None if device is None else 1e9 * device.memory_gb,
        },
        "together": _together(file, members, found, speed, ranks),
        "break_even": {
            "saes": even.saes,
            "together": even.together,
            "regenerate": even.regenerate,
            "keep": even.keep,
        },
    }


def _together(
    file: SuiteFile,
    members: Sequence[SuiteMember],
    found: Sequence[Quantities],
    speed: Speed,
    ranks: int | None,
) -> dict[str, Any] | None:
    """One SAE on several devices, if `ranks` asks for it or one device is too small."""
    if speed.device is None or speed.device.bytes_per_s is None:
        if ranks is not None:
            raise ValueError(
                f"ranks has no effect on a {speed.name}, for which nothing is known of several; "
                "leave it out"
            )
        return None
    updates = next(q for q in found if q.step == "train").updates
    several = choices(file, members, updates, speed.device, ranks)
    if several is None:
        return None
    member, ways = several
    return {"sae": member.name, "ways": [asdict(way) for way in ways]}


def as_lines(plan: dict[str, Any], rates: Prices, bandwidth: float | None = None) -> list[str]:
    """The table and the lines below it.

    Args:
        plan: the figures that `as_json` returns.
        rates: prices.
        bandwidth: bytes a second at which the store can be read.
    """
    priced = rates.gpu_hour > 0
    head = f"{'step':<10}{'rows':>10}{'tokens':>10}{'on disk':>11}{'FLOPs':>10}{'dense':>10}"
    lines = [f"{plan['suite']}: {plan['saes']:,} SAEs, one {plan['device']}", ""]
    lines.append(f"{head}{'time':>12}" + (f"{'price':>12}" if priced else ""))
    for step in plan["steps"]:
        line = f"{step['step']:<10}{_count(step['rows']):>10}{_count(step['tokens']):>10}"
        line += f"{_size(sum(step['written_bytes'].values())):>11}"
        line += f"{_power(step['flops']):>10}{_power(step['report_flops']):>10}"
        line += f"{_time(step['seconds']):>12}"
        lines.append(line + (f"{step['price']:>12,.2f}" if priced else ""))
    total = sum(step["seconds"] for step in plan["steps"])
    cost = sum(step["price"] for step in plan["steps"])
    end = f"{'all':<61}{_time(total):>12}"
    lines += [end + (f"{cost:>12,.2f}" if priced else ""), ""]
    sizes = [f"{name} {_size(size)}" for name, size in plan["activation_bytes"].items()]
    lines.append(f"activations: {'; '.join(sizes)}")
    lines += [_memory(plan), _reading(plan, bandwidth), *_storing(plan, rates)]
    return [*lines, *_ways(plan)]


def _memory(plan: dict[str, Any]) -> str:
    """A line on the memory that weights and SAEs need, and whether a device has it."""
    memory = plan["memory_bytes"]
    text = f"memory: {_size(memory['harvest'])} of weights to harvest, up to "
    text += f"{_size(memory['train'])} for the largest group to train"
    capacity = memory["device"]
    if capacity is None or memory["train"] <= capacity:
        return text
    alone = (plan["together"] or {"ways": []})["ways"]
    text += f", more than the {_size(capacity)} of one {plan['device']}"
    if alone and alone[0]["memory_bytes"] > capacity:
        return text
    return f"{text}: lower `together`, the SAEs that are trained at once"


def _ways(plan: dict[str, Any]) -> list[str]:
    """Lines on one SAE on several devices."""
    if plan["together"] is None:
        return []
    ways = plan["together"]["ways"]
    names = list(ways[0]["seconds"])
    head = f"{'devices':>7}{'memory of each':>16}" + "".join(f"{name:>17}" for name in names)
    lines = [
        "",
        f"{plan['together']['sae']} on several {plan['device']} (torchrun, each "
        "holding its share of the latents; predicted, several GPUs are untested):",
        head,
    ]
    for way in ways:
        line = f"{way['devices']:>7}{_size(way['memory_bytes']):>16}"
        lines.append(line + "".join(f"{_time(way['seconds'][name]):>17}" for name in names))
    return lines


def _reading(plan: dict[str, Any], bandwidth: float | None) -> str:
    """A line on whether the store can be read as fast as training needs."""
    needed = plan["read_bytes_per_s"]
    text = f"reading: {_size(plan['read_bytes'])} in all, {_size(needed)} a second while training"
    if bandwidth is None:
        return text + "; --bandwidth says what the place gives"
    if bandwidth >= needed:
        return f"{text}; the place gives {_size(bandwidth)}"
    return (
        f"{text}; the place gives {_size(bandwidth)}: training would take "
        f"{needed / bandwidth:,.1f} times as long; train more SAEs on one stream, or cache"
    )


def _storing(plan: dict[str, Any], rates: Prices) -> list[str]:
    """Lines on the cost of harvesting once and of regenerating."""
    even = plan["break_even"]
    unit = "" if rates.gpu_hour else " hours"
    lines = [
        f"one pass of the model: {even['regenerate']:,.2f}{unit}; keeping the activations for "
        f"{rates.days:g} days: {even['keep']:,.2f}{unit}"
    ]
    if even["saes"] is not None:
        lines.append(
            f"harvesting once costs less than regenerating from {even['saes']:,} SAEs on, with "
            f"{even['together']} trained at once"
        )
    return lines


def draw(path: Path, plan: dict[str, Any], rates: Prices) -> None:
    """Draws the costs of harvesting once and of regenerating over the number of SAEs.

    Raises:
        ValueError: the path ends in neither .svg nor .png.
        OSError: it cannot be written.
    """
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"plot must end in {' or '.join(_SUFFIXES)}, got {path}")
    check_can_be_written(path, "plot")
    from ...evaluate.page.svg import picture

    even = BreakEven(**plan["break_even"])
    most = max(4 * even.together, 2 * (even.saes or 1), plan["saes"])

    def curves(axes: "Axes") -> None:
        counts = list(range(1, most + 1))
        again = [-(-n // even.together) * even.regenerate for n in counts]
        once = even.regenerate + even.keep
        axes.plot(counts, again, drawstyle="steps-post", label="regenerated for every group")
        axes.plot(counts, [once] * most, label=f"harvested once, kept {rates.days:g} days")
        axes.axvline(plan["saes"], linestyle=":", color="#888888", label="this suite")
        axes.set_xlabel("SAEs")
        axes.set_ylabel("price of activations" if rates.gpu_hour else "device-hours of the model")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left")

    write_file(path, picture(curves, "svg" if path.suffix == ".svg" else "png"))


def compared(plan: dict[str, Any], actual: dict[str, float]) -> list[str]:
    """Predicted and actual seconds, side by side."""
    lines = [f"{'step':<10}{'predicted':>12}{'actual':>12}{'ratio':>8}"]
    for step in plan["steps"]:
        name, said = step["step"], step["seconds"]
        if name in actual:
            ratio = said / actual[name] if actual[name] else float("inf")
            lines.append(f"{name:<10}{_time(said):>12}{_time(actual[name]):>12}{ratio:>8.2f}")
    both = [s for s in plan["steps"] if s["step"] in actual]
    said, took = sum(s["seconds"] for s in both), sum(actual[s["step"]] for s in both)
    lines.append(f"{'all':<10}{_time(said):>12}{_time(took):>12}{said / max(took, 1e-9):>8.2f}")
    return lines


def _count(value: float) -> str:
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:,.1f}{unit}"
    return f"{value:,.0f}" if value else ""


def _size(value: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:,.0f} B" if value else ""


def _power(value: float) -> str:
    return f"{value:.1e}" if value else ""


def _time(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:,.1f} min" if seconds >= 120 else f"{seconds:,.1f} s"
