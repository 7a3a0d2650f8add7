"""Values that int8 has cut at the ends of its scale: how many are too many.

Owns the bound, the writer's refusal and the reader's warning. The scale follows from bucket 0; rows
that are larger later lose what makes them large.
"""

import sys
from collections.abc import Iterable, Iterator

from ..format.commits import Commit
from ..format.spec import StoreSpec

MOST_SATURATED = 0.01
"""Share of a bucket's values of a site that may be cut, besides chance."""

_CHANCE = 10
"""Of rows that are all alike, about one in `bucket_rows` is beyond the largest of bucket 0, channel
by channel; ten times as many are still chance. That matters in small buckets only: at 1,024 rows,
the smallest that are chosen, it is another 1%."""


def check_saturation(commit: Commit, spec: StoreSpec) -> None:
    """Refuses a bucket of which int8 has cut too many values.

    Raises:
        ValueError: naming the site, the share and what would do.
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
    """Prints one line on stderr for each of these sites of which a bucket was cut too often, naming
    the worst bucket."""
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
    """Sites and shares that are above the bound."""
    for site, sums in commit.sums.items():
        share = sums.saturated / max(1, commit.rows * spec.sites[site])
        if share > _most(spec):
            yield site, share


def _most(spec: StoreSpec) -> float:
    return MOST_SATURATED + _CHANCE / spec.bucket_rows
