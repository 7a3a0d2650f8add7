"""The messages that the benchmark plays are a real step's, and they are counted to a byte."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scopeworks.tests.reference.jumprelu_cases import gaussian_case
from scopeworks.tests.reference.ranks import part_of
from scopeworks.train.kernels import Node, Share, StepSettings, TreeSum, step
from scopeworks.train.ranks.reduce import dealt

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

rank_scaling: Any = importlib.import_module("rank_scaling")

BATCH, D, WIDTH = 24, 8, 96


def listening(share: Share, heard: list[tuple[int, int, torch.dtype]]) -> Share:
    """The share, with a reducer that notes what it is asked to add: nodes, numbers, their kind."""

    def reduce(nodes: Sequence[Node]) -> Tensor:
        first, tree = nodes[0].total, TreeSum()
        heard.append((len(nodes), first.numel(), first.dtype))
        for node in nodes:
            tree.push(node.shard, node.total.clone())
        return tree.total()

    return replace(share, reduce=reduce)


@pytest.mark.parametrize("rank", [0, 1])
def test_messages_are_those_of_a_real_step_on_triton(rank: int):
    pytest.importorskip("triton")
    share = dealt(WIDTH, 3)[rank]  # the second of three owns two subtrees
    whole, x = gaussian_case(BATCH, D, WIDTH, theta=0.3, seed=1)
    real, played = [], []
    state, given = part_of(whole, share), StepSettings(lr=1e-3, sparsity=1e-3, bandwidth=0.1)
    step(state, x, x, given, "triton/screened", listening(share, real))
    rank_scaling.exchange(listening(share, played), BATCH, D)
    assert real == played


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's sockets what they have sent")
def test_bytes_of_every_rank_are_the_models(monkeypatch: pytest.MonkeyPatch):
    (row,) = rank_scaling.rows(3, [1000], [96], 300)
    assert row["wire_bytes"] == row["model_bytes"]
    assert row["sockets_bytes"] == pytest.approx(row["model_bytes"], rel=0.1)
    more = rank_scaling.of_update(3, 0, 1000, 96, 96, 301)
    monkeypatch.setattr(rank_scaling, "of_update", lambda *shape: more)
    with pytest.raises(SystemExit, match="bytes at width 1000, d 96 must be"):
        rank_scaling.rows(3, [1000], [96], 300)
