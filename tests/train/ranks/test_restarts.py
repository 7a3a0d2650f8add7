"""torchrun's own restarts, and ranks whose torchrun is gone."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from torch._C._distributed_c10d import TCPStore

from scopeworks.train.ranks.bounded import Rendezvous
from scopeworks.train.ranks.place import RankPlace, attempt_of
from scopeworks.train.run.trainer import run
from scopeworks.train.saved.checkpoint import Checkpoints
from scopeworks.train.saved.metrics import read_metrics
from scopeworks.train.settings import TrainSettings

from .processes import LIMIT_S, free_port
from .test_faults import SHAPE, words

Make = Callable[..., TrainSettings]

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def names_of(master: TCPStore, size: int) -> list[str]:
    """What ranks that come at the same time call their attempt."""

    def name(rank: int) -> str:
        store = TCPStore("127.0.0.1", master.port, is_master=False)
        return attempt_of(Rendezvous(store, 10), RankPlace(rank=rank, size=size), 10)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(name, range(size)))


def test_ranks_of_one_attempt_have_its_name_and_no_other_attempts():
    master = TCPStore("127.0.0.1", free_port(), is_master=True, wait_for_workers=False)
    first, second = names_of(master, 3), names_of(master, 3)
    assert len(set(first)) == len(set(second)) == 1
    assert first[0] != second[0]


def test_a_rank_that_did_not_come_is_not_taken_for_the_one_of_an_attempt_before():
    master = TCPStore("127.0.0.1", free_port(), is_master=True, wait_for_workers=False)
    names_of(master, 2)
    alone = Rendezvous(TCPStore("127.0.0.1", master.port, is_master=False), 10)
    for rank in (0, 1):
        with pytest.raises(RuntimeError, match="not all ranks have come"):
            attempt_of(alone, RankPlace(rank=rank, size=2), 0.2)


class Torchrun:
    """A torchrun and its ranks, ended at the latest with the block."""

    def __init__(self, options: Sequence[str], one: TrainSettings, log: Path):
        asked = ["-m", "torch.distributed.run", "--local-addr", "127.0.0.1", *options]
        self._log, self._ranks = log.open("w"), list[psutil.Process]()
        self.process = subprocess.Popen(
            [sys.executable, *asked, *words(one)], stderr=self._log, env=os.environ | ENVIRONMENT
        )

    def __enter__(self) -> "Torchrun":
        return self

    def __exit__(self, *_: object) -> None:
        self._ranks += self.ranks()
        self.process.kill()
        for rank in self._ranks:
            with suppress(psutil.NoSuchProcess):
                rank.kill()
        self.process.wait()
        self._log.close()

    def ranks(self) -> list[psutil.Process]:
        """Those that run now."""
        with suppress(psutil.NoSuchProcess):
            self._ranks = psutil.Process(self.process.pid).children()
        return [rank for rank in self._ranks if rank.is_running()]


def at_step(one: TrainSettings, step: int, torchruns: Sequence[Torchrun]) -> None:
    """Returns once the run has come to a step."""
    until = time.monotonic() + LIMIT_S
    while not (lines := read_metrics(one.out)) or lines[-1]["step"] < step:
        assert all(each.process.poll() is None for each in torchruns)
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("n_hosts", [1, 2])
def test_torchrun_starts_the_ranks_again_and_they_continue(
    settings: Make, tmp_path: Path, n_hosts: int
):
    shape = SHAPE | {"steps": 300}
    alone, one = settings("alone", **shape), settings(**shape)
    run([alone])
    where = f"--rdzv-backend c10d --rdzv-endpoint 127.0.0.1:{free_port()}"
    options = f"--nnodes {n_hosts} --nproc-per-node {2 // n_hosts} --max-restarts 2 {where}"
    logs = [tmp_path / f"{host}.log" for host in range(n_hosts)]
    with ExitStack() as stack:
        hosts = [stack.enter_context(Torchrun(options.split(), one, log)) for log in logs]
        at_step(one, 60, hosts)
        hosts[-1].ranks()[-1].kill()
        codes = [host.process.wait(timeout=LIMIT_S) for host in hosts]
    said = "".join(log.read_text() for log in logs)
    assert codes == [0] * n_hosts, said
    assert "must take part in update" in said
    weights = [(folder.out / "sae.safetensors").read_bytes() for folder in (alone, one)]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_ranks_whose_torchrun_is_killed_end_and_one_says_why(settings: Make, tmp_path: Path):
    one, log = settings(**SHAPE, rank_timeout_s=20.0), tmp_path / "log"
    options = ["--nproc-per-node", "3", "--master-port", str(free_port())]
    with Torchrun(options, one, log) as host:
        at_step(one, 60, [host])
        assert len(host.ranks()) == 3
        host.process.kill()
        host.process.wait()
        since = time.monotonic()
        while host.ranks():
            assert time.monotonic() - since < 20 + 10
            time.sleep(0.1)
    errors = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, errors
    assert "must answer, got nothing" in errors[0] and "its process (torchrun's" in errors[0]
    assert Checkpoints(one.checkpoint_place, keep=2).steps()
