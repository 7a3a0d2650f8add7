"""Ranks as processes on this machine, without torchrun: started, heard, and ended at the latest
with the test."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from torch._C._distributed_c10d import TCPStore

from scopeworks.train.settings import TrainSettings

LIMIT_S = 120


@dataclass
class Rank:
    """A process, and the file that its errors go to."""

    process: subprocess.Popen[str]
    errors: IO[str]

    def ended(self) -> tuple[int, str]:
        """Exit code and standard error, once it has ended."""
        code = self.process.wait(timeout=LIMIT_S)
        self.errors.seek(0)
        return code, self.errors.read()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(rank: int, size: int, port: int, **more: str) -> dict[str, str]:
    """What torchrun tells a rank."""
    where = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
    where |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    # A process of a machine that is loaded with tests; one thread each.
    return os.environ | {name: str(value) for name, value in where.items()} | more


@contextmanager
def started(
    size: int,
    words: Callable[[int], Sequence[str]],
    more: Callable[[int], dict[str, str]] = lambda rank: {},
) -> Iterator[list[Rank]]:
    """`size` ranks that run a command; the store is here, as torchrun's is in its agent.

    Args:
        size: ranks.
        words: a rank's arguments of python.
        more: a rank's environment beside torchrun's.
    """
    port, ranks = free_port(), []
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    try:
        for rank in range(size):
            errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed below)
            process = subprocess.Popen(
                [sys.executable, *words(rank)],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                text=True,
                env=environment(
                    rank, size, port, TORCHELASTIC_USE_AGENT_STORE="True", **more(rank)
                ),
            )
            ranks.append(Rank(process, errors))
        yield ranks
    finally:
        for rank in ranks:
            rank.process.kill()
            rank.process.wait()
            rank.errors.close()
        del store


def train(runs: Mapping[int, Sequence[TrainSettings]], resume: bool = False) -> None:
    """Trains runs by so many ranks each."""
    lots = [lot(size, several) for size, several in runs.items()]
    codes, errors = ends(lots, resume)
    assert codes == [[0] * size for size in runs], errors


def lot(
    size: int,
    runs: Sequence[TrainSettings],
    of: int | None = None,
    port: int | None = None,
    patience_s: float = 60,
    words: str = "",
) -> dict[str, Any]:
    """Runs for the first `size` ranks of a world of `of`, or a command."""
    # What has its default is not given: some may not be given where they do nothing.
    asked = [json.loads(one.model_dump_json(exclude_unset=True)) for one in runs]
    where = {"of": of or size, "port": port, "patience_s": patience_s}
    return {"size": size, "runs": asked, "words": words} | where


def ends(lots: Sequence[dict[str, Any]], resume: bool = False) -> tuple[list[list[int]], str]:
    """Exit codes of each lot's ranks, and what all of them say."""
    words = [sys.executable, "-m", "scopeworks.tests.train.ranks.job", *["resume"] * resume]
    pipes = {"capture_output": True, "text": True, "timeout": 4 * LIMIT_S}
    found = subprocess.run(words, input=json.dumps(lots), check=True, **pipes)
    return json.loads(found.stdout.splitlines()[-1]), found.stderr
