"""Saturation: values that int8 has cut at ±127 steps, and how many are too many.

Owns the bound, the writer's error and the reader's warning. Bucket 0 sets the scale, so larger
values in later buckets are cut.
"""

import sys
from collections.abc import Iterable, Iterator

from ..format.commits import Commit
from ..format.spec import StoreSpec

MOST_SATURATED = 0.01
"""Share of a site's values in a bucket that may be cut, in addition to chance."""

_CHANCE = 10
"""Allowance for chance, in values per channel of a bucket. If later rows are distributed like those
of bucket 0, about one value in `bucket_rows` is beyond the largest of bucket 0 in its channel; ten
times as many are allowed. This matters only for small buckets: with 1,024 rows, the smallest
default size, it is another 1%."""


def check_saturation(commit: Commit, spec: StoreSpec) -> None:
    """Refuses a bucket of which int8 has cut too many values.

    Raises:
        ValueError: naming the site, the share, and the codec to use instead.
    """
    for site, share in _too_many(commit, spec):
        raise ValueError(
            f"codec must not cut more than {_most(spec):.1%} of a bucket's values, got {share:.1%}"
            f" in bucket {commit.bucket}, site {site}: its rows are larger than those of bucket 0,"
            " which has set the scale of int8; write the store in another place with codec exact"
        )


def warn_of_saturation(
    url: str, commits: Iterable[Commit], spec: StoreSpec, sites: Iterable[str]
) -> None:
    """Prints one line on stderr for each of these sites that has a bucket with too many cut values,
    naming the worst bucket."""
    worst: dict[str, tuple[float, int]] = {}
    for commit in commits:
        for site, share in _too_many(commit, spec):
            worst[site] = max(worst.get(site, (0.0, 0)), (share, commit.bucket))
    for site in sorted(worst.keys() & set(sites)):
        share, bucket = worst[site]
        print(
            f"warning: site {site} of store {url}: int8 has cut {share:.1%} of the values of bucket"
            f" {bucket} at the ends of its scale, so these rows are smaller than the model's;"
            " harvest again with codec exact",
            file=sys.stderr,
        )


def _too_many(commit: Commit, spec: StoreSpec) -> Iterator[tuple[str, float]]:
    """(site, share of values cut) for the sites above the bound."""
    for site, sums in commit.sums.items():
        share = sums.saturated / max(1, commit.rows * spec.sites[site])
        if share > _most(spec):
            yield site, share


def _most(spec: StoreSpec) -> float:
    return MOST_SATURATED + _CHANCE / spec.bucket_rows
