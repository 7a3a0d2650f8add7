"""A rank's memory is bounded by its share, whatever it does."""

import re
import shutil
from pathlib import Path

import pytest

from ..conftest import SITE, write_store
from .peak import D_IN
from .processes import started


def peaks(size: int, store: str, out: Path) -> list[int]:
    """What each rank takes above an idle process, in bytes."""
    words = ["-m", "scopeworks.tests.train.ranks.peak", store, str(out)]
    with started(size, lambda rank: words) as ranks:
        ends = [rank.ended() for rank in ranks]
    assert [code for code, _ in ends] == [0] * size, ends
    shutil.rmtree(out)  # 1.3 GB
    found = [re.search(r"peak (\d+)", errors) for _, errors in ends]
    return [int(match[1]) for match in found if match]


@pytest.mark.slow
def test_a_rank_of_four_takes_its_share(tmp_path: Path):
    """Training, saving, resuming, folding, measuring and writing, where parameters dominate."""
    store = write_store(tmp_path, {SITE: D_IN})
    (whole,) = peaks(1, store, tmp_path / "1")
    quarters = peaks(4, store, tmp_path / "4")
    assert len(quarters) == 4
    assert max(quarters) < 0.32 * whole
