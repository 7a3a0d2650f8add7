"""One SAE on several devices: the device's share of the work, the messages, and the memory."""

from pathlib import Path

import pytest

from scopeworks.pipelines.plan.devices import DEVICES
from scopeworks.pipelines.plan.memory import group_bytes
from scopeworks.pipelines.plan.quantities import Updates, quantities
from scopeworks.pipelines.plan.together import choices, largest_share, update_seconds
from scopeworks.pipelines.suite.members import members_of
from scopeworks.pipelines.suite.settings import SuiteFile
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


def test_an_sae_too_large_for_a_device_is_shown_on_as_many_as_hold_it():
    file = SuiteFile(Path("one-gpu-weekend"), ("sae.width=1048576", "sae.target_l0=60"))
    (member,), updates = members_of(file), quantities(file)[2].updates
    found = choices(file, [member], updates, H100, None)
    assert found is not None and found[0] is member
    alone, held, many = found[1]
    room = 1e9 * H100.memory_gb
    assert (alone.devices, many.devices) == (1, 8) and alone.memory_bytes > room
    assert held.memory_bytes <= room < group_bytes(file, [member], held.devices - 1)
    assert many.memory_bytes < alone.memory_bytes / 4
    assert set(alone.seconds.values()) == {update_seconds(H100, updates[0], 1, SHAPE, LINKS[0])}
    assert list(many.seconds) == [link.name for link in LINKS]


def test_an_sae_that_fits_is_shown_on_several_only_where_that_is_asked():
    file = SuiteFile(Path("one-gpu-weekend"))
    members, updates = members_of(file), quantities(file)[2].updates
    assert choices(file, members, updates, H100, None) is None
    found = choices(file, members, updates, H100, 4)
    assert found is not None and [way.devices for way in found[1]] == [1, 4]
    with pytest.raises(ValueError, match="ranks must be at most the 16 shards of 16384 latents"):
        choices(file, members, updates, H100, 17)
