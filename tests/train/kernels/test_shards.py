"""Virtual shards: the tree's order, and steps whose bits do not depend on who owns which shards."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scopeworks.tests.reference.jumprelu_cases import copy_of, gaussian_case, grid_case
from scopeworks.tests.reference.ranks import Ranks, part_of, shares
from scopeworks.train.kernels import Share, StepSettings, TrainState, TreeSum, step
from scopeworks.train.kernels.precision import exact_products
from scopeworks.train.kernels.shards import shard_size


def pairwise(values: list[float]) -> float:
    """The sum that the tree stands for: neighbours first, an odd one left over goes up alone."""
    while len(values) > 1:
        pairs = [a + b for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(pairs) * 2 :]
    return values[0]


def tree_sum(pairs) -> float:
    tree = TreeSum()
    for shard, value in pairs:
        tree.push(shard, torch.tensor(value, dtype=torch.float64))
    return float(tree.total())


@pytest.mark.parametrize(
    ("d_sae", "size", "n"),
    [(1, 1, 1), (9, 2, 5), (512, 64, 8), (8193, 1024, 9), (16384, 1024, 16), (2**20, 2**14, 64)],
)
def test_shards_have_one_size_and_are_at_most_64(d_sae, size, n):
    assert shard_size(d_sae) == size
    assert Share.whole(d_sae).n_shards == n


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=64))
def test_tree_adds_neighbours_first(values):
    assert tree_sum(enumerate(values)) == pairwise(list(values))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=64), st.data())
def test_missing_shards_add_nothing(values, data):
    gone = data.draw(st.sets(st.integers(0, len(values) - 1), max_size=len(values) - 1))
    kept = [(i, value) for i, value in enumerate(values) if i not in gone]
    assert tree_sum(kept) == pairwise([0.0 if i in gone else v for i, v in enumerate(values)])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_nodes_of_ranks_add_up_to_the_whole_tree(data):
    d_sae = data.draw(st.integers(1, 5000))
    n = Share.whole(d_sae).n_shards
    borders = sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=6))) if n > 1 else []
    values = data.draw(st.lists(st.floats(-1e6, 1e6), min_size=n, max_size=n))
    nodes = []
    for share in shares(d_sae, borders):
        for shards in share.nodes():
            nodes.append((shards[0], tree_sum((i, values[i]) for i in shards)))
    assert tree_sum(nodes) == pairwise(list(values))


def test_share_cuts_latents_without_gaps():
    for share in shares(4100, [3, 4]):
        cuts = [share.latents(shard) for shard in share.shards()]
        assert cuts[0].start == 0 and cuts[-1].stop == share.n_latents
        assert [a.stop for a in cuts[:-1]] == [b.start for b in cuts[1:]]
    assert sum(share.n_latents for share in shares(4100, [3, 4])) == 4100


def stepped_by_ranks(state: TrainState, x, target, given: StepSettings, backend: str, borders):
    """The reports and states of ranks that share a step, and of a second one."""
    cut = shares(state.parameters.d_sae, borders)
    parts = [part_of(state, share) for share in cut]

    def work(rank, reduce):
        share, weight = replace(cut[rank], reduce=reduce), given.latent_weight
        if weight is not None:
            weight = weight[share.first * share.size :][: share.n_latents]
        mine = replace(given, latent_weight=weight)
        results = [step(parts[rank], x, target, mine, backend, share) for _ in range(2)]
        return results, parts[rank]

    with exact_products("cpu"):
        return Ranks(len(cut)).run(work)


def check_ranks(state: TrainState, x, target, given: StepSettings, backend: str, borders) -> None:
    """Two steps by ranks against the same by one process: every number, bit for bit."""
    alone = copy_of(state)
    wanted = [step(alone, x, target, given, backend) for _ in range(2)]
    found = stepped_by_ranks(state, x, target, given, backend, borders)
    for results, _ in found:
        for mine, other in zip(results, wanted, strict=True):
            pair = [(r.loss, r.mse, r.penalty, r.l0, r.finite, r.path) for r in (mine, other)]
            assert pair[0] == pair[1]
    for k, other in enumerate(wanted):
        assert torch.equal(torch.cat([results[k].fired for results, _ in found]), other.fired)
    expected = alone.tensors()
    for name, tensor in expected.items():
        parts = [part.tensors()[name] for _, part in found]
        whole = name.endswith(("b_dec", "W_skip", "n_updates", "density"))
        for got in parts if whole else [torch.cat(parts)]:
            assert torch.equal(got, tensor), name


MATMUL: Any = getattr(torch.backends.mkldnn, "matmul")  # noqa: B009 (not in its stubs)
BORDERS = {"halves": [4], "thirds": [3, 6], "uneven": [1, 2, 7], "each": list(range(1, 8))}


@pytest.mark.parametrize("backend", ["cpu/sparse", "cpu/screened", "cpu/dense", "cpu/bfloat16"])
@pytest.mark.parametrize("borders", BORDERS.values(), ids=list(BORDERS))
def test_ranks_make_the_step_of_one_process(backend, borders):
    state, x = gaussian_case(96, 40, 600, theta=0.2, seed=3)
    given = StepSettings(
        lr=1e-3, sparsity=-0.05, bandwidth=0.1, latent_weight=torch.arange(600) / 600
    )
    check_ranks(state, x, x, given, backend, borders)


@pytest.mark.parametrize("backend", ["cpu/sparse", "cpu/dense"])
def test_ranks_make_the_step_of_a_skip_transcoder(backend):
    state, x = grid_case(33, 24, 70, seed=5, d_out=17)
    target = torch.randn(33, 17, generator=torch.Generator().manual_seed(0))
    given = StepSettings(
        lr=1e-3, sparsity=0.1, bandwidth=0.5, pre_bias=False, penalty="quadratic", target_l0=8.0
    )
    check_ranks(state, x, target, given, backend, [2, 5])


@pytest.mark.parametrize("backend", ["triton/sparse", "triton/screened", "triton/dense"])
def test_ranks_make_the_step_of_one_process_on_triton(backend):
    """Interpreted where there is no GPU."""
    pytest.importorskip("triton", reason="triton is not installed (extra: triton)")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    state, x = gaussian_case(6, 5, 17, theta=0.1, seed=3, device=device)
    given = StepSettings(lr=1e-3, sparsity=0.05, bandwidth=0.1)
    check_ranks(state, x, x, given, backend, [1, 4])


@pytest.mark.parametrize("backend", ["triton/sparse", "triton/screened"])
def test_rows_too_wide_for_the_registers_are_decoded_in_parts(backend, monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed (extra: triton)")
    from scopeworks.train.kernels.triton import backend as module

    device = "cuda" if torch.cuda.is_available() else "cpu"
    state, x = gaussian_case(6, 7, 17, theta=0.1, seed=3, device=device)
    given = StepSettings(lr=1e-3, sparsity=0.05, bandwidth=0.1)
    wanted = copy_of(state)
    step(wanted, x, x, given, backend)
    monkeypatch.setattr(module, "WIDEST", 4)
    check_ranks(state, x, x, given, backend, [3])
    step(state, x, x, given, backend)
    torch.testing.assert_close(state.parameters.W_dec, wanted.parameters.W_dec)
    torch.testing.assert_close(state.parameters.W_enc, wanted.parameters.W_enc)


def test_ranks_choose_the_path_of_one_process():
    state, x = gaussian_case(80, 16, 600, theta=0.5, seed=1)
    check_ranks(state, x, x, StepSettings(lr=1e-3, sparsity=1e-3), "auto", [5])
    state, x = gaussian_case(80, 16, 600, theta=1e-3, seed=1)
    check_ranks(state, x, x, StepSettings(lr=1e-3, sparsity=1e-3), "auto", [5])


@pytest.mark.parametrize("backend", ["cpu/sparse", "cpu/dense"])
def test_a_number_that_is_none_ends_the_step_on_every_rank(backend):
    state, x = gaussian_case(20, 8, 64)
    state.parameters.b_enc[50] = float("nan")
    found = stepped_by_ranks(state, x, x, StepSettings(lr=1e-3, sparsity=0.1), backend, [2, 4])
    assert [[r.finite for r in results] for results, _ in found] == [[False, False]] * 3
    assert all(part.n_updates == 0 for _, part in found)


def test_ranks_take_the_dense_path_where_one_process_would(monkeypatch):
    """Entries are counted over all ranks, however they are spread."""
    pytest.importorskip("triton", reason="triton is not installed (extra: triton)")
    from scopeworks.train.kernels.triton import encode

    monkeypatch.setattr(encode, "ALWAYS_LISTED", 0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for n_firing in (4, 12):
        state, x = gaussian_case(6, 5, 16, theta=10.0, seed=3, device=device)
        state.parameters.theta[:n_firing] = 1e-3
        state.parameters.b_enc[:n_firing] = 5.0
        given = StepSettings(lr=1e-3, sparsity=0.05, bandwidth=0.1)
        check_ranks(state, x, x, given, "triton/sparse", [2])


def test_rows_may_begin_anywhere_in_memory():
    """A skip path to one column is where BLAS would add in another order."""
    state, x = grid_case(33, 24, 70, seed=5, d_out=1)
    x = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    state.parameters.W_skip = torch.randn(24, 1, generator=torch.Generator().manual_seed(2))
    moved = torch.empty(x.numel() + 1)[1:].view(x.shape).copy_(x)
    given = StepSettings(lr=1e-3, sparsity=0.1, bandwidth=0.5, pre_bias=False)
    for path in ("cpu/sparse", "cpu/dense"):
        results = []
        for rows in (x, moved):
            copy = copy_of(state)
            results.append((step(copy, rows, x[:, :1], given, path).loss, copy.tensors()))
        assert results[0][0] == results[1][0]
        for name, tensor in results[0][1].items():
            assert torch.equal(tensor, results[1][1][name]), (path, name)


@pytest.mark.parametrize("path", ["cpu/sparse", "cpu/dense"])
def test_steps_in_several_threads_are_those_of_one(path):
    given = StepSettings(lr=1e-3, sparsity=0.05, bandwidth=0.1)

    def trained(seed: int) -> torch.Tensor:
        state, x = gaussian_case(64, 33, 200, theta=0.2, seed=seed)
        for _ in range(15):
            step(state, x, x, given, path)
        return state.parameters.W_enc

    wanted = [trained(seed) for seed in range(3)]
    before = MATMUL.fp32_precision
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(trained, range(3)))
    assert MATMUL.fp32_precision == before
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("stretch", [(-1, 2), (3, 3), (0, 9)])
def test_shards_that_are_not_there_are_refused(stretch):
    with pytest.raises(ValueError, match=r"some of the 8 of 64 latents, got \["):
        Share(64, *stretch)


def test_reference_backend_refuses_a_part_of_the_latents():
    state, x = gaussian_case(4, 3, 64)
    share = shares(64, [4])[0]
    given = StepSettings(lr=1e-3, sparsity=0.1)
    with pytest.raises(ValueError, match="reference must have all latents; choose cpu or triton"):
        step(part_of(state, share), x, x, given, "reference", share)
    with pytest.raises(ValueError, match="state must hold the 32 latents of its share, got 64"):
        step(state, x, x, given, "cpu", share)
