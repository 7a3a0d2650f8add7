"""Whether ranks that share a card train, bit for bit, what a process alone trains.

Called by gpu.py. The `train` command, alone and by torchrun's ranks on one card, which speak over
gloo: weights, metrics without times and the checkpoint's tensors are compared. Then the sums over
ranks by NCCL, of the one rank that one card allows. Skipped where a package is missing that stores
need. Exit code 1 if anything differs. A toy has the CPU, interpreted kernels and gloo.
"""

import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from gpu import WRONG
from gpu_part import Part

SITE = "resid_post.0"


def write_store(folder: Path, rows: int, d: int) -> str:
    """A store of sums of a few directions."""
    from scopeworks.store import StoreSpec, StoreWriter

    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(4 * d, d, generator=generator) / d**0.5
    origin = {"model": "random", "model_fingerprint": "0", "tokens": "0", "context": 64}
    spec = StoreSpec(
        sites={SITE: d}, rows=rows, bucket_rows=rows, chunk_rows=rows // 8, shard_rows=rows,
        codec="float32", seed=1, provenance=origin,
    )  # fmt: skip
    url, n = str(folder / "store"), torch.arange(rows).numpy()
    chosen = torch.rand(rows, 4 * d, generator=generator)
    x = (chosen * (chosen > 1 - 8 / (4 * d))) @ directions
    with StoreWriter.open(url, spec) as writer, writer.bucket(0) as bucket:
        bucket.append({SITE: x}, token=n % 60, sequence=n // 64, position=n % 64)
    return url


def train(store: str, out: Path, part: Part, ranks: int, shape: dict[str, int]) -> None:
    """One run of the command. RuntimeError with its last words where it fails."""
    words = ["-m", "scopeworks", "train", "--store", store, "--site", SITE, "--out", str(out)]
    words += ["--device", "cpu" if part.toy else "cuda:0", "--recipe", "auto", "--target-l0", "8"]
    given = shape | {"log_every": 1, "checkpoint_every": 2, "measure_rows": shape["batch"]}
    given |= {"backend": "triton"}
    words += [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    if ranks > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
        words = [*torchrun, "--nproc-per-node", str(ranks), *words]
    around = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=around, check=False
    )
    if done.returncode:
        raise RuntimeError(f"train by {ranks} ended with {done.returncode}: {done.stderr[-300:]}")


def of_command(part: Part, folder: Path, numbers: tuple[int, ...]) -> list[Callable[[], None]]:
    """Checks that so many ranks leave what one process does."""
    from run_result import result

    shape = {"width": 16384, "batch": 1024, "steps": 12}
    rows, d = 8192, 2304
    if part.toy:
        shape, rows, d = {"width": 64, "batch": 16, "steps": 3}, 64, 8
    store = write_store(folder, rows, d)
    train(store, folder / "alone", part, 1, shape)
    alone = result(folder / "alone")

    def check(ranks: int) -> None:
        train(store, folder / f"by {ranks}", part, ranks, shape)
        found = result(folder / f"by {ranks}")
        names = ("weights", "metrics", "checkpoint")
        differ = [n for n, a, b in zip(names, alone, found, strict=True) if a != b]
        assert not differ, f"{', '.join(differ)} differ"

    return [lambda ranks=ranks: check(ranks) for ranks in numbers]


def sums_of_one(part: Part) -> None:
    """The sums over ranks by the card's own library, of one rank: what was given comes back."""
    from torch._C._distributed_c10d import HashStore

    from scopeworks.train.kernels import Node, Share
    from scopeworks.train.ranks.reduce import FEW, TreeReduce
    from scopeworks.train.ranks.wire import Wire

    device = torch.device("cpu" if part.toy else "cuda:0")
    wire = Wire(HashStore(), 0, 1, "gloo" if part.toy else "nccl", device, 60.0)
    try:
        reduce = TreeReduce(wire, [Share.whole(4096)])
        for n in (3, FEW, FEW + 1, 64 * 2304):
            x = torch.randn(n, device=device)
            assert torch.equal(reduce([Node(0, x.clone())]), x), f"{n} numbers"
        whole = torch.arange(5, device=device)
        assert torch.equal(reduce([Node(0, whole)]), whole), "whole numbers"
    finally:
        wire.close()


def main() -> None:
    """Every check; a row each."""
    part = Part("ranks")
    if not part.runs:
        return
    numbers = (2,) if part.toy else (2, 3)
    checks = {"1 rank, gloo" if part.toy else "1 rank, NCCL": lambda: sums_of_one(part)}
    right = True
    with tempfile.TemporaryDirectory() as folder:
        try:
            several = of_command(part, Path(folder), numbers)
        except ImportError as error:
            part.skip("the train command", f"{error}; carry the wheels along (gpu.sh --gather)")
            several = []
        names = [f"{n} ranks on one card, train" for n in numbers]
        checks |= dict(zip(names, several, strict=False))
        for name, check in checks.items():
            if part.late(name):
                break
            verdict = "right"
            try:
                check()
            except Exception as error:
                traceback.print_exc()
                verdict, right = f"WRONG: {type(error).__name__}: {error}"[:300], False
            part.record({"case": name, "verdict": verdict})
    sys.exit(0 if right else WRONG)


if __name__ == "__main__":
    main()
