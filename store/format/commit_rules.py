"""Rules that a commit record must fulfil to fit its store's root.

Owns each rule and its error. `commits` reads the records.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from .arrays import ArrayLayout, ShardRecord
from .values import SiteSums

_SLACK = 1e-6
"""Relative error by which sums may break the Cauchy-Schwarz inequality, because of rounding."""


def check_names(what: str, found: Iterable[str], expected: Iterable[str]) -> None:
    """Refuses missing and unknown names."""
    for name in sorted(set(found) ^ set(expected)):
        has = "no" if name in expected else "also"
        raise ValueError(f"{what} must be those of the store's spec, got {has} {name[:200]!r}")


def check_sums(site: str, sums: SiteSums, layout: ArrayLayout, rows: int) -> None:
    """Refuses sums that no n = `rows` rows of the site can have: of another width, not finite, or
    against the Cauchy-Schwarz inequality ‖Σx‖² ≤ n Σ‖x‖²."""
    width, is_int8 = layout.width or 1, layout.codec.dtype == "int8"
    if sums.total.shape != (width,) or not np.isfinite(sums.total).all():
        raise ValueError(f"sum of {site} must be {width} finite numbers, got {_shown(sums.total)}")
    limit = (1 + _SLACK) * np.sqrt(float(rows)) * np.sqrt(sums.squares)
    if not np.linalg.norm(sums.total) <= limit:
        raise ValueError(
            f"sum_squares of {site} must be at least ‖sum‖²/rows, got {sums.squares:g} for"
            f" ‖sum‖ {np.linalg.norm(sums.total):g} of {rows} rows"
        )
    if is_int8 != (sums.scale is not None):
        got = "none" if is_int8 else f"one for codec {layout.codec.dtype}"
        raise ValueError(f"scale of {site} must be there for int8 and no other codec, got {got}")
    if sums.scale is None:
        return
    if sums.scale.shape != (width,) or not (np.isfinite(sums.scale) & (sums.scale > 0)).all():
        raise ValueError(
            f"scale of {site} must be {width} finite numbers above 0, got {_shown(sums.scale)}"
        )
    if sums.saturated > rows * width:
        raise ValueError(f"saturated of {site} must be at most rows · d, got {sums.saturated}")


def check_shards(
    records: Sequence[ShardRecord], layout: ArrayLayout, start: int, rows: int
) -> None:
    """Refuses shards other than those of rows [start, start + rows)."""
    first = start // layout.shard_rows
    expected = range(first, first - (-rows // layout.shard_rows))
    found = [record.shard for record in records]
    if found != list(expected):
        raise ValueError(f"shards of {layout.path} must be {_range(expected)}, got {_range(found)}")
    for record in records:
        if not layout.index_bytes <= record.n_bytes <= layout.max_shard_bytes:
            raise ValueError(
                f"shard {record.shard} of {layout.path} must have {layout.index_bytes} to"
                f" {layout.max_shard_bytes} bytes, got {record.n_bytes}"
            )


def _shown(values: np.ndarray) -> str:
    """The number of values, and the first that is not finite."""
    odd = values[~np.isfinite(values)]
    return f"{len(values)}" + (f" with {odd[0]}" if len(odd) else "")


def _range(numbers: Sequence[int]) -> str:
    return f"{numbers[0]} … {numbers[-1]} ({len(numbers)})" if len(numbers) else "none"
