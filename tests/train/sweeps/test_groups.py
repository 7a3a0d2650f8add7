"""Groups: streams stay together, work is even, memory is kept."""

from pathlib import Path
from typing import Any

import pytest

from scopeworks.train.settings import TrainSettings
from scopeworks.train.sweeps.groups import Group, by_stream, groups_of


def members(n: int, **changes: Any) -> Group:
    values = {"store": "s", "site": "resid_post.1", "width": 64} | changes
    return [TrainSettings.model_validate(values | {"out": f"o/{i}"}) for i in range(n)]


def names(groups: list[Group]) -> list[list[str]]:
    return [[one.out.name for one in group] for group in groups]


def free(_group: Group) -> int:
    return 0


def test_members_of_one_stream_are_those_that_read_the_same_batches():
    many = [*members(2), *members(1, batch=512), *members(1, width=128), *members(1, batch=512)]
    assert [[(m.width, m.batch) for m in group] for group in by_stream(many)] == [
        [(64, 4096), (64, 4096), (128, 4096)],
        [(64, 512), (64, 512)],
    ]


@pytest.mark.parametrize(
    ("n_workers", "sizes"), [(1, [8]), (2, [4, 4]), (3, [3, 3, 2]), (8, [1] * 8), (20, [1] * 8)]
)
def test_a_stream_is_cut_evenly(n_workers, sizes):
    groups = groups_of([members(8)], n_workers, free, 0)
    assert [len(group) for group in groups] == sizes
    assert {name for group in names(groups) for name in group} == set("01234567")


def test_streams_that_are_no_more_than_a_workers_share_stay_whole():
    streams = [members(2), members(2, batch=2048), members(2, batch=8192)]
    assert [len(group) for group in groups_of(streams, 2, free, 0)] == [2, 1, 1, 2]
    assert [len(group) for group in groups_of(streams, 1, free, 0)] == [2, 2, 2]


def test_work_and_not_number_is_even():
    stream = members(4)
    stream.insert(1, stream[0].model_copy(update={"width": 256, "out": Path("o/wide")}))
    assert names(groups_of([stream], 2, free, 0)) == [["wide"], ["0", "1", "2", "3"]]


def test_memory_cuts_further():
    groups = groups_of([members(8)], 2, lambda group: 10 * len(group), 25)
    assert [len(group) for group in groups] == [2, 2, 2, 2]


def test_a_member_that_fits_no_worker_is_named():
    stream = members(2)
    stream[1] = stream[1].model_copy(update={"width": 2**16, "out": Path("o/wide")})
    text = r"memory must hold 4\.0 GiB for wide \(width 65536, batch 4096\) on every worker"
    with pytest.raises(ValueError, match=text + r", got 3\.0 GiB a worker; take fewer workers"):
        groups_of([stream], 2, lambda group: sum(one.width for one in group) << 16, 3 << 30)
