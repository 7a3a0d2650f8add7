"""A rendezvous that has frozen, and ranks that may wait for as long as it takes."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from torch._C._distributed_c10d import TCPStore

from scopeworks.store.place.ownership import owned
from scopeworks.train.ranks.bounded import Bounded, Rendezvous
from scopeworks.train.ranks.place import RankPlace
from scopeworks.train.ranks.wire import LostError
from scopeworks.train.ranks.world import World
from scopeworks.train.settings import TrainSettings

from .processes import ends, free_port, lot, started
from .test_faults import SHAPE, speakers, wait_for, words

Make = Callable[..., TrainSettings]

SERVER = """
import sys, time
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", int(sys.argv[1]), is_master=True, wait_for_workers=False)
print("there", flush=True)
time.sleep(600)
"""


class Frozen:
    """A store that answers to nothing once `hold` is cleared."""

    def __init__(self) -> None:
        self.hold, self.n_calls = threading.Event(), 0

    def check(self, keys: list[str]) -> bool:
        """Waits."""
        self.n_calls += 1
        self.hold.wait(60)
        return True

    def set(self, key: str, value: str) -> None:
        """torch's own does not wait for an answer."""


def test_a_call_that_does_not_return_is_given_up_and_so_are_all_after_it():
    store = Frozen()
    rendezvous = Rendezvous(store, limit_s=0.1)
    with pytest.raises(RuntimeError, match=r"the rendezvous has not answered for 0\.1 s"):
        rendezvous.check(["a"])
    with pytest.raises(RuntimeError, match="the rendezvous does not answer any more"):
        rendezvous.set("a", "b")
    assert store.n_calls == 1
    store.hold.set()


def test_errors_and_results_are_the_calls_own():
    bounded = Bounded()
    assert bounded.call(5, lambda: 3) == 3
    with pytest.raises(KeyError, match="missing"):
        bounded.call(5, lambda: {}["missing"])
    assert not bounded.silent


def test_a_rank_hears_that_the_rendezvous_is_silent():
    store = Frozen()
    with pytest.raises(LostError, match=r"has not answered for 0\.1 s"):
        World(RankPlace(rank=1, size=2), Rendezvous(store, 0.1))
    store.hold.set()


def test_patient_ranks_wait_beyond_the_limit_and_others_do_not():
    master = TCPStore("127.0.0.1", free_port(), is_master=True, wait_for_workers=False)

    def world(rank: int) -> World:
        store = TCPStore("127.0.0.1", master.port, timeout=timedelta(seconds=10), is_master=False)
        return World(RankPlace(rank=rank, size=2), Rendezvous(store, 5), limit_s=5)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(world, range(2))
        second.limit_s = 0.1
        coming = pool.submit(second.together, patient=True)
        time.sleep(0.4)
        assert not coming.done()
        first.together()
        coming.result(5)
        with pytest.raises(LostError, match="a rank has ended, or is silent"):
            second.together()


@pytest.mark.slow
def test_a_rendezvous_that_freezes_ends_all_within_the_limit(settings: Make):
    one, port = settings(**SHAPE, rank_timeout_s=3.0), free_port()
    server: Any = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout.readline() == "there\n"
        more = {"MASTER_PORT": str(port)}
        with started(2, lambda rank: words(one), more=lambda rank: more) as ranks:
            wait_for(one.out, 60, ranks)
            server.send_signal(signal.SIGSTOP)
            since = time.monotonic()
            text = rf"error: the rendezvous at 127\.0\.0\.1:{port} must answer, got nothing in up"
            assert speakers(ranks, 2, text) == [0]
            assert time.monotonic() - since < 3 + 5 + 15
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.mark.slow
def test_all_ranks_wait_for_the_folders_owner(settings: Make):
    one = settings(steps=3)
    asked = lot(2, [one], patience_s=4) | {"wait": True}
    with ThreadPoolExecutor(1) as pool:
        with owned(one.out):
            ended = pool.submit(ends, [asked])
            time.sleep(12)
            assert not ended.done()
        codes, errors = ended.result(60)
    assert codes == [[0, 0]], errors
    assert len(re.findall("waiting for process", errors)) == 1
