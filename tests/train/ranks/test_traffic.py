"""The communication model against what gloo really sends, and its growth."""

import json
import sys
from typing import Any

import pytest

from scopeworks.train.ranks.traffic import (
    LINKS,
    Traffic,
    of_gradients,
    of_row_update,
    of_update,
    slowest,
    table,
)

from .processes import started
from .sockets import BATCH, D_IN, WIDTH


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's sockets what they have sent")
@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 4])
def test_model_is_what_the_wire_counts_and_the_sockets_send(size: int):
    for rank, found in enumerate(sent_by("latents", size)):
        more = {"latent_weight": True, "triton": False}
        model = of_update(size, rank, WIDTH, D_IN, D_IN, BATCH, **more).sent_bytes
        assert found["wire"] == pytest.approx(model, abs=size)
        assert found["sockets"] == pytest.approx(model, rel=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's sockets what they have sent")
@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("way", ["rows", "dense"])
def test_model_of_rows_is_what_the_wire_counts_and_the_sockets_send(size: int, way: str):
    for found in sent_by(way, size):
        models = [
            of_row_update(
                size, WIDTH, D_IN, D_IN, BATCH, None if way == "dense" else most
            ).sent_bytes
            for most in found["entries"]
        ]
        model = sum(models) / len(models)
        assert found["wire"] == model
        assert found["sockets"] == pytest.approx(model, rel=0.1)


def sent_by(way: str, size: int) -> list[dict[str, Any]]:
    """What each of the ranks says it has sent."""
    words = ["-m", "scopeworks.tests.train.ranks.sockets", way]
    with started(size, lambda rank: words) as ranks:
        ends = [rank.ended() for rank in ranks]
    assert [code for code, _ in ends] == [0] * size, ends
    return [json.loads(errors.partition("sent ")[2].splitlines()[0]) for _, errors in ends]


def test_one_process_sends_nothing():
    assert of_update(1, 0, 1 << 20, 2304, 2304, 4096) == Traffic(0, 0)
    assert of_row_update(1, 1 << 14, 2304, 2304, 4096, 1 << 18) == Traffic(0, 0)


def test_rows_cost_less_than_gradients_unless_few_latents_are_touched():
    """Rows and residuals are as many numbers as gradients of as many latents as rows."""
    rows = of_row_update(8, 1 << 14, 2304, 2304, 4096, 512 * 60).sent_bytes
    assert rows < of_gradients(8, 1 << 14, 2304, 2304).sent_bytes / 7
    assert rows > of_gradients(8, 1 << 10, 2304, 2304).sent_bytes


def test_a_dense_update_sends_all_gradients_and_no_entries():
    shape = (1 << 14, 2304, 2304, 4096)
    dense, bare = (of_row_update(8, *shape, most) for most in (None, 0))
    gradients = of_gradients(8, 1 << 14, 2304, 2304)
    assert dense.sent_bytes - bare.sent_bytes == pytest.approx(gradients.sent_bytes, rel=1e-2)
    assert dense.messages > bare.messages


def test_rows_of_bfloat16_halve_what_rows_send_and_unequal_blocks_send_none():
    shape = (1 << 14, 2304, 2304, 4096, 512 * 60)
    wide, narrow = (of_row_update(8, *shape, value_bytes=n).sent_bytes for n in (4, 2))
    assert wide - narrow == 7 * 512 * 2304 * 2
    target = of_row_update(8, *shape, transcoder=True).sent_bytes
    assert target - wide == 7 * 512 * 2304 * 4
    odd = of_row_update(7, *shape).sent_bytes
    assert odd == 6 * 4 * (8 + (1 << 14) + 3 * 512 * 60 + 586 * 2306)


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
