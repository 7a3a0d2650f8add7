"""SAEs as a page names and groups them: labels, groups, intervals, and which are the best.

Owns these for plots, tables and sentences, so that all agree. An entry is one SAE of an
evaluation's JSON.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

Entry = dict[str, Any]
MAX_CURVES = 7
"""Most curves in one plot; of more SAEs, some are shown, spread evenly over L0."""
CANONICAL_L0 = 100.0
"""The SAE nearest this L0 represents several (Gemma Scope's "canonical" choice)."""
_Z95 = 1.96
_MOST_LABEL = 46
"""Most characters of a frontier's name in a legend; as many are as wide as the plot."""


def model_name(evaluation: dict[str, Any]) -> str:
    """The last part of the model's path or hub id."""
    return Path(evaluation["model"]["name"]).name


def _norms(evaluation: dict[str, Any]) -> str:
    other = evaluation["settings"].get("norms_of")
    return "own norms" if other is None else f"norms of {short(Path(str(other)).name)}"


def _positions(evaluation: dict[str, Any]) -> str:
    kind = str(evaluation["settings"].get("positions", "all"))
    return "all positions" if kind == "all" else short(kind)


_CONDITIONS: tuple[Callable[[dict[str, Any]], str], ...] = (
    model_name,
    lambda e: "SAEs of another model" if e["settings"].get("other_model") else "its own SAEs",
    _positions,
    _norms,
    lambda e: f"weights {e['model']['fingerprint']}",
    lambda e: f"model in {e['model']['dtype']}",
    lambda e: f"SAEs in {e['settings'].get('sae_dtype', 'float32')}",
    lambda e: f"{e['tokens']['n_sequences']:,} sequences",
    lambda e: f"tokens {e['tokens']['fingerprint'][:8]}",
    lambda e: f"split {e['tokens']['split']}",
    lambda e: f"special positions {'' if e['settings'].get('splice_special') else 'not '}spliced",
)
"""What SAEs are measured on, in words, in the order in which it is named."""


def marked(evaluations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The evaluations, with an `on` in every entry: what it was measured on.

    `on` names only what differs between the evaluations. Only SAEs with the same `on` can be
    compared.
    """
    named: list[tuple[str, ...]] = [()] * len(evaluations)
    for condition in _CONDITIONS:
        more = [(*said, condition(e)) for said, e in zip(named, evaluations, strict=True)]
        if len(set(more)) > len(set(named)):
            named = more
    return [
        _on(evaluation, ", ".join(said))
        for said, evaluation in zip(named, evaluations, strict=True)
    ]


def _on(evaluation: dict[str, Any], on: str) -> dict[str, Any]:
    """An evaluation whose entries have this `on`."""

    def with_on(some: list[Entry]) -> list[Entry]:
        return [entry | {"on": on} for entry in some]

    subsets = {
        name: subset | {"saes": with_on(subset["saes"])}
        for name, subset in evaluation.get("subsets", {}).items()
    }
    return evaluation | {"saes": with_on(evaluation["saes"]), "subsets": subsets}


def on(entry: Entry) -> str:
    """What an SAE was measured on; empty if it is the same for all SAEs of the page."""
    return entry.get("on", "")


def where(entry: Entry) -> str:
    """An SAE's place, and what it was measured on: SAEs that share both can be compared."""
    return f"{place(entry)} ({on(entry)})" if on(entry) else place(entry)


def place(entry: Entry) -> str:
    """An SAE's site; of a transcoder, both sites."""
    site, target = entry["site"], entry["target_site"]
    return site if target == site else f"{site} → {target}"


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts layer 2 before layer 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _parts(text)]


def _parts(text: str) -> list[str]:
    """Text and numbers in turn. Numbers end at 20 digits, because int() refuses very long ones."""
    return [part for part in re.split(r"(\d{1,20})", text) if part]


def ordered(entries: Iterable[Entry]) -> list[Entry]:
    """By site, what they were measured on, width and L0."""
    return sorted(entries, key=lambda e: (natural(place(e)), on(e), e["d_sae"], e["l0"]))


def by_place(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The SAEs of every site, in the sites' order; a group for each `on` of a site."""
    found: dict[str, list[Entry]] = {}
    for entry in ordered(entries):
        found.setdefault(where(entry), []).append(entry)
    return found


def slots(entries: Iterable[Entry]) -> list[tuple[str, list[Entry]]]:
    """The SAEs of every slot, with the slot's name; a slot's SAEs are the points of one frontier.

    SAEs of a slot share site, width and what they were measured on. Its name has those of the
    three that differ between slots.
    """
    entries = ordered(entries)
    places, widths, ons = ({f(e) for e in entries} for f in (place, lambda e: e["d_sae"], on))
    found: dict[tuple[str, int, str], list[Entry]] = {}
    for entry in entries:
        found.setdefault((place(entry), entry["d_sae"], on(entry)), []).append(entry)
    named = []
    for (site, width, measured_on), some in found.items():
        alone = len(widths) == len(ons) == 1
        parts = [short(site)] if len(places) > 1 or alone else []
        parts += [f"width {width:,}"] if len(widths) > 1 else []
        parts += [measured_on] if len(ons) > 1 else []
        named.append((short(", ".join(parts), _MOST_LABEL), some))
    return named


def sparsity(entry: Entry) -> float | None:
    """λ at the end of the SAE's training; None if not known."""
    return (entry.get("config") or {}).get("sparsity")


def wanted_l0(entry: Entry) -> float | None:
    """The L0 that λ was steered to; None if λ was given."""
    settings = (entry.get("training") or {}).get("settings") or {}
    known = (settings.get("target_l0"), (entry.get("config") or {}).get("target_l0"))
    numbers = [value for value in known if isinstance(value, int | float) and value > 0]
    return numbers[0] if numbers else None


def sparsity_label(entry: Entry) -> str:
    """What set the L0: λ, or the wanted L0; empty if neither is known."""
    if (wanted := wanted_l0(entry)) is not None:
        return f"wanted L0 {three_digits(wanted)}"
    given = sparsity(entry)
    return "" if given is None else f"λ {three_digits(given)}"


def three_digits(value: float) -> str:
    """A number with three significant digits; with an exponent only if it is far from 1."""
    text = f"{value:.3g}"
    plain = format(Decimal(text), ",f") if 1e-9 < abs(value) < 1e12 else text
    return plain.replace("-", "−")


def rungs(entries: Sequence[Entry]) -> dict[tuple[str, float], list[Entry]]:
    """The width ladders: SAEs of several widths at one site and λ, by (where, λ), narrowest first.

    SAEs that were steered to a wanted L0 are on none: their λ is a result.
    """
    ladders: dict[tuple[str, float], list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: e["d_sae"]):
        given = sparsity(entry)
        if given is not None and wanted_l0(entry) is None:
            ladders.setdefault((where(entry), given), []).append(entry)
    return {key: some for key, some in ladders.items() if len({e["d_sae"] for e in some}) > 1}


def labels(entries: Sequence[Entry]) -> list[str]:
    """SAEs' names in a legend: what tells them apart, and L0."""
    several_places = len({where(e) for e in entries}) > 1
    several_widths = len({e["d_sae"] for e in entries}) > 1
    return [_label(entry, several_places, several_widths) for entry in entries]


def _label(entry: Entry, several_places: bool, several_widths: bool) -> str:
    parts = [short(where(entry))] if several_places else []
    parts += [f"width {entry['d_sae']:,}"] if several_widths else []
    if not parts:
        parts = [sparsity_label(entry) or short(entry["name"])]
    return ", ".join([*parts, f"L0 {entry['l0']:.3g}"])


def label(entry: Entry) -> str:
    """An SAE's name by itself: λ or the wanted L0 (its own name if neither is known), and L0."""
    return _label(entry, False, False)


def short(text: str, most: int = 30) -> str:
    """The last `most` characters of a name, so that a legend is no wider than its plot."""
    return text if len(text) <= most else "…" + text[1 - most :]


def spread(entries: Sequence[Entry]) -> list[Entry]:
    """At most MAX_CURVES of the entries, evenly over the ranks of L0.

    The sparsest and the densest are always among them.
    """
    ranked = sorted(entries, key=lambda entry: entry["l0"])
    if len(ranked) <= MAX_CURVES:
        return ranked
    picks = np.linspace(0, len(ranked) - 1, MAX_CURVES).round().astype(int)
    return [ranked[i] for i in picks]


def interval(entry: Entry, metric: str) -> tuple[float, float] | None:
    """A figure's 95% interval over sequences; None if it is not known.

    Evaluations of early versions have no intervals, but a standard error of the delta loss. Its
    interval is then 1.96 standard errors to either side.
    """
    if intervals := entry.get("intervals"):
        found = intervals.get(metric)
        return None if found is None else (found[0], found[1])
    error, value = entry.get(f"{metric}_stderr"), entry.get(metric)
    if error is None or value is None:
        return None
    return value - _Z95 * error, value + _Z95 * error


def best(entries: Sequence[Entry]) -> list[Entry]:
    """The frontier of every site, the sparsest SAE first.

    An SAE is on it if no other one at the same site, measured on the same, has a lower L0 and a
    lower delta loss.
    """
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
