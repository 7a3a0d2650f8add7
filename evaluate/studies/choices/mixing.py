"""Mixing: would a perfect shuffle of the rows help? (Section 3.1 guesses, without a check.)

The same rows, in five orders from little to full mixing, train the same SAEs for as many updates.
FVU and Δ loss are compared at equal L0 and paired by seed, which sets weights and order.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ....train.frontier import plain_log_axis
from ...page.svg import legend
from ...study.axes import draw_estimates
from ...study.entries import entries_of, figure_of, frontiers, seed_of, setting_of, sparsity_of
from ...study.pairs import as_change, numbers_of, paired, percent
from ...study.statistics import Curve, Quantity, mean_of
from ...study.study import (
    Documents,
    LackError,
    Plot,
    Point,
    Reading,
    Scene,
    Study,
    Table,
    Variant,
    Verdict,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEEDS = 3
MARGIN = 0.01
"""Relative: a smaller gain of FVU is no help. At a fixed L0, 1% equals about 2% more latents."""
ALL_ROWS = 10**12
SMALL, BUCKET = 4, 64
"""Windows, in batches. The report's buckets of 10^6 rows are 244 batches of 4,096."""
USUAL = "usual"
METRICS = ("fvu", "delta_loss")


def orders(batch: int) -> dict[str, int | None]:
    """Order -> rows among which a row is shuffled; None: the store's buckets and stream."""
    return {
        "sequence": 1,
        "small": SMALL * batch,
        "bucket": BUCKET * batch,
        USUAL: None,
        "perfect": ALL_ROWS,
    }


def variants(scene: Scene) -> list[Variant]:
    """Five orders, two λs, three seeds; a quarter of the suite's width, with `full` all of it."""
    width = scene.width if scene.full else max(1, scene.width // 4)
    found: list[Table] = []
    for seed in range(scene.seed, scene.seed + SEEDS):
        for name, rows in orders(scene.settings.get("batch", 4096)).items():
            table = {"name": f"mixing-{name}", "site": scene.site, "width": width, "seed": seed}
            table |= {"stream_seed": seed, "sparsity": two_prices(scene)}
            found.append(table if rows is None else table | {"shuffle_rows": rows})
    return [Variant("orders", sae=found)]


def two_prices(scene: Scene) -> list[float]:
    """The λ for a study of one λ, and the next below it."""
    below = [sparsity for sparsity in scene.sparsities if sparsity < scene.sparsity]
    return [below[-1] if below else scene.sparsity / 2, scene.sparsity]


def points(documents: Documents) -> list[Point]:
    """FVU, Δ loss and L0 of every SAE; and how mixed its batches were, if that is known."""
    found = []
    for metric in (*METRICS, "l0", "mixing"):
        for _, document, entry in entries_of(documents):
            n = document["tokens"]["n_sequences"]
            figure = figure_of(entry, metric, n)
            if metric == "mixing":
                known = document.get("mixing")
                figure = Quantity(known["measured"], n=known["batches"]) if known else None
            if figure is not None:
                where = {"metric": metric, "order": _order(entry)} | _columns(entry)
                found.append(Point(where, figure.value, figure.low, figure.high, figure.n))
    if len({point["order"] for point in found} & {USUAL, "perfect"}) < 2:
        raise LackError("study mixing must have SAEs of the usual order and of a perfect shuffle")
    return found


def read(points: list[Point]) -> Reading:
    """Whether a perfect shuffle gives a lower FVU than the usual one, by more than the margin."""
    changes = {metric: _changes(points, metric) for metric in METRICS}
    of_fvu = changes["fvu"]
    perfect = of_fvu.get("perfect")
    costs = [f"{_title(points, o)} {percent(c)}" for o, c in of_fvu.items() if o != "perfect"]
    loss = [f"{_title(points, o)} {percent(c)}" for o, c in changes["delta_loss"].items()]
    n = 0 if perfect is None else perfect.n
    return Reading(
        _verdict(perfect),
        f"At equal L0, a perfect shuffle changes FVU by {percent(perfect)} against the usual "
        f"shuffle in buckets and stream ({n} seeds); {', '.join(costs)}. Δ loss: "
        f"{', '.join(loss)}.",
        "t interval over seeds of the mean log ratio of FVU at equal L0, paired by seed; the claim "
        f"holds if a perfect shuffle lowers it by less than {MARGIN:.0%}, and does not if it "
        "lowers it by more",
        {
            "margin": MARGIN,
            "change": {
                metric: {order: numbers_of(one) for order, one in found.items()}
                for metric, found in changes.items()
            },
            "row_pairs_of_one_sequence": {
                order: share.numbers()[0] for order, share in _mixed(points).items()
            },
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """The change of FVU and Δ loss by order, and that of FVU against how mixed the batches are."""
    changes = {metric: _changes(points, metric) for metric in METRICS}
    names = [name for name in orders(1) if any(point["order"] == name for point in points)]
    mixed = _mixed(points)

    def by_order(axes: "Axes") -> None:
        for i, (metric, title) in enumerate(zip(METRICS, ("FVU", "Δ loss"), strict=True)):
            own = changes[metric]
            shown = [(names.index(o) + 0.16 * i - 0.08, in_percent(c)) for o, c in own.items() if c]
            shown += [(names.index(USUAL) + 0.16 * i - 0.08, Quantity(0.0))]
            draw_estimates(axes, sorted(shown, key=lambda one: one[0]), title, i)
        axes.axhline(0, color="#888888", linewidth=0.8)
        axes.set_xticks(range(len(names)), [_tick(points, name) for name in names])
        axes.set_ylabel("change against the usual, %")
        legend(axes)

    def by_mixing(axes: "Axes") -> None:
        own = {o: c for o, c in changes["fvu"].items() if c is not None and o in mixed}
        usual = {USUAL: Quantity(0.0)} if USUAL in mixed else {}
        shown = [(100 * mixed[o].value, in_percent(c)) for o, c in (own | usual).items()]
        draw_estimates(axes, sorted(shown, key=lambda one: one[0]), None, 0)
        plain_log_axis(axes, "x")
        axes.axhline(0, color="#888888", linewidth=0.8)
        axes.set_xlabel("row pairs from one sequence, % (log scale)")
        axes.set_ylabel("FVU against the usual, %")

    bars = "Bars: 95% intervals over seeds."
    found = [
        Plot("orders", f"What less shuffling costs, and more gains, at equal L0. {bars}", by_order)
    ]
    if len([share for share in mixed.values() if share.value > 0]) == len(mixed) > 1:
        found.append(Plot("mixing", f"FVU against how mixed the batches are. {bars}", by_mixing))
    return found


def in_percent(change: Quantity) -> Quantity:
    """A share in percent."""
    low, high = (None if v is None else 100 * v for v in (change.low, change.high))
    return Quantity(100 * change.value, low, high, change.n)


def _order(entry: dict[str, Any]) -> str:
    """The order's name."""
    rows, batch = setting_of(entry, "shuffle_rows"), setting_of(entry, "batch") or 4096
    return next((name for name, own in orders(batch).items() if own == rows), f"window {rows}")


def _columns(entry: dict[str, Any]) -> dict[str, Any]:
    """The columns that identify an SAE here."""
    return {
        "shuffle_rows": setting_of(entry, "shuffle_rows"),
        "sparsity": sparsity_of(entry),
        "seed": seed_of(entry),
        "l0": entry["l0"],
    }


def _changes(points: Sequence[Point], metric: str) -> dict[str, Quantity | None]:
    """Order -> relative change against the usual order at equal L0, over seeds."""
    curves: dict[str, dict[int, Curve]] = {}
    for (order, seed), curve in frontiers(points, metric, "order", "seed").items():
        curves.setdefault(order, {})[seed] = curve
    usual = curves.get(USUAL, {})
    names = [name for name in orders(1) if name in curves and name != USUAL]
    return {name: as_change(paired(curves[name], usual)) for name in names}


def _mixed(points: Sequence[Point]) -> dict[str, Quantity]:
    """Order -> share of a batch's row pairs that are of one sequence."""
    shares: dict[str, dict[Any, float]] = {}
    for point in points:
        if point["metric"] == "mixing" and point.value is not None:
            shares.setdefault(point["order"], {})[point["seed"]] = point.value
    return {name: mean_of(list(shares[name].values())) for name in orders(1) if name in shares}


def _verdict(change: Quantity | None) -> Verdict:
    """By the interval and the margin."""
    if change is None or change.low is None or change.high is None:
        return "cannot be told"
    if change.low > -MARGIN:
        return "holds"
    return "does not hold" if change.high < -MARGIN else "cannot be told"


def _rows(points: Sequence[Point], order: str) -> int:
    return next(point["shuffle_rows"] or 0 for point in points if point["order"] == order)


def _title(points: Sequence[Point], order: str) -> str:
    """An order's name in a sentence."""
    titles = {"sequence": "no shuffle", "perfect": "a perfect shuffle"}
    window = f"windows of {_rows(points, order):,} rows one after the other"
    return titles.get(order, window)


def _tick(points: Sequence[Point], order: str) -> str:
    """An order's name under the axis."""
    ticks = {"sequence": "not\nshuffled", USUAL: "usual", "perfect": "perfect"}
    return ticks.get(order, f"windows\nof {_rows(points, order):,}")


STUDY = Study(
    name="mixing",
    figures=("Section 3.1",),
    title="Would a perfect shuffle of the rows help?",
    claim="Shuffling within buckets is enough: a perfect shuffle over all rows would not help.",
    minutes=7,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
)
