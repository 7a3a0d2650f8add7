"""What the rows of a store look like: norms, tails, outlier channels, and how well they are mixed.

Reads a sample of chunks spread evenly over the store. Exact sums over all rows are in the commits,
not here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .order import Order
from .reader import ActivationStore

_OUTLIER = 6.0
"""A channel is an outlier if its root mean square is this many times the median channel's."""


@dataclass(frozen=True)
class SiteStatistics:
    """Figures of one site over a sample of rows."""

    site: str
    rows: int
    norm_quantiles: tuple[float, float, float]
    """1%, 50% and 99% of ‖x‖."""
    kurtosis: float
    """E(x−μ)⁴ / (E(x−μ)²)² per channel, averaged over channels; 3 for a normal distribution."""
    outlier_channels: list[int]
    outlier_energy: float
    """Their share of Σ‖x‖²."""

    def line(self) -> str:
        """The figures as one line."""
        low, median, high = self.norm_quantiles
        channels = ", ".join(str(channel) for channel in self.outlier_channels[:8]) or "none"
        more = " …" if len(self.outlier_channels) > 8 else ""
        return (
            f"{self.site}: norm {low:.4g} / {median:.4g} / {high:.4g} (1%, 50%, 99%), kurtosis"
            f" {self.kurtosis:.3g}, outlier channels {channels}{more}"
            f" with {self.outlier_energy:.1%} of the energy ({self.rows:,} rows)"
        )


@dataclass(frozen=True)
class Mixing:
    """How often two rows of a batch come from one sequence, against a perfect shuffle."""

    measured: float
    """Share of row pairs of one batch that are of the same sequence, averaged over the batches."""
    perfect: float
    """The same share for batches drawn at random from the whole store."""
    batches: int
    batch_rows: int

    def line(self) -> str:
        """The figures as one line."""
        ratio = self.measured / self.perfect if self.perfect else float("nan")
        return (
            f"mixing: {self.measured:.3g} of the row pairs in a batch of {self.batch_rows:,}"
            f" share a sequence, {self.perfect:.3g} in a perfect shuffle (ratio {ratio:.2f},"
            f" {self.batches} batches)"
        )


def site_statistics(store: ActivationStore, site: str, rows: int) -> SiteStatistics:
    """Figures of a site over about `rows` rows in chunks spread evenly over the store."""
    x = torch.cat([store.read(site, a, b) for a, b in _spread(store, rows)]).double()
    norms = x.norm(dim=1)
    low, median, high = np.quantile(norms.numpy(), (0.01, 0.5, 0.99))
    energy = (x * x).mean(0)
    rms = energy.sqrt()
    outliers = torch.nonzero(rms > _OUTLIER * rms.median()).flatten()
    centred = x - x.mean(0)
    variance = (centred * centred).mean(0)
    alive = variance > 0
    kurtosis = ((centred**4).mean(0)[alive] / variance[alive] ** 2).mean()
    share = float(energy[outliers].sum() / energy.sum()) if float(energy.sum()) else 0.0
    by_size = outliers[torch.argsort(rms[outliers], descending=True)].tolist()
    return SiteStatistics(
        site, len(x), (float(low), float(median), float(high)), float(kurtosis), by_size, share
    )


def mixing(
    store: ActivationStore, batch_rows: int = 4096, batches: int = 16, seed: int = 0
) -> Mixing:
    """Mixing of the batches that a stream of this store hands out.

    For a batch of B rows with n_s rows of sequence s, the share of pairs is Σ n_s(n_s−1) /
    (B(B−1)); a perfect shuffle of N rows with N_s of sequence s expects Σ N_s(N_s−1) / (N(N−1)).
    """
    batch_rows = min(batch_rows, store.rows)
    shares = []
    for batch in range(min(batches, store.rows // batch_rows)):
        ranges = _batch_ranges(store, seed, batch * batch_rows, batch_rows)
        labels = [store.labels(start, stop).sequence for start, stop in ranges]
        shares.append(_pair_share(np.concatenate(labels)))
    return Mixing(float(np.mean(shares)), _expected_share(store), len(shares), batch_rows)


def _batch_ranges(
    store: ActivationStore, seed: int, start: int, n: int
) -> Iterator[tuple[int, int]]:
    """Row numbers [start, stop) in the store of the rows [start, start + n) of a stream."""
    sizes = [commit.rows for commit in store.commits]
    begins = np.concatenate([[0], np.cumsum(sizes)])
    order = Order(sizes, store.spec.chunk_rows, seed)
    for piece in order.pieces(start, n):
        first = int(begins[piece.bucket]) + piece.chunk * store.spec.chunk_rows + piece.first
        yield first, first + piece.rows


def _expected_share(store: ActivationStore) -> float:
    """Σ N_s(N_s−1) / (N(N−1)), counted bucket by bucket."""
    counts: dict[int, int] = {}
    start = 0
    for commit in store.commits:
        sequences, n = np.unique(
            store.labels(start, start + commit.rows).sequence, return_counts=True
        )
        for sequence, count in zip(sequences.tolist(), n.tolist(), strict=True):
            counts[sequence] = counts.get(sequence, 0) + count
        start += commit.rows
    values = np.fromiter(counts.values(), dtype=np.float64)
    total = values.sum()
    return float((values * (values - 1)).sum() / max(total * (total - 1), 1))


def _pair_share(sequences: np.ndarray) -> float:
    counts = np.unique(sequences, return_counts=True)[1].astype(np.float64)
    n = counts.sum()
    return float((counts * (counts - 1)).sum() / max(n * (n - 1), 1))


def _spread(store: ActivationStore, rows: int) -> list[tuple[int, int]]:
    """Row ranges of about a chunk each, evenly over the store."""
    size = store.spec.chunk_rows
    count = min(-(-rows // size), -(-store.rows // size))
    starts = np.linspace(0, max(store.rows - size, 0), count).astype(int)
    ranges, last = [], 0
    for start in starts.tolist():
        stop = min(start + size, store.rows)
        ranges.append((max(start, last), stop))
        last = stop
    return [(a, b) for a, b in ranges if a < b]
