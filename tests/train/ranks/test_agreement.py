"""What ranks share: as asked for, or what the model finds to take less time."""

import re
from dataclasses import replace

import pytest
import torch

from scopeworks.train.ranks.agreement import RankMachine, UpdateShape, check_equal, choose, seconds
from scopeworks.train.ranks.traffic import LINKS, LOOPBACK
from scopeworks.train.ranks.world import World

NARROW = UpdateShape(1 << 14, 2304, 2304, 4096, l0=60.0)
NVLINK, PCIE, ETHERNET = LINKS


def way(asked, n_ranks=8, update=NARROW, link=ETHERNET, rows_fit=True, kind="cuda"):
    return choose(asked, n_ranks, update, RankMachine(link, kind, 16.0), rows_fit)


@pytest.mark.parametrize("asked", [None, "latents", "rows"])
def test_what_is_asked_for_is_done(asked):
    assert way(asked, rows_fit=False).by_rows == (asked == "rows")


def test_narrow_saes_share_rows_where_bytes_are_dear_and_latents_where_they_are_not():
    assert way("auto").by_rows
    assert not way("auto", link=NVLINK).by_rows
    assert not way("auto", update=replace(NARROW, d_sae=1 << 20)).by_rows
    assert "ms an update by rows" in way("auto").why and "100 Gb Ethernet" in way("auto").why


def test_the_faster_way_is_taken():
    for link in (*LINKS, LOOPBACK):
        for n_ranks in (2, 3, 8):
            machine = RankMachine(link, "cpu", 2.0)
            latents_s, rows_s = seconds(n_ranks, NARROW, machine)
            found = choose("auto", n_ranks, NARROW, machine, rows_fit=True)
            assert found.by_rows == (rows_s < latents_s)


def test_cores_that_decode_slowly_speak_for_rows():
    many, few = (seconds(8, NARROW, RankMachine(NVLINK, "cuda", cores)) for cores in (64.0, 0.5))
    assert few[0] > many[0] and few[1] == many[1]
    # Without equal blocks every rank reads everything in either way.
    assert seconds(7, NARROW, RankMachine(NVLINK, "cuda", 0.5))[0] < few[0] / 10


def test_auto_takes_what_is_possible():
    assert not way("auto", rows_fit=False).by_rows
    assert not way("auto", n_ranks=5, update=replace(NARROW, batch=4)).by_rows
    assert way("auto", n_ranks=9, update=replace(NARROW, d_sae=1000), link=NVLINK).by_rows
    assert not way("auto", n_ranks=65).by_rows  # too many ranks, as always


def test_rows_need_a_row_for_each_rank():
    with pytest.raises(ValueError, match=r"at least the 5 ranks .*, got 4"):
        way("rows", n_ranks=5, update=replace(NARROW, batch=4))


class _Told(World):
    """Three ranks, of which the second may have said something else."""

    def __init__(self, other: str | None):
        super().__init__()
        self.size, self.update, self.hosts = 3, 7, ["a", "b", "c"]
        self._other = other

    def told(self, text: str, patient: bool = False) -> list[str]:
        assert not patient
        return [text, self._other or text, text]


def test_ranks_of_other_bits_are_named_before_a_checkpoint():
    tensors = {"W": torch.ones(2, 3).t(), "n": torch.tensor(4)}
    check_equal(_Told(None), 0.5, tensors)
    text = "ranks must hold the same parameters and find the same loss, got others on rank 1 on b "
    with pytest.raises(ValueError, match=re.escape(text + "after update 7")):
        check_equal(_Told("another digest"), 0.5, tensors)


def test_ranks_on_a_cpu_send_one_message_less_than_those_with_tritons_kernels():
    machine = RankMachine(replace(ETHERNET, bytes_per_s=1e30), "cpu", 1e30)
    cpu, cuda = (seconds(8, NARROW, replace(machine, kind=kind))[0] for kind in ("cpu", "cuda"))
    assert cuda - cpu == pytest.approx(14 * ETHERNET.latency_s, rel=1e-9)
