"""Shares: how they are written, and that they deal out all work exactly once."""

import pytest

from scopeworks.workers.share import ALL, TaskShare


def test_shares_deal_out_all_work_once():
    shares = [TaskShare.parse(f"{i}/3") for i in range(3)]
    dealt = [[share.has(number) for share in shares].count(True) for number in range(20)]
    assert dealt == [1] * 20
    assert shares[0].is_first and not shares[1].is_first
    assert str(shares[2]) == "2/3"


def test_no_share_is_all_the_work():
    assert TaskShare.parse(None) is ALL and ALL.is_all and all(ALL.has(n) for n in range(9))


@pytest.mark.parametrize("text", ["", "1", "3/3", "-1/3", "1/0", "a/b", "1/2/3"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ValueError, match=r"share must be I/N.*the first of eight is 0/8"):
        TaskShare.parse(text)
