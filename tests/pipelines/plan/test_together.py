"""One SAE on several devices: the device's share of the work, and the messages."""

import pytest

from scopeworks.pipelines.plan.devices import DEVICES
from scopeworks.pipelines.plan.quantities import Updates
from scopeworks.pipelines.plan.together import largest_share, update_seconds
from scopeworks.train.ranks.traffic import LINKS, slowest

H100, SHAPE = DEVICES["h100"], (1 << 20, 2304, 2304, 4096)
SPARSE = 8.0 * 2304 * 60 * 4096
UPDATES = Updates(1, 2.0 * 2304 * (1 << 20) * 4096 + SPARSE, SPARSE)


def test_a_device_alone_takes_what_the_table_says():
    alone = update_seconds(H100, UPDATES, 1, SHAPE, LINKS[0])
    assert alone == H100.train_seconds(1, UPDATES.flops, UPDATES.sparse_flops)


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_several_do_a_share_each_and_wait_for_their_messages(link):
    found = update_seconds(H100, UPDATES, 8, SHAPE, link)
    own = H100.train_seconds(1, UPDATES.flops / 8, UPDATES.sparse_flops / 8)
    assert found == pytest.approx(own + slowest(8, *SHAPE).seconds(link))
    assert found < update_seconds(H100, UPDATES, 1, SHAPE, link)


def test_whole_shards_are_dealt():
    assert largest_share(1 << 20, 8) == 1 / 8
    assert largest_share(1 << 20, 3) == 22 / 64
    with pytest.raises(ValueError, match="ranks must be at most the 64 shards"):
        largest_share(1 << 20, 65)
