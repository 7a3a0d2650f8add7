"""The communication model against what gloo really sends, and its growth."""

import json
import sys

import pytest

from scopeworks.train.ranks.traffic import LINKS, Traffic, of_update, slowest, table

from .processes import started
from .sockets import BATCH, D_IN, WIDTH


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's sockets what they have sent")
@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 4])
def test_model_is_what_the_wire_counts_and_the_sockets_send(size: int):
    words = ["-m", "scopeworks.tests.train.ranks.sockets"]
    with started(size, lambda rank: words) as ranks:
        ends = [rank.ended() for rank in ranks]
    assert [code for code, _ in ends] == [0] * size, ends
    for rank, (_, errors) in enumerate(ends):
        found = json.loads(errors.partition("sent ")[2].splitlines()[0])
        more = {"latent_weight": True, "triton": False}
        model = of_update(size, rank, WIDTH, D_IN, D_IN, BATCH, **more).sent_bytes
        assert found["wire"] == pytest.approx(model, abs=size)
        assert found["sockets"] == pytest.approx(model, rel=0.1)


def test_one_process_sends_nothing():
    assert of_update(1, 0, 1 << 20, 2304, 2304, 4096) == Traffic(0, 0)


def test_bytes_are_those_of_the_reconstruction_and_not_of_the_width():
    narrow, wide = (slowest(8, width, 2304, 2304, 4096) for width in (1 << 17, 1 << 20))
    assert narrow == wide
    x_hat = 4 * 4096 * 2304
    assert wide.sent_bytes == pytest.approx(2 * x_hat * 7 / 8, rel=0.01)


def test_ranks_that_own_no_whole_subtree_send_several():
    assert slowest(5, 1 << 20, 2304, 2304, 4096) > slowest(4, 1 << 20, 2304, 2304, 4096)


def test_slower_links_take_longer_and_the_table_shows_them():
    traffic = slowest(8, 1 << 17, 2304, 2304, 4096)
    times = [traffic.seconds(link) for link in LINKS]
    assert times == sorted(times)
    (line,) = table(2304, 4096, (1 << 17,), 8)
    assert line.split(" | ")[-1].rstrip(" |") == f"{1e3 * times[-1]:.2f}"
