"""The short form of benchmarks/interval_coverage.py: intervals over sequences of the random model
hold what all its sequences give."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scopeworks.evaluate.measure.inputs import HeldOut, candidate
from scopeworks.tests.evaluate.saes import random_sae
from scopeworks.tests.reference.gemma_models import build_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DRAWS = 200


@pytest.fixture(scope="module")
def pool(interval_coverage):
    """512 sequences of nine tokens; each has words of its own, so that tokens of one are alike."""
    model = build_model("grouped")
    lm = SimpleNamespace(
        model=model, config=model.config, name="grouped", device=torch.device("cpu")
    )
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(3, 300, (512, 4), generator=generator)
    ids = words.gather(1, torch.randint(0, 4, (512, 9), generator=generator))
    ids[:, 0] = 2
    held_out = HeldOut(ids.numpy(), len(ids), torch.tensor([0, 1, 2]))
    one = candidate("sae", random_sae("resid_post.1"), lm)  # pyright: ignore[reportArgumentType]
    return interval_coverage.measured(lm, one, held_out, batch=64)


@pytest.fixture(scope="module")
def interval_coverage():
    """The benchmark as a module; it imports its neighbour `recording`."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import interval_coverage  # pyright: ignore[reportMissingImports]

        yield interval_coverage
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("size", [32, 128])
def test_intervals_hold_the_value_of_all_sequences(interval_coverage, pool, size):
    found = interval_coverage.coverage(pool, size, DRAWS)
    for name in ("fvu", "delta_loss", "kl", "l0", "mse", "cosine"):
        assert 0.90 <= found[name]["covered"] <= 0.985, name


def test_intervals_over_sequences_are_too_short_for_other_documents(interval_coverage, pool):
    order = pool.sums["error"].argsort()  # sequences of one document are alike: 16 of each
    documents = list(order.split(16))
    found = interval_coverage.coverage(pool, 128, DRAWS, documents)
    alone = interval_coverage.coverage(pool, 128, DRAWS, [row[None] for row in order])
    assert found["mse"]["covered"] < 0.7
    assert alone["mse"]["covered"] >= 0.9


def test_a_sequence_is_of_the_document_that_its_longest_run_is_of(interval_coverage):
    class Letters:
        all_special_ids = (1, 2)

        def __call__(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
            assert not add_special_tokens
            return SimpleNamespace(input_ids=[ord(letter) for letter in text])

    texts = ["abcdef", "uvwxyz"]
    rows = [[2, *map(ord, "cde"), 1, ord("u")], [2, ord("f"), 1, *map(ord, "uvw")], [2, *[7] * 5]]
    found = interval_coverage.owners(rows, Letters(), texts).tolist()
    assert found == [0, 1, 2 + 2]
    groups = interval_coverage.documents_of(torch.tensor([3, 0, 3]))
    assert [group.tolist() for group in groups] == [[1], [0, 2]]
