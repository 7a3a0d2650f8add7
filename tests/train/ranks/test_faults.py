"""Ranks that die, stall, are stopped, or do not fit together: one line by one rank, and the newest
checkpoint stays."""

import re
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from scopeworks.train.run.trainer import run
from scopeworks.train.saved.checkpoint import Checkpoints
from scopeworks.train.saved.metrics import read_metrics
from scopeworks.train.settings import TrainSettings

from ..conftest import write_store
from .processes import Rank, ends, lot, started

Make = Callable[..., TrainSettings]

SHAPE = {"width": 768, "theta_start": 0.5, "steps": 20_000, "log_every": 5, "checkpoint_every": 50}


def words(settings: TrainSettings) -> list[str]:
    """A rank's command."""
    given = settings.model_dump(include=settings.model_fields_set - {"out", "store", "site"})
    pairs = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    where = ["--store", str(settings.store), "--site", settings.site, "--out", str(settings.out)]
    return ["-m", "scopeworks", "train", *where, *pairs]


def wait_for(run: Path, step: int, ranks: Sequence[Rank]) -> None:
    """Returns once the run has come to a step."""
    while not (lines := read_metrics(run)) or lines[-1]["step"] < step:
        assert all(rank.process.poll() is None for rank in ranks), [r.ended() for r in ranks]
        time.sleep(0.02)


def speakers(ranks: Sequence[Rank], code: int, text: str) -> list[int]:
    """Which of the ranks say a line; all end with the code."""
    ends = [rank.ended() for rank in ranks]
    assert {found for found, _ in ends} == {code}, ends
    return [i for i, (_, errors) in enumerate(ends) if re.search(text, errors)]


@pytest.mark.slow
@pytest.mark.parametrize(("dying", "way"), [(2, "latents"), (0, "latents"), (1, "rows")])
def test_a_rank_that_dies_ends_all_with_one_line(settings: Make, dying: int, way: str):
    one = settings(**SHAPE, parallel=way)
    with started(3, lambda rank: words(one)) as ranks:
        wait_for(one.out, 60, ranks)
        ranks[dying].process.kill()
        text = rf"error: rank {dying} on \S+ must take part in update \d+, got no answer"
        assert speakers([rank for rank in ranks if rank != ranks[dying]], 2, text) == [0]
    assert Checkpoints(one.checkpoint_place, keep=2).steps()


@pytest.mark.slow
def test_a_rank_that_stalls_ends_all_within_the_limit(settings: Make):
    one = settings(**SHAPE, rank_timeout_s=4.0)
    with started(3, lambda rank: words(one)) as ranks:
        wait_for(one.out, 60, ranks)
        ranks[1].process.send_signal(signal.SIGSTOP)
        since = time.monotonic()
        text = r"error: rank 1 on \S+ must take part in update \d+, got no answer .*silent for 4 s"
        assert speakers([ranks[0], ranks[2]], 2, text) == [0]
        assert time.monotonic() - since < 4 + 5 + 10
        ranks[1].process.send_signal(signal.SIGCONT)
        assert ranks[1].ended()[0] == 2


HANGS = """
import os
import time
from scopeworks.pipelines.cli import main
from scopeworks.train.run.trainer import TrainingRows

if os.environ["RANK"] == "1":
    TrainingRows.open = lambda settings: time.sleep(600)
main()
"""


@pytest.mark.slow
def test_a_rank_that_stalls_before_the_first_update_ends_all_within_the_limit(settings: Make):
    one = settings(**SHAPE, rank_timeout_s=4.0)
    with started(2, lambda rank: ["-c", HANGS, *words(one)[2:]]) as ranks:
        since = time.monotonic()
        text = r"error: rank 1 on \S+ must take part in update 0, got no answer .*silent for 4 s"
        assert speakers(ranks[:1], 2, text) == [0]
        assert time.monotonic() - since < 4 + 5 + 30  # with starting
        ranks[1].process.kill()


OTHER_ROWS = """
import sys
from scopeworks.pipelines.cli import main
from scopeworks.train.run.member import Member

at, update = int(sys.argv.pop(1)), Member.update

def of_other_rows(self, x, target, *rest):
    if self.world.rank == 1 and self.step == at - 1:
        x = target = x + 1e-3
    return update(self, x, target, *rest)

Member.update = of_other_rows
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("at", [100, 120])
def test_an_update_of_other_rows_is_in_no_checkpoint_and_no_sae(settings: Make, at: int):
    one = settings(**SHAPE | {"steps": 120})
    with started(3, lambda rank: ["-c", OTHER_ROWS, str(at), *words(one)[2:]]) as ranks:
        text = (
            rf"find the same loss, got others on rank 1 on \S+ after update {at}; .* is of before"
        )
        assert speakers(ranks, 2, text) == [0]
    assert max(Checkpoints(one.checkpoint_place, keep=2).steps()) < at
    assert not (one.out / "sae.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("way", "parts"), [("latents", 3), ("rows", 0)])
def test_sigterm_of_one_rank_makes_all_write_a_checkpoint_of_one_update(
    settings: Make, way: str, parts: int
):
    one = settings(**SHAPE | {"checkpoint_every": 10_000, "parallel": way})
    with started(3, lambda rank: words(one)) as ranks:
        wait_for(one.out, 40, ranks)
        ranks[2].process.terminate()
        assert speakers(ranks, 143, "stopped by SIGTERM; the same command continues") == [0]
    (step,) = Checkpoints(one.checkpoint_place, keep=2).steps()
    assert len(list(one.out.rglob(f"step_{step:09d}.shards_*"))) == parts


@pytest.mark.slow
def test_sigint_of_one_rank_is_said_once(settings: Make):
    one = settings(**SHAPE)
    with started(2, lambda rank: words(one)) as ranks:
        wait_for(one.out, 20, ranks)
        ranks[1].process.send_signal(signal.SIGINT)
        assert speakers(ranks, 130, "stopped; what was committed is kept") == [0]
    assert Checkpoints(one.checkpoint_place, keep=2).steps()


@pytest.mark.slow
def test_rows_that_one_rank_cannot_read_end_all_with_a_checkpoint(settings: Make, tmp_path: Path):
    """Each of four ranks reads its own rows, so that only one finds the damage."""
    url = write_store(tmp_path / "damaged", {"resid_post.3": 16})
    one = settings(**SHAPE | {"steps": 200}, parallel="rows", store=url)
    shard = max(Path(url).rglob("resid_post.3/**/c/**/*"), key=_size)
    assert shard.is_file()
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with started(4, lambda rank: words(one)) as ranks:
        assert speakers(ranks, 2, r"error: .*(damaged|checksum)") == [0]
    assert len(Checkpoints(one.checkpoint_place, keep=2).steps()) == 1


def _size(path: Path) -> int:
    return path.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "environment", "text"),
    [
        ({"lr": 1e-3}, {}, r"ranks must have the same lr, got 0.002 on rank 0 .* 0.001 on rank 1"),
        ({}, {"OMP_NUM_THREADS": "2"}, r"the same threads, got 1 on rank 0 .* 2 on rank 1"),
        ({"batch": 1 << 20}, {}, r"rank 1 on \S+: batch must be at most the 2048 rows"),
    ],
)
def test_ranks_that_differ_are_refused(settings: Make, other: dict, environment: dict, text: str):
    one = settings(**SHAPE)
    different = settings(**SHAPE | other)
    commands = [words(one), words(different)]
    more = [{}, environment]
    with started(2, lambda rank: commands[rank], more=lambda rank: more[rank]) as ranks:
        assert speakers(ranks, 2, text) == [0]
    assert not one.out.exists()


def test_bad_input_is_one_line_of_the_first_rank_and_exit_code_2_of_all(settings: Make):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = {
            "ranks must be at most the 3 shards of 3 latents, got 4": lot(
                4, [settings(**SHAPE | {"width": 3})]
            ),
            "backend must be cpu or triton for 2 ranks, got reference": lot(
                2, [settings(**SHAPE, backend="reference")]
            ),
            "batch must be at least the 3 ranks that share its rows, got 2": lot(
                3, [settings(**SHAPE | {"batch": 2}, parallel="rows")]
            ),
            "nowhere": lot(2, [settings(**SHAPE, store="nowhere")]),
            "address already in use": lot(1, [], of=2, port=taken.getsockname()[1]),
            "within 1 s, got": lot(1, [], of=2, patience_s=1),
            "'both' is not one of 'auto', 'latents', 'rows'": lot(
                3, [], words="train --parallel both"
            ),
            "--storage-option must be key=value, got 'x'": lot(
                3, [], words="train --storage-option x"
            ),
        }
        codes, errors = ends(list(cases.values()))
    assert codes == [[2] * case["size"] for case in cases.values()]
    lines = errors.splitlines()
    assert len(lines) == len(cases), errors
    for line, text in zip(lines, cases, strict=True):
        assert line.startswith("error: ") and text in line, line


def test_limit_without_ranks_has_no_effect(settings: Make):
    with pytest.raises(ValueError, match="rank_timeout_s has no effect on a process alone"):
        run([settings(rank_timeout_s=5.0)])
