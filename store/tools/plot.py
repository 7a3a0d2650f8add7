"""The picture of `store stats --plot`: a row of three plots per site."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..place.files import write_file
from .statistics import OUTLIER, SiteStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
_NAMED = 5
"""Outlier channels that are marked with their number."""

_LEAST_SPREAD = 1e-4
"""Relative width of the norm axis, at least: closer norms are one bar, and ticks stay readable."""

_LOGARITHMIC_FROM = 10
"""Largest kurtosis that is shown on a linear axis."""


def check_path(path: Path) -> None:
    """Checks, before the store is read, that `plot` can write a file.

    Raises:
        ValueError: its name ends in no known format, or its folder does not exist.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"plot must end in {', '.join(FORMATS)}, got {path}")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"plot must be in a folder that exists, got {path}; make it first")


def plot(sites: Sequence[SiteStatistics], path: Path) -> None:
    """Draws per site a histogram of norms, root mean square by channel with outliers marked, and
    kurtosis by channel; writes the picture to `path`."""
    picture = io.BytesIO()
    drawn(sites).savefig(picture, format=path.suffix[1:], dpi=120)
    write_file(path, picture.getvalue())


def drawn(sites: Sequence[SiteStatistics]) -> "Figure":
    """The matplotlib figure that `plot` writes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3 * len(sites)), layout="constrained")
    for line, found in zip(figure.subplots(len(sites), 3, squeeze=False), sites, strict=True):
        _norms(line[0], found)
        _rms(line[1], found)
        _kurtosis(line[2], found)
    return figure


def _norms(axes: "Axes", found: SiteStatistics) -> None:
    low, median, high = found.norm_quantiles
    half = max(np.ptp(found.norms) / 2, _LEAST_SPREAD * abs(median)) or 0.5
    middle = float(found.norms.min() + np.ptp(found.norms) / 2)
    shown = (middle - half, middle + half)
    axes.hist(found.norms, bins=min(100, 1 + found.rows // 20), range=shown, color="C0")
    for value, style in ((low, ":"), (median, "-"), (high, ":")):
        axes.axvline(value, color="black", linewidth=0.8, linestyle=style)
    axes.set(
        title=f"{found.site}, {found.rows:,} rows",
        xlabel="‖x‖ (lines: 1%, 50%, 99%)",
        ylabel="rows",
    )
    _without_offset(axes)


def _rms(axes: "Axes", found: SiteStatistics) -> None:
    axes.plot(found.rms, ".", markersize=2, color="C0")
    outliers = found.outlier_channels
    axes.plot(outliers, found.rms[outliers], "o", color="C3", markersize=4)
    for channel in outliers[:_NAMED]:
        axes.annotate(
            str(channel),
            (channel, found.rms[channel]),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color="C3",
        )
    median = float(np.median(found.rms))
    axes.axhline(median, color="black", linewidth=0.8)
    axes.axhline(OUTLIER * median, color="C3", linewidth=0.8, linestyle=":")
    axes.set(
        title=f"{len(outliers)} outlier channels: {found.outlier_energy:.1%} of Σ‖x‖²",
        xlabel=f"channel (lines: median, {OUTLIER:g} × median)",
        ylabel="root mean square",
    )
    if (found.rms > 0).any():
        _logarithmic(axes)


def _kurtosis(axes: "Axes", found: SiteStatistics) -> None:
    channels = np.arange(len(found.rms))
    axes.plot(channels, found.channel_kurtosis, ".", markersize=2, color="C0")
    outliers = found.outlier_channels
    axes.plot(outliers, found.channel_kurtosis[outliers], "o", color="C3", markersize=4)
    axes.axhline(3, color="black", linewidth=0.8)
    axes.set(
        title="no channel varies"
        if np.isnan(found.kurtosis)
        else f"mean kurtosis {found.kurtosis:.3g}",
        xlabel="channel (line: 3, a normal distribution)",
        ylabel="kurtosis",
    )
    if np.nanmax(found.channel_kurtosis, initial=0) > _LOGARITHMIC_FROM:
        _logarithmic(axes)
    else:
        _without_offset(axes)


def _without_offset(axes: "Axes") -> None:
    """Ticks show whole values instead of an offset, and are few enough for their digits."""
    axes.ticklabel_format(useOffset=False)
    axes.locator_params(axis="x", nbins=5)


def _logarithmic(axes: "Axes") -> None:
    """A logarithmic y axis with ticks at 1, 2 and 5, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
