"""Bytes that ranks exchange in one update of a wide SAE, compared with the model of the traffic.

    python benchmarks/rank_scaling.py [--ranks 8] [--width 131072 …] [--d 2304 …] [--batch 4096]

Processes join over gloo and exchange the messages of an update at their real sizes, by the code of
training; nothing is computed in between. Bytes are counted where messages are sent, and by the
sockets. The model (`train/ranks/traffic.py`) must give the same number, to a byte. The time of an
update on H100s is predicted from it and from the plan's formula of a step
(`pipelines/plan/devices.py`). Results are rows of `results/rank_scaling.csv`.
"""

import argparse
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

import torch
from recording import record, surroundings

from scopeworks.pipelines.plan.devices import DEVICES
from scopeworks.pipelines.plan.quantities import SPARSE_FLOPS, Updates
from scopeworks.pipelines.plan.together import update_seconds
from scopeworks.tests.train.ranks.processes import environment, free_port
from scopeworks.tests.train.ranks.sockets import acknowledged_bytes
from scopeworks.train.kernels import Node, Share
from scopeworks.train.ranks.joining import joined
from scopeworks.train.ranks.reduce import dealt
from scopeworks.train.ranks.traffic import LINKS, of_update, slowest

N_STEPS, LIMIT_S, L0 = 2, 300.0, 60.0


def exchange(share: Share, batch: int, d: int) -> None:
    """Makes an update's sums over ranks, with zeros, in the order of the sparse step on CUDA."""
    n = torch.zeros((), dtype=torch.int64)
    share.count(n)  # whether all numbers are finite
    share.count(n)  # whether the entries fit
    share.reduce([Node(shards[0], torch.zeros(batch, d)) for shards in share.nodes()])
    share.count(torch.zeros(batch, dtype=torch.int64))
    share.count(n)  # entries
    nothing = torch.zeros(d)
    share.add(lambda shard: nothing.clone())


def counted(widths: list[int], ds: list[int], batch: int) -> list[dict[str, int]]:
    """A rank's bytes of one update, counted at sending and by sockets, for every shape."""
    found = []
    with joined() as world:
        world.wait_at_most(LIMIT_S)
        world.connect("gloo", torch.device("cpu"))
        for d in ds:
            for width in widths:
                share = world.share(width)
                world.together()
                wire, sockets = world.wire.sent_bytes, acknowledged_bytes()
                for _ in range(N_STEPS):
                    world.gathered([0, 0, 0, 0])
                    exchange(share, batch, d)
                world.together()
                of_step = (world.wire.sent_bytes - wire) // N_STEPS
                sent = (acknowledged_bytes() - sockets) // N_STEPS
                found.append({"d": d, "width": width, "wire": of_step, "sockets": sent})
                world.together()  # no rank leaves while another counts
    return found


def forked(n_ranks: int, widths: list[int], ds: list[int], batch: int) -> list[list[dict]]:
    """The counts of every rank."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(rank) for rank in range(n_ranks)]
        children = []
        for rank, file in enumerate(files):
            child = os.fork()
            if not child:
                os.environ.update(environment(rank, n_ranks, port))
                code = 1
                try:
                    file.write_text(json.dumps(counted(widths, ds, batch)))
                    code = 0
                except Exception:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        if any(codes):
            sys.exit(f"error: ranks must end with 0, got {codes}")
        return [json.loads(file.read_text()) for file in files]


def predicted(n_ranks: int, width: int, d: int, batch: int) -> dict[str, object]:
    """Predicted milliseconds of an update on one H100 and on several, by link, and the speed-up."""
    sparse = SPARSE_FLOPS * d * L0 * batch
    one = Updates(1, 2.0 * d * width * batch + sparse, sparse)
    h100, shape = DEVICES["h100"], (width, d, d, batch)
    alone = update_seconds(h100, one, 1, shape, LINKS[0])
    row: dict[str, object] = {"one_ms": round(1e3 * alone, 1)}
    for link in LINKS:
        seconds = update_seconds(h100, one, n_ranks, shape, link)
        row[f"{link.name} ms"] = round(1e3 * seconds, 1)
        row[f"{link.name} times"] = round(alone / seconds, 2)
    return row


def rows(n_ranks: int, widths: list[int], ds: list[int], batch: int) -> list[dict[str, object]]:
    """A row per shape; exits if a rank's bytes differ from the model's."""
    found = []
    ranks = forked(n_ranks, widths, ds, batch)
    for shape in zip(*ranks, strict=True):
        d, width = shape[0]["d"], shape[0]["width"]
        model = [of_update(n_ranks, rank, width, d, d, batch).sent_bytes for rank in range(n_ranks)]
        wire = [of_rank["wire"] for of_rank in shape]
        if wire != model:
            sys.exit(f"error: bytes at width {width}, d {d} must be {model}, got {wire}")
        found.append(
            {
                "ranks": n_ranks,
                "d": d,
                "width": width,
                "batch": batch,
                "model_bytes": max(model),
                "wire_bytes": max(wire),
                "sockets_bytes": max(of_rank["sockets"] for of_rank in shape),
                "messages": slowest(n_ranks, width, d, d, batch).messages,
                **predicted(n_ranks, width, d, batch),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--width", type=int, nargs="+", default=[1 << n for n in range(17, 21)])
    parser.add_argument("--d", type=int, nargs="+", default=[2304, 3584, 4608])
    parser.add_argument("--batch", type=int, default=4096)
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        for width in args.width:
            dealt(width, args.ranks)
    except ValueError as error:
        sys.exit(f"error: {error}")
    around = surroundings("cpu", ("torch", "numpy"))
    for row in rows(args.ranks, args.width, args.d, args.batch):
        record("rank_scaling", row | around)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
