"""SAEs' entries in evaluations, as studies read them.

Owns what most studies ask of an entry: its figures with their intervals, its place, its price, and
the frontiers that entries make.
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
    """A headline number with its interval over sequences, where the evaluation has one; None where
    the number is not defined."""
    value = entry.get(metric)
    if value is None:
        return None
    low, high = (entry.get("intervals") or {}).get(metric) or (None, None)
    return Quantity(value, n=n) if None in (low, high) else Quantity(value, low, high, n)


def around(value: float, error: float | None, n_sequences: int) -> Quantity:
    """A value whose standard error is known; without an interval from fewer sequences than an
    evaluation's own intervals need."""
    from ..measure.intervals import MIN_SEQUENCES  # loads torch

    if error is None or n_sequences < MIN_SEQUENCES:
        return Quantity(value)
    return Quantity(value, value - Z * error, value + Z * error)


def sparsity_of(entry: Entry) -> float | None:
    """λ at the end of the SAE's training, where known."""
    return (entry.get("config") or {}).get("sparsity")


def setting_of(entry: Entry, name: str) -> Any:
    """A setting of the SAE's training; None where it is not recorded."""
    return ((entry.get("training") or {}).get("settings") or {}).get(name)


def seed_of(entry: Entry) -> int:
    """Seed of the SAE's start; 0 where it is not known."""
    return setting_of(entry, "seed") or 0


def place_of(entry: Entry) -> str:
    """Where it reads, and where it writes if that is elsewhere."""
    site, target = entry["site"], entry["target_site"]
    return site if site == target else f"{site} → {target}"


def told_apart(saes: Iterable[tuple[str, int, str]]) -> list[str]:
    """Of SAEs by (place, width, name): each one's place, with its width where the place has
    several; its name where that is not enough."""
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
    """What tells one SAE from another: site, width, λ, seed, L0."""
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
    """Points of one metric as frontiers, (L0, value) from the sparsest on, by their columns. SAEs
    without an active latent have no place on them."""
    found: dict[tuple[Any, ...], list[tuple[float, Quantity]]] = {}
    for point in points:
        if point["metric"] == metric and point["l0"] > 0 and point.value is not None:
            key = tuple(point[name] for name in columns)
            one = Quantity(point.value, point.low, point.high, point.n)
            found.setdefault(key, []).append((point["l0"], one))
    return {key: sorted(many, key=lambda one: one[0]) for key, many in found.items()}


def of_one_seed(curves: Mapping[tuple[Any, ...], Curve]) -> dict[tuple[Any, ...], Curve]:
    """Frontiers by columns of which the last is the seed, without it: at each place those of the
    seed with most points, the lowest of several."""
    found: dict[tuple[Any, ...], Curve] = {}
    for (*place, _seed), curve in sorted(curves.items(), key=lambda one: one[0][-1]):
        if len(curve) > len(found.get(tuple(place), [])):
            found[tuple(place)] = curve
    return found
