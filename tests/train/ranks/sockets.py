"""A rank that takes steps and counts what it sends: by `wire`, by its sockets.

RANK=0 WORLD_SIZE=2 … python -m scopeworks.tests.train.ranks.sockets latents|rows|dense
"""

import json
import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from scopeworks.tests.reference.jumprelu_cases import gaussian_case
from scopeworks.tests.reference.ranks import part_of
from scopeworks.train.kernels import RowBlocks, Share, StepSettings, TrainState, step
from scopeworks.train.ranks.joining import joined

BATCH, D_IN, WIDTH, N_STEPS = 300, 96, 1000, 5

_BYTES_ACKED = 120
"""Where Linux's struct tcp_info has tcpi_bytes_acked."""


def acknowledged_bytes() -> int:
    """What the process's TCP connections have sent that has arrived."""
    total = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as found:
                info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                total += struct.unpack_from("<Q", info, _BYTES_ACKED)[0]
    return total


def most_entries(state: TrainState, x: Tensor, given: StepSettings, size: int) -> int:
    """Entries of the rank that has most, of so many that share the rows."""
    p = state.parameters
    z = (x - p.b_dec) @ p.W_enc + p.b_enc
    of_row = (z > p.theta - given.bandwidth / 2).sum(1)
    blocks = [RowBlocks(rank, size, torch.clone, torch.clone).mine(len(x)) for rank in range(size)]
    return max(int(of_row[block].sum()) for block in blocks)


def take_step(state: TrainState, x: Tensor, given: StepSettings, share: Share, path: str) -> None:
    """An update; where ranks share rows, they bring them together first."""
    if share.rows is not None:
        x = share.rows.joined(x[share.my_rows(BATCH)], BATCH)
    step(state, x, x, given, path, share)


def main() -> None:
    """Takes steps; prints the bytes of one, counted in both ways, and the entries of each."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    with joined() as world:
        world.connect("gloo", cpu)
        world.by_rows = sys.argv[1] != "latents"
        path = "cpu/dense" if sys.argv[1] == "dense" else "cpu/sparse"
        share = world.share(WIDTH)
        whole, x = gaussian_case(BATCH, D_IN, WIDTH, theta=0.3, seed=1)
        state = part_of(whole, share)
        weight = torch.ones(share.n_latents)
        given = StepSettings(lr=1e-3, sparsity=1e-3, bandwidth=0.1, latent_weight=weight)
        take_step(state, x, given, share, path)
        world.together()
        before, wire = acknowledged_bytes(), world.wire.sent_bytes
        entries = []
        for _ in range(N_STEPS):
            entries.append(most_entries(state, x, given, world.size))
            world.gathered([0, 0, 0, 0])
            take_step(state, x, given, share, path)
        found = {"sockets": (acknowledged_bytes() - before) / N_STEPS}
        found |= {"wire": (world.wire.sent_bytes - wire) / N_STEPS, "entries": entries}
        world.together()
        print("sent", json.dumps(found), file=sys.__stderr__)


if __name__ == "__main__":
    main()
