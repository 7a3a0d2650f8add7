"""Statistics of the rows of a site: norms, kurtosis, outlier channels.

Reads a sample of chunks spread evenly over the store, a block of rows at a time; memory grows by 8
bytes a row. Exact sums over all rows are in the commit records. `mixing` measures how well rows are
mixed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ...arguments import whole
from ..read.joining import AnyPlaces
from ..read.reader import ActivationStore

OUTLIER = 6.0
"""A channel is an outlier if its root mean square is above this many times the median channel's."""

_BLOCK_ROWS = 256


@dataclass(frozen=True)
class SiteStatistics:
    """Figures of one site over a sample of rows."""

    site: str
    norms: Float64[np.ndarray, "rows"]
    """‖x‖ of the sample's rows."""
    rms: Float64[np.ndarray, "d"]
    """Root mean square per channel."""
    channel_kurtosis: Float64[np.ndarray, "d"]
    """E(x−μ)⁴ / (E(x−μ)²)² per channel; 3 for a normal distribution, NaN for a constant channel."""

    @property
    def rows(self) -> int:
        """Rows of the sample."""
        return len(self.norms)

    @property
    def norm_quantiles(self) -> tuple[float, float, float]:
        """1%, 50% and 99% of ‖x‖."""
        low, median, high = np.quantile(self.norms, (0.01, 0.5, 0.99))
        return float(low), float(median), float(high)

    @property
    def kurtosis(self) -> float:
        """Kurtosis averaged over the channels that vary."""
        found = self.channel_kurtosis[~np.isnan(self.channel_kurtosis)]
        return float(found.mean()) if len(found) else float("nan")

    @property
    def outlier_channels(self) -> list[int]:
        """The outlier channels, the largest first."""
        outliers = np.flatnonzero(self.rms > OUTLIER * np.median(self.rms))
        return outliers[np.argsort(-self.rms[outliers], kind="stable")].tolist()

    @property
    def outlier_energy(self) -> float:
        """Share of Σ‖x‖² in the outlier channels."""
        energy = self.rms**2
        return float(energy[self.outlier_channels].sum() / max(energy.sum(), 1e-300))

    def line(self) -> str:
        """The figures as one line."""
        low, median, high = self.norm_quantiles
        outliers = self.outlier_channels
        channels = ", ".join(str(channel) for channel in outliers[:8]) or "none"
        more = " …" if len(outliers) > 8 else ""
        kurtosis = "no channel varies"
        if not np.isnan(self.kurtosis):
            kurtosis = f"kurtosis {self.kurtosis:.3g}"
        return (
            f"{self.site}: norm {low:.4g} / {median:.4g} / {high:.4g} (1%, 50%, 99%), {kurtosis},"
            f" outlier channels {channels}{more}"
            f" with {self.outlier_energy:.1%} of the energy ({self.rows:,} rows)"
        )


def site_statistics(store: ActivationStore | AnyPlaces, site: str, rows: int) -> SiteStatistics:
    """Figures of a site over about `rows` rows in chunks spread evenly over the store.

    Args:
        store: an open store, or what `ActivationStore.open` takes.
        site: one of its sites.
        rows: at least so many, if the store has them.

    Raises:
        ValueError: no such site, or no committed rows.
    """
    store = store if isinstance(store, ActivationStore) else ActivationStore.open(store)
    rows = whole("rows", rows, 1)
    moments = _Moments(store.mean(site).numpy())
    for start, stop in _spread(store, rows):
        chunk = store.read(site, start, stop).numpy()
        for first in range(0, len(chunk), _BLOCK_ROWS):
            moments.add(chunk[first : first + _BLOCK_ROWS].astype(np.float64))
    return moments.result(site)


class _Moments:
    """Sums of powers of x − c, where c is near the mean.

    The central moments follow from them without loss of digits, even if a channel's mean is large.
    """

    def __init__(self, centre: Float64[np.ndarray, "d"]):
        self._centre = centre
        self._powers = np.zeros((4, len(centre)))
        self._squares = np.zeros(len(centre))
        self._norms: list[np.ndarray] = []

    def add(self, x: Float64[np.ndarray, "rows d"]) -> None:
        squares = x * x
        self._squares += squares.sum(0)
        self._norms.append(np.sqrt(squares.sum(1)))
        deviation = x - self._centre
        power = deviation.copy()
        for i in range(len(self._powers)):
            self._powers[i] += power.sum(0)
            power *= deviation

    def result(self, site: str) -> SiteStatistics:
        norms = np.concatenate(self._norms)
        # m_k = E(x−c)^k; variance m2 − m1²; E(x−μ)⁴ = m4 − 4 m1 m3 + 6 m1² m2 − 3 m1⁴.
        first, second, third, fourth = self._powers / len(norms)
        variance = second - first**2
        fourth += -4 * first * third + 6 * first**2 * second - 3 * first**4
        rms = np.sqrt(self._squares / len(norms))
        varies = variance > (1e-9 * rms) ** 2
        kurtosis = np.full(len(rms), np.nan)
        kurtosis[varies] = fourth[varies] / variance[varies] ** 2
        return SiteStatistics(site, norms, rms, kurtosis)


def _spread(store: ActivationStore, rows: int) -> Iterator[tuple[int, int]]:
    """Row ranges of about a chunk each, spread evenly over the store, without overlap."""
    size = store.spec.chunk_rows
    count = min(-(-rows // size), -(-store.rows // size))
    starts = np.linspace(0, max(store.rows - size, 0), count).astype(int)
    last = 0
    for start in starts.tolist():
        stop = min(start + size, store.rows)
        if stop > last:
            yield max(start, last), stop
        last = stop
