"""What studies read of an SAE's entry."""

from scopeworks.evaluate.study.entries import around, figure_of, of_one_seed, told_apart
from scopeworks.evaluate.study.statistics import Quantity
from scopeworks.tests.evaluate.studies.documents import sae


def test_a_figure_has_the_interval_that_the_evaluation_gives_it_and_no_other():
    assert figure_of(sae(fvu=0.2, half=0.1), "fvu", 40) == Quantity(
        0.2, 0.1, 0.30000000000000004, 40
    )
    few = sae(delta_loss=0.1, half=None, delta_loss_stderr=0.001)
    assert figure_of(few, "delta_loss", 2) == Quantity(0.1, n=2)
    nothing = few | {"intervals": {"delta_loss": None, "fvu": [None, None]}}
    assert figure_of(nothing, "delta_loss", 2) == Quantity(0.1, n=2)
    assert figure_of(nothing, "fvu", 2) == Quantity(0.2, n=2)
    assert figure_of(few, "kl") is None


def test_a_standard_error_of_few_sequences_gives_no_interval():
    assert around(1.0, 0.1, 15) == Quantity(1.0) == around(1.0, None, 100)
    assert around(1.0, 0.1, 16).half is not None


def test_of_several_seeds_the_longest_frontier_is_taken():
    short, long = [(1.0, Quantity(1.0))], [(1.0, Quantity(2.0)), (2.0, Quantity(1.0))]
    curves = {("a", 2): long, ("a", 0): short, ("a", 1): [*long], ("b", 5): short}
    found = of_one_seed(curves)
    assert found == {("a",): long, ("b",): short}
    assert found["a",] is curves["a", 1]


def test_saes_are_named_by_as_little_as_tells_them_apart():
    one, wide = ("mlp_out.1", 512, "a"), ("mlp_out.1", 2048, "b")
    assert told_apart([one, ("resid_post.1", 512, "c")]) == ["mlp_out.1", "resid_post.1"]
    assert told_apart([one, wide]) == ["mlp_out.1, width 512", "mlp_out.1, width 2,048"]
    assert told_apart([one, wide, ("mlp_out.1", 512, "d")]) == ["a", "b", "d"]
