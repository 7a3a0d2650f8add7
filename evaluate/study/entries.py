"""SAEs' entries in evaluations, as studies read them.

Owns what most studies need of an entry: its figures with their intervals, its site, its λ, and the
frontiers of several entries.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .statistics import Curve, Quantity, Z
from .study import Documents, Point

Entry = dict[str, Any]


def entries_of(documents: Documents) -> Iterator[tuple[str, dict[str, Any], Entry]]:
    """Every SAE: (variant, evaluation, the SAE's entry in it)."""
    for variant, found in documents.items():
        for document in found:
            for entry in document["saes"]:
                yield variant, document, entry


def figure_of(entry: Entry, metric: str, n: int | None = None) -> Quantity | None:
    """A headline number, with its interval over sequences if the evaluation has one.

    None if the number is not defined.
    """
    value = entry.get(metric)
    if value is None:
        return None
    low, high = (entry.get("intervals") or {}).get(metric) or (None, None)
    return Quantity(value, n=n) if None in (low, high) else Quantity(value, low, high, n)


def around(value: float, error: float | None, n_sequences: int) -> Quantity:
    """A value with an interval from its standard error.

    As in evaluations, fewer than MIN_SEQUENCES sequences give no interval.
    """
    from ..measure.intervals import MIN_SEQUENCES  # loads torch

    if error is None or n_sequences < MIN_SEQUENCES:
        return Quantity(value)
    return Quantity(value, value - Z * error, value + Z * error)


def sparsity_of(entry: Entry) -> float | None:
    """λ at the end of the SAE's training; None if not known."""
    return (entry.get("config") or {}).get("sparsity")


def setting_of(entry: Entry, name: str) -> Any:
    """A setting of the SAE's training; None if it is not recorded."""
    return ((entry.get("training") or {}).get("settings") or {}).get(name)


def seed_of(entry: Entry) -> int:
    """Seed of the SAE's start; 0 if it is not known."""
    return setting_of(entry, "seed") or 0


def place_of(entry: Entry) -> str:
    """The site it reads, and the site it writes if that is another."""
    site, target = entry["site"], entry["target_site"]
    return site if site == target else f"{site} → {target}"


def told_apart(saes: Iterable[tuple[str, int, str]]) -> list[str]:
    """A short, unique name for each SAE, given as (place, width, name).

    It is the place, with the width if the place has several. If that is not unique, the SAE's own
    name is taken.
    """
    every = list(saes)
    widths: dict[str, set[int]] = {}
    alike = Counter(place for place, _, _ in every)
    for place, width, _ in every:
        widths.setdefault(place, set()).add(width)
    found = []
    for place, width, name in every:
        n = len(widths[place])
        short = place if n == 1 else f"{place}, width {width:,}"
        found.append(short if alike[place] == n else name)
    return found


def columns_of(entry: Entry) -> dict[str, Any]:
    """The columns that identify an SAE: site, width, λ, seed, L0."""
    return {
        "site": place_of(entry),
        "width": entry["d_sae"],
        "sparsity": sparsity_of(entry),
        "seed": seed_of(entry),
        "l0": entry["l0"],
    }


def metric_points(documents: Documents, metrics: Iterable[str]) -> list[Point]:
    """A point for every SAE and metric; those that are not defined are left out."""
    found = []
    for metric in metrics:
        for _variant, document, entry in entries_of(documents):
            n = document["tokens"]["n_sequences"]
            if (figure := figure_of(entry, metric, n)) is not None:
                where = {"metric": metric} | columns_of(entry)
                found.append(Point(where, figure.value, figure.low, figure.high, n))
    return found


def kind_of(site: str) -> str:
    """`mlp_out` of `mlp_out.12`."""
    return site.partition(".")[0]


def layer_of(site: str) -> int:
    """12 of `mlp_out.12`; of a transcoder the layer that it reads."""
    return int(site.partition(" ")[0].rpartition(".")[2])


def frontiers(
    points: Iterable[Point], metric: str, *columns: str
) -> dict[tuple[Any, ...], list[tuple[float, Quantity]]]:
    """Frontiers of one metric, by the values of `columns`: (L0, value), the sparsest first.

    SAEs without an active latent are left out.
    """
    found: dict[tuple[Any, ...], list[tuple[float, Quantity]]] = {}
    for point in points:
        if point["metric"] == metric and point["l0"] > 0 and point.value is not None:
            key = tuple(point[name] for name in columns)
            one = Quantity(point.value, point.low, point.high, point.n)
            found.setdefault(key, []).append((point["l0"], one))
    return {key: sorted(many, key=lambda one: one[0]) for key, many in found.items()}


def of_one_seed(curves: Mapping[tuple[Any, ...], Curve]) -> dict[tuple[Any, ...], Curve]:
    """Of frontiers by (…, seed), one for each (…): that of the seed with the most points.

    Of several such seeds the lowest is taken.
    """
    found: dict[tuple[Any, ...], Curve] = {}
    for (*place, _seed), curve in sorted(curves.items(), key=lambda one: one[0][-1]):
        if len(curve) > len(found.get(tuple(place), [])):
            found[tuple(place)] = curve
    return found
