"""Bandwidth: what does ε do? (Footnote 5.) SAEs of one λ with ε over four decades.

Both halves of the claim are read at one λ, paired by seed: L0 and FVU at the largest ε, compared
with the recipe's ε; and how far θ has moved at the smallest.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ....train.frontier import plain_log_axis
from ....train.settings import TrainSettings
from ...page.svg import legend
from ...study.axes import decades_axis, draw_estimates
from ...study.entries import (
    columns_of,
    entries_of,
    figure_of,
    frontiers,
    setting_of,
)
from ...study.pairs import numbers_of, percent, times
from ...study.statistics import (
    Quantity,
    at_l0,
    mean_of,
    verdict_above,
    verdict_below,
    verdict_of_all,
)
from ...study.study import (
    Documents,
    LackError,
    Plot,
    Point,
    Reading,
    Scene,
    Study,
    Variant,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEEDS = 3
FACTORS = (1e-3, 1e-2, 0.1, 0.3, 3.0, 10.0)
"""The ε that are tried, in units of the recipe's."""
RECIPE, OTHERS = "recipe", "others"
METRICS = ("fvu", "delta_loss", "l0", "dead_share", "theta_moved")
FLOOR = 2.0**-24
"""How far a θ counts as moved if float32 shows no move, in units of its start."""
HALF = math.log(0.5)
"""A θ that moves less than half as far as with the recipe's ε does not train."""


def variants(scene: Scene) -> list[Variant]:
    """The suite's λs at the recipe's ε, and the other ε at one λ, some seeds; a quarter of the
    suite's width, with `full` all of it."""
    width = scene.width if scene.full else max(1, scene.width // 4)
    epsilon = _epsilon(scene)
    seeds = list(range(scene.seed, scene.seed + SEEDS))
    shared = {"site": scene.site, "width": width}
    one = shared | {"seed": seeds, "sparsity": scene.sparsity}
    rest = [sparsity for sparsity in scene.sparsities if sparsity != scene.sparsity]
    recipe = [one | {"name": _name(epsilon)}]
    if rest:
        recipe.append(shared | {"seed": scene.seed, "sparsity": rest, "name": _name(epsilon)})
    tables = [
        one | {"bandwidth": value, "name": _name(value)}
        for value in (float(f"{factor * epsilon:.6g}") for factor in FACTORS)
    ]
    return [Variant(RECIPE, sae=recipe), Variant(OTHERS, sae=tables)]


def _epsilon(scene: Scene) -> float:
    """The ε that the suite's SAEs are trained with: given, or by default."""
    values = scene.settings
    if "bandwidth" in values or "recipe" not in values:
        return values.get("bandwidth", TrainSettings.model_fields["bandwidth"].default)
    shape = {"store": "store", "out": "out", "site": scene.site, "width": scene.width}
    return TrainSettings.model_validate(values | shape).resolved_for(scene.d_in).bandwidth


def _name(epsilon: float) -> str:
    return f"bandwidth-{epsilon:g}"


def points(documents: Documents) -> list[Point]:
    """FVU, Δ loss, L0, dead latents and how far θ has moved, of every SAE."""
    found = []
    for metric in METRICS:
        for variant, document, entry in entries_of(documents):
            n = document["tokens"]["n_sequences"]
            moved = metric == "theta_moved"
            figure = _moved(entry) if moved else figure_of(entry, metric, n)
            if figure is not None:
                where = {
                    "metric": metric,
                    "part": variant,
                    "bandwidth": setting_of(entry, "bandwidth"),
                }
                where |= columns_of(entry)
                found.append(Point(where, figure.value, figure.low, figure.high, figure.n))
    if {point["part"] for point in found} < {RECIPE, OTHERS}:
        raise LackError("study bandwidth must have SAEs of the recipe's ε and of others")
    return found


def read(points: list[Point]) -> Reading:
    """Whether a large ε gives sparse but unfaithful SAEs, and with a small one θ does not move."""
    recipe = _recipe(points)
    ladder = sorted({point["bandwidth"] for point in points if point["part"] == OTHERS})
    smallest, largest = ladder[0], ladder[-1]
    sparser = worse = still = None
    at_largest = f"no ε above the recipe's {recipe:.3g} was tried"
    if largest > recipe:
        sparser, worse = (_ratio(points, m, largest, recipe) for m in ("l0", "fvu"))
        at_largest = (
            f"ε {largest:.3g} gives {times(sparser)} times the L0 of the recipe's ε {recipe:.3g}, "
            f"and {times(worse)} times its FVU"
        )
    at_smallest = f"no ε below the recipe's {recipe:.3g} was tried"
    if smallest < recipe:
        still = _ratio(points, "theta_moved", smallest, recipe)
        at_smallest = (
            f"at ε {smallest:.3g} the median θ moves {times(still)} times as far as with the "
            "recipe's"
        )
    unknown = Quantity(0.0)
    verdicts = (
        verdict_below(sparser or unknown),
        verdict_above(worse or unknown),
        verdict_below(still or unknown, HALF),
    )
    excess = {f"{e:.3g}": _excess(points, e) for e in ladder if e != recipe}
    beside = ", ".join(f"{e}: {percent(Quantity(x))}" for e, x in excess.items() if x is not None)
    return Reading(
        verdict_of_all(verdicts),
        f"At one λ, {at_largest}; {at_smallest}. FVU against the recipe's frontier at equal L0, by "
        f"ε, {beside or 'could be compared nowhere'}.",
        "t intervals over seeds of log ratios to the recipe's ε at one λ, paired by seed; the "
        "claim holds if at the largest ε L0 is lower and FVU higher, and at the smallest the "
        "median θ moves less than half as far from its start",
        {
            "recipe": recipe,
            "largest": largest,
            "smallest": smallest,
            "log_ratio_at_largest": {"l0": numbers_of(sparser), "fvu": numbers_of(worse)},
            "log_ratio_at_smallest": {"theta_moved": numbers_of(still)},
            "fvu_over_frontier": {
                e: None if x is None else float(f"{x:.4g}") for e, x in excess.items()
            },
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """L0, FVU and the move of θ by ε, and FVU against L0 beside the recipe's frontier."""

    def by_bandwidth(metric: str, name: str) -> Callable[["Axes"], None]:
        def draw(axes: "Axes") -> None:
            means = _means(points, metric)
            draw_estimates(axes, sorted(means.items()), None, 0)
            decades_axis(axes, "x")
            lowest, log = min(one.value for one in means.values()), ""
            if lowest > 0:
                log = " (log scale)"
                (plain_log_axis if lowest > 1e-4 else decades_axis)(axes, "y")
            axes.set_xlabel("bandwidth ε (log scale)")
            axes.set_ylabel(name + log)

        return draw

    def beside(axes: "Axes") -> None:
        draw_estimates(axes, _frontier(points), "the recipe's ε, over λ", 0)
        l0s, fvus = (sorted(_means(points, metric).items()) for metric in ("l0", "fvu"))
        way = [(l0.value, fvu) for (_, l0), (_, fvu) in zip(l0s, fvus, strict=True)]
        draw_estimates(axes, way, "over ε, at one λ", 1)
        named = l0s[0][0], l0s[-1][0]  # the recipe's ε is on its own frontier
        for (epsilon, _), (l0, fvu) in zip(l0s, way, strict=True):
            if epsilon in named:
                place = {"xytext": (7, 5), "textcoords": "offset points"}
                axes.annotate(f"ε {epsilon:.3g}", (l0, fvu.value), **place)
        axes.margins(0.12)
        plain_log_axis(axes, "x")
        plain_log_axis(axes, "y")
        axes.set_xlabel("L0, mean active latents per token (log scale)")
        axes.set_ylabel("FVU (log scale)")
        legend(axes)

    bars = "Bars: 95% intervals over seeds."
    names = {
        "l0": "L0",
        "fvu": "FVU",
        "theta_moved": "Move of the median θ, in units of its start",
    }
    found = [
        Plot(metric, f"{name} by ε at one λ. {bars}", by_bandwidth(metric, name))
        for metric, name in names.items()
        if _means(points, metric)
    ]
    return [*found, Plot("frontier", f"FVU against L0: ε at one λ, and λ. {bars}", beside)]


def _moved(entry: dict[str, Any]) -> Quantity | None:
    """|median θ − its start| / its start, in the scaled units of training; None if not known."""
    theta = ((entry.get("weights") or {}).get("theta") or {}).get("0.50")
    scale, start = entry["config"].get("normaliser"), setting_of(entry, "theta_start")
    if theta is None or not scale or not start:
        return None
    return Quantity(abs(theta / scale - start) / start)


def _one_sparsity(points: Sequence[Point]) -> float:
    """The λ at which all ε were trained."""
    return next(point["sparsity"] for point in points if point["part"] == OTHERS)


def _recipe(points: Sequence[Point]) -> float:
    """The recipe's ε."""
    return next(point["bandwidth"] for point in points if point["part"] == RECIPE)


def _by_seed(points: Sequence[Point], metric: str, epsilon: float) -> dict[int, float]:
    """Seed -> value of a metric at one ε and the one λ."""
    sparsity = _one_sparsity(points)
    return {
        point["seed"]: point.value
        for point in points
        if point["metric"] == metric
        and (point["bandwidth"], point["sparsity"]) == (epsilon, sparsity)
        and point.value is not None
    }


def _ratio(points: Sequence[Point], metric: str, epsilon: float, recipe: float) -> Quantity | None:
    """Mean log ratio of a metric to its value at the recipe's ε, paired by seed.

    A θ that has not moved counts as moved by FLOOR.
    """
    floor = FLOOR if metric == "theta_moved" else 0.0
    own, other = (
        {seed: max(value, floor) for seed, value in _by_seed(points, metric, e).items()}
        for e in (epsilon, recipe)
    )
    ratios = [
        math.log(own[seed] / other[seed])
        for seed in own
        if seed in other and own[seed] > 0 and other[seed] > 0
    ]
    return mean_of(ratios) if ratios else None


def _means(points: Sequence[Point], metric: str) -> dict[float, Quantity]:
    """ε -> mean of a metric over seeds, at the one λ."""
    found = {}
    for epsilon in {point["bandwidth"] for point in points}:
        if values := list(_by_seed(points, metric, epsilon).values()):
            found[epsilon] = mean_of(values)
    return found


def _frontier(points: Sequence[Point]) -> list[tuple[float, Quantity]]:
    """FVU against L0 over λ with the recipe's ε, at the seed that has all λs."""
    own = [point for point in points if point["part"] == RECIPE]
    curves = frontiers(own, "fvu", "seed")
    return max(curves.values(), key=len, default=[])


def _excess(points: Sequence[Point], epsilon: float) -> float | None:
    """FVU over that of the recipe's frontier at the same L0, minus 1; None outside the frontier."""
    l0, fvu = (_means(points, metric).get(epsilon) for metric in ("l0", "fvu"))
    if l0 is None or fvu is None:
        return None
    there = at_l0(_frontier(points), l0.value)
    return None if there is None else fvu.value / there.value - 1


STUDY = Study(
    name="bandwidth",
    figures=("footnote 5",),
    title="What does the bandwidth ε do?",
    claim="Too large an ε gives sparse but unfaithful SAEs; with too small a one θ does not train.",
    minutes=5,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
)
