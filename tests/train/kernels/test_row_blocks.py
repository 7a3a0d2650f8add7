"""Ranks that hold a whole SAE and share the rows: every rank's step against float64, and the ranks'
states against each other, bit for bit."""

from typing import Any

import pytest
import torch
from torch import Tensor

from scopeworks.tests.reference.jumprelu_cases import (
    check_step,
    copy_of,
    follow_float64,
    gaussian_case,
    grid_case,
)
from scopeworks.tests.reference.ranks import Ranks, row_share
from scopeworks.train.kernels import RowBlocks, Share, StepSettings, TrainState, step
from scopeworks.train.kernels.precision import exact_products
from scopeworks.train.kernels.row_blocks import ListedEntries, fired

WIDE: dict[str, Any] = {"lr": 1e-3, "sparsity": 0.3, "bandwidth": 0.5}
CASES: dict[str, dict[str, Any]] = {
    "linear": {},
    "quadratic": {"penalty": "quadratic", "target_l0": 3.0, "quadratic_coefficient": 0.7},
    "weighted": {"latent_weight": torch.arange(40) / 7.0, "theta_form": "log"},
}
CPU = ["cpu/sparse", "cpu/screened", "cpu/dense"]


def on_ranks(size: int, state: TrainState, check: Any) -> list[TrainState]:
    """Every rank's state after check(state, share); all are of the same bits."""
    states = [copy_of(state) for _ in range(size)]

    def work(rank, reduce):
        check(states[rank], row_share(state.parameters.d_sae, rank, size, reduce))

    with exact_products("cpu"):
        Ranks(size).run(work)
    for name, wanted in states[0].tensors().items():
        for other in states[1:]:
            assert torch.equal(other.tensors()[name], wanted), name
    return states


def check_ranks(
    path: str, size: int, state: TrainState, x: Tensor, target: Tensor, given: StepSettings
) -> None:
    """One step by ranks against float64."""
    on_ranks(size, state, lambda mine, share: check_step(path, mine, x, target, given, share))


@pytest.mark.parametrize("path", CPU)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_every_rank_makes_the_step_of_float64(path, case, size):
    state, x = grid_case(24, 16, 40, seed=1)
    check_ranks(path, size, state, x, x, StepSettings(**WIDE, **CASES[case]))


@pytest.mark.parametrize("path", CPU)
def test_every_rank_makes_the_step_of_a_skip_transcoder(path):
    state, x = grid_case(37, 5, 40, seed=2, d_out=6)
    target = torch.roll(x, 1, 1)[:, :1] * torch.arange(6)
    check_ranks(path, 3, state, x, target, StepSettings(**WIDE, pre_bias=False))


@pytest.mark.parametrize("path", ["triton/sparse", "triton/screened", "triton/dense"])
def test_every_rank_makes_the_step_of_float64_on_triton(path):
    pytest.importorskip("triton", reason="triton is not installed (extra: triton)")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    state, x = grid_case(7, 5, 17, seed=2, d_out=6, device=device)
    target = torch.roll(x, 1, 1)[:, :1] * torch.arange(6, device=device)
    check_ranks(path, 2, state, x, target, StepSettings(**WIDE, pre_bias=False))


def test_ranks_follow_float64_for_steps_on_end():
    state, x = gaussian_case(128, 12, 48, theta=0.2)
    given = StepSettings(lr=5e-4, sparsity=2e-3, bandwidth=0.02)

    def follow(mine, share):
        follow_float64("cpu/sparse", mine, list(x.split(16)), given, 40, share)

    on_ranks(3, state, follow)


@pytest.mark.parametrize("path", ["cpu/bfloat16", "cpu/screened"])
def test_rounded_products_are_close_to_those_of_one_process(path):
    """bfloat16's z has no float64 twin; a block of rows may round elsewhere than the batch."""
    state, x = gaussian_case(96, 40, 600, theta=0.2, seed=3)
    given, alone = StepSettings(lr=1e-3, sparsity=0.05, bandwidth=0.1), copy_of(state)
    wanted = step(alone, x, x, given, path)

    def check(mine, share):
        found = step(mine, x, x, given, path, share)
        assert (found.path, found.fired.tolist()) == (path, wanted.fired.tolist())
        assert found.loss == pytest.approx(wanted.loss, rel=1e-6)

    (first, *_) = on_ranks(4, state, check)
    torch.testing.assert_close(first.parameters.W_enc, alone.parameters.W_enc)


@pytest.mark.parametrize("path", ["cpu/sparse", "cpu/screened"])
def test_a_batch_without_entries_moves_the_decoder_bias_alike(path):
    state, x = grid_case(17, 5, 40, seed=4, theta=1e6)
    before = state.parameters.b_dec.clone()
    check = lambda mine, share: step(mine, x, x, StepSettings(**WIDE), path, share)  # noqa: E731
    (first, _) = on_ranks(2, state, check)
    assert not torch.equal(first.parameters.b_dec, before)


@pytest.mark.parametrize("path", ["cpu/sparse", "triton/sparse"])
def test_a_row_that_is_none_ends_the_step_on_every_rank(path):
    if path.startswith("triton"):
        pytest.importorskip("triton", reason="triton is not installed (extra: triton)")
    state, x = gaussian_case(9, 6, 40)
    x[1, 2] = float("nan")

    def check(mine, share):
        assert not step(mine, x, x, StepSettings(**WIDE), path, share).finite

    states = on_ranks(2, state, check)
    assert states[0].n_updates == 0


@pytest.mark.parametrize("n_firing", [4, 12])
def test_ranks_take_the_dense_path_where_one_process_would(monkeypatch, n_firing):
    """Whether a single rank has too many entries, or all together."""
    pytest.importorskip("triton", reason="triton is not installed (extra: triton)")
    from scopeworks.train.kernels.triton import encode

    monkeypatch.setattr(encode, "ALWAYS_LISTED", 0)
    state, x = gaussian_case(6, 5, 16, theta=10.0, seed=3)
    state.parameters.theta[:n_firing] = 1e-3
    state.parameters.b_enc[:n_firing] = 5.0
    given = StepSettings(lr=1e-3, sparsity=0.05, bandwidth=0.1)
    wanted = step(copy_of(state), x, x, given, "triton/sparse").path
    assert wanted == ("triton/sparse" if n_firing == 4 else "triton/dense")

    def check(mine, share):
        assert step(mine, x, x, given, "triton/sparse", share).path == wanted

    on_ranks(2, state, check)


def test_entries_come_in_the_order_of_one_process():
    """Two ranks, three latents; the second rank has none of the first latent, and gaps."""
    theta = torch.tensor([1.0, 1.0, 1.0])
    ranks = [
        listed([0, 2, 3], [2, 1, 0], rows=[0, 2, 1], z=[1.0, 2.0, 0.9]),
        listed([0, 1, 3], [0, 1, 1], rows=[9, 0, 9, 2], z=[0.0, 3.0, 0.0, 4.0]),
    ]
    found: list[Any] = [None, None]

    def work(rank, reduce):
        blocks = row_share(3, rank, 2, reduce).rows
        assert blocks is not None
        found[rank] = blocks.listed(ranks[rank], 9, 6, theta)

    Ranks(2).run(work)
    for entries in found:
        assert entries.start.tolist() == [0, 2, 4]
        assert entries.length.tolist() == [2, 2, 1]
        assert entries.rows.tolist() == [0, 2, 1, 3, 5]
        assert entries.z.tolist() == pytest.approx([1.0, 2.0, 0.9, 3.0, 4.0])
        assert entries.df.tolist() == pytest.approx([-1.0, -2.0, -0.9, -3.0, -4.0])
        assert fired(entries, theta).tolist() == [1, 1, 1]


def listed(start, length, rows, z) -> ListedEntries:
    places = (torch.tensor(start), torch.tensor(length), torch.tensor(rows, dtype=torch.int32))
    return ListedEntries(*places, torch.tensor(z), -torch.tensor(z))


@pytest.mark.parametrize(("batch", "size"), [(7, 7), (8, 3), (64, 5), (4096, 64)])
def test_blocks_are_all_rows_once_and_as_even_as_can_be(batch, size):
    blocks = [RowBlocks(rank, size, torch.clone, torch.clone).mine(batch) for rank in range(size)]
    assert [row for block in blocks for row in range(batch)[block]] == list(range(batch))
    assert {block.stop - block.start for block in blocks} <= {batch // size, -(-batch // size)}


def test_a_process_alone_has_all_rows():
    assert Share.whole(40).my_rows(7) == slice(0, 7)
