"""What a page says of SAEs in one word: names, groups, intervals, which of them are the best.

Owns these for plots, table and sentences alike, so that they agree. An entry is one SAE of an
evaluation's JSON.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Entry = dict[str, Any]
MAX_CURVES = 7
"""Curves in one plot; of more SAEs, some spread evenly over L0 are shown."""
CANONICAL_L0 = 100.0
"""Of several SAEs the one nearest this L0 stands for all (Gemma Scope's "canonical" choice)."""
_Z95 = 1.96


def place(entry: Entry) -> str:
    """Where an SAE stands: its site, a transcoder's two sites."""
    site, target = entry["site"], entry["target_site"]
    return site if target == site else f"{site} → {target}"


def slot(entry: Entry) -> str:
    """What the points of one frontier have in common."""
    return f"{place(entry)}, width {entry['d_sae']:,}"


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts layer 2 before layer 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _parts(text)]


def _parts(text: str) -> list[str]:
    """Text and numbers by turns; beyond twenty digits nobody counts."""
    return [part for part in re.split(r"(\d{1,20})", text) if part]


def ordered(entries: Iterable[Entry]) -> list[Entry]:
    """By site, width and L0."""
    return sorted(entries, key=lambda e: (natural(place(e)), e["d_sae"], e["l0"]))


def by_place(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The SAEs of every site, in the sites' order."""
    found: dict[str, list[Entry]] = {}
    for entry in ordered(entries):
        found.setdefault(place(entry), []).append(entry)
    return found


def slots(entries: Iterable[Entry]) -> list[tuple[str, list[Entry]]]:
    """The SAEs of every slot, named by how the slots differ: by site, by width or by both."""
    entries = ordered(entries)
    places, widths = {place(e) for e in entries}, {e["d_sae"] for e in entries}
    found: dict[tuple[str, int], list[Entry]] = {}
    for entry in entries:
        found.setdefault((place(entry), entry["d_sae"]), []).append(entry)
    named = []
    for (where, width), some in found.items():
        parts = [short(where)] if len(places) > 1 or len(widths) == 1 else []
        parts += [f"width {width:,}"] if len(widths) > 1 else []
        named.append((", ".join(parts), some))
    return named


def sparsity(entry: Entry) -> float | None:
    """λ at the end of the SAE's training, where known."""
    return (entry.get("config") or {}).get("sparsity")


def rungs(entries: Sequence[Entry]) -> dict[tuple[str, float], list[Entry]]:
    """The width ladders: SAEs of several widths at one site and λ, by (site, λ), narrowest first.

    SAEs that were steered to a target L0 stand on none: their λ is a result.
    """
    ladders: dict[tuple[str, float], list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: e["d_sae"]):
        settings = (entry.get("training") or {}).get("settings") or {}
        price = sparsity(entry)
        if price is not None and settings.get("target_l0") is None:
            ladders.setdefault((place(entry), price), []).append(entry)
    return {key: some for key, some in ladders.items() if len({e["d_sae"] for e in some}) > 1}


def labels(entries: Sequence[Entry]) -> list[str]:
    """SAEs in a legend: by what tells them apart, and L0."""
    several_places = len({place(e) for e in entries}) > 1
    several_widths = len({e["d_sae"] for e in entries}) > 1
    return [_label(entry, several_places, several_widths) for entry in entries]


def _label(entry: Entry, several_places: bool, several_widths: bool) -> str:
    price = sparsity(entry)
    parts = [short(place(entry))] if several_places else []
    parts += [f"width {entry['d_sae']:,}"] if several_widths else []
    if not parts:
        parts = [short(entry["name"]) if price is None else f"λ {price:.3g}"]
    return ", ".join([*parts, f"L0 {entry['l0']:.3g}"])


def label(entry: Entry) -> str:
    """An SAE by itself: λ where it is known, else its name, and L0."""
    return _label(entry, False, False)


def short(text: str, most: int = 30) -> str:
    """The end of a name: a legend wider than its plot leaves no room for the plot."""
    return text if len(text) <= most else "…" + text[1 - most :]


def spread(entries: Sequence[Entry]) -> list[Entry]:
    """At most MAX_CURVES of the entries, evenly over the ranks of L0, the sparsest and the densest
    among them.
    """
    ranked = sorted(entries, key=lambda entry: entry["l0"])
    if len(ranked) <= MAX_CURVES:
        return ranked
    picks = np.linspace(0, len(ranked) - 1, MAX_CURVES).round().astype(int)
    return [ranked[i] for i in picks]


def interval(entry: Entry, metric: str) -> tuple[float, float] | None:
    """A figure's 95% interval over sequences; None where it is not known.

    An evaluation without intervals has the standard error of the delta loss: 1.96 of it on both
    sides.
    """
    found = (entry.get("intervals") or {}).get(metric)
    if found is not None:
        return found[0], found[1]
    error, value = entry.get(f"{metric}_stderr"), entry.get(metric)
    if error is None or value is None:
        return None
    return value - _Z95 * error, value + _Z95 * error


def best(entries: Sequence[Entry]) -> list[Entry]:
    """The frontier: SAEs of which no other at the same site has a lower L0 and a lower delta
    loss, the sparsest first."""
    found = []
    for some in by_place(entries).values():
        lowest = float("inf")
        for entry in sorted(some, key=lambda e: (e["l0"], e["delta_loss"])):
            if entry["delta_loss"] < lowest:
                lowest = entry["delta_loss"]
                found.append(entry)
    return found


def canonical(entries: Sequence[Entry]) -> Entry:
    """The SAE whose L0 is nearest 100."""
    return min(entries, key=lambda entry: abs(entry["l0"] - CANONICAL_L0))
