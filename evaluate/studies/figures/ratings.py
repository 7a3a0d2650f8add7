"""Ratings: do people find the latents of different SAEs equally clear? (Figure 6)

Owns the comparison of shares of YES. Answers come from `scopeworks latents rate`. A latent is one
draw, no matter how many people rated it.
"""

import itertools
from typing import TYPE_CHECKING, Any

from ...page.svg import legend, look
from ...study.entries import place_of, told_apart
from ...study.statistics import Quantity, chosen_range, share_of, verdict_below
from ...study.study import AbsentError, Documents, Plot, Point, Reading, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ANSWERS = ("YES", "MAYBE", "NO")
GROUPS = ("rarest third", "middle third", "most frequent third")
ALL, ALPHA = "all", "Krippendorff's alpha"
MARGIN = 0.2
"""Shares of YES within this of each other count as about equal."""


def points(documents: Documents) -> list[Point]:
    """The share of each answer by SAE, and of YES by firing frequency; agreement of the raters."""
    (found,) = (document["ratings"] for many in documents.values() for document in many)
    rated = [sae for sae in found["saes"] if sae["latents"]]
    if len(rated) < 2:
        raise AbsentError(
            "study ratings must have ratings of two SAEs or more, got those of "
            f"{len(rated)}; rate more: scopeworks latents rate INDEX_DIR INDEX_DIR --rater NAME "
            "--out DIR"
        )
    places = [place_of(sae) for sae in rated]
    names = told_apart(
        (place, sae["d_sae"], sae["name"]) for place, sae in zip(places, rated, strict=True)
    )
    own = [point for name, sae in zip(names, rated, strict=True) for point in _points(name, sae)]
    alpha = found["agreement"]
    where = dict.fromkeys(own[0].where) | {"metric": ALPHA}
    return [*own, Point(where, alpha["alpha"], alpha["low"], alpha["high"], alpha["n"])]


def _points(name: str, sae: dict[str, Any]) -> list[Point]:
    """One SAE's."""
    latents = sorted(sae["latents"], key=lambda one: one["density"])
    where = {"sae": name, "site": place_of(sae), "width": sae["d_sae"], "l0": sae["l0"]}

    def point(metric: str, group: str, some: list[dict[str, Any]]) -> Point:
        total = sum(one["shares"][ANSWERS.index(metric)] for one in some)
        one = share_of(total, len(some))
        return Point(
            {"metric": metric, "frequency": group, **where}, one.value, one.low, one.high, one.n
        )

    edges = [round(len(latents) * i / len(GROUPS)) for i in range(len(GROUPS) + 1)]
    thirds = [latents[a:b] for a, b in itertools.pairwise(edges)]
    return [point(answer, ALL, latents) for answer in ANSWERS] + [
        point("YES", group, some) for group, some in zip(GROUPS, thirds, strict=True) if some
    ]


def read(points: list[Point]) -> Reading:
    """Whether the shares of YES of all SAEs are within `MARGIN` of each other."""
    found = _by_sae(points, "YES")
    ordered = sorted(found.items(), key=lambda one: one[1].value)
    (low, _), (high, _) = ordered[0], ordered[-1]
    gap, p = chosen_range([one for _, one in ordered])
    alpha = next(point for point in points if point["metric"] == ALPHA)
    shown = "; ".join(f"{name}: {_percent(one)} of {one.n}" for name, one in found.items())
    return Reading(
        verdict_below(gap, MARGIN),
        f"Latents that people find clear (YES), {shown}. {high} minus {low}: {_points_of(gap)}, "
        f"which the widest gap of {len(ordered)} equal SAEs reaches with p = {p or 0.0:.2g}. "
        f"Agreement of raters: {_agreement(alpha)}.",
        "Wilson's 95% intervals over latents, each with the mean of its raters' answers; highest "
        "and lowest share of YES are chosen by these values, so their difference has the interval "
        f"of a studentised range; the claim holds if that is below {100 * MARGIN:.0f} percentage "
        "points, and does not if it is above",
        {
            "yes": {name: one.numbers() for name, one in found.items()},
            "highest_minus_lowest": gap.numbers(),
            "p": None if p is None else float(f"{p:.3g}"),
            "alpha": _quantity(alpha).numbers() if alpha.value is not None else None,
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """The three answers by SAE, and YES by frequency."""
    names = list(_by_sae(points, "YES"))

    def shares(axes: "Axes") -> None:
        series = {answer: _by_sae(points, answer) for answer in ANSWERS}
        _draw(axes, names, series)
        axes.set_xlabel("share of the latents")

    def frequency(axes: "Axes") -> None:
        _draw(axes, names, {group: _by_sae(points, "YES", group) for group in GROUPS})
        axes.set_xlabel("share of the latents rated YES")

    bars = "Bars: 95% intervals over latents."
    return [
        Plot(
            "shares", f"What people say of latents, blind to their SAE (Figure 6). {bars}", shares
        ),
        Plot("frequency", f"YES by how often a latent fires. {bars}", frequency),
    ]


def _draw(axes: "Axes", names: list[str], series: dict[str, dict[str, Quantity]]) -> None:
    """A row for each SAE, a mark for each series."""
    for i, (label, values) in enumerate(series.items()):
        shift = 0.22 * (i - (len(series) - 1) / 2)
        known = [(k, values[name]) for k, name in enumerate(names) if name in values]
        low = [max(0.0, one.value - (one.low or 0.0)) for _, one in known]
        high = [max(0.0, (one.high or 0.0) - one.value) for _, one in known]
        style: dict[str, Any] = look(i) | {"linestyle": "none"}
        axes.errorbar(
            [one.value for _, one in known],
            [k + shift for k, _ in known],
            xerr=[low, high],
            label=label,
            **style,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    axes.grid(visible=False, axis="y")
    legend(axes)


def _by_sae(points: list[Point], metric: str, group: str = ALL) -> dict[str, Quantity]:
    """SAE -> its share."""
    key = (metric, group)
    return {p["sae"]: _quantity(p) for p in points if (p["metric"], p["frequency"]) == key}


def _quantity(point: Point) -> Quantity:
    """A point's value with its interval."""
    assert point.value is not None
    return Quantity(point.value, point.low, point.high, point.n)


def _percent(one: Quantity) -> str:
    """A share with its interval, in percent."""
    shown = f"{100 * one.value:.0f}%"
    if one.low is None or one.high is None:
        return shown
    return f"{shown} ({100 * one.low:.0f} to {100 * one.high:.0f})"


def _points_of(one: Quantity) -> str:
    """A difference of shares with its interval, in percentage points."""
    value, low, high = (f"{round(100 * (v or 0.0))}" for v in (one.value, one.low, one.high))
    return f"{value} percentage points ({low} to {high})"


def _agreement(alpha: Point) -> str:
    """Krippendorff's alpha in words."""
    if alpha.value is None:
        return (
            "cannot be told, because no latent has two answers or all answers are equal "
            f"({alpha.n} shared)"
        )
    return f"{ALPHA} {_quantity(alpha)} on {alpha.n} latents"


STUDY = Study(
    name="ratings",
    figures=("6",),
    title="Do people find the latents of different SAEs equally clear?",
    claim="Latents of different SAEs are about equally clear to people who do not know whose they "
    "are.",
    minutes=0.1,
    variants=lambda _scene: [],
    points=points,
    read=read,
    plots=plots,
)
