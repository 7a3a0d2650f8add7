"""The first screen's sentences: the best SAEs, their numbers rounded as their intervals allow."""

import copy
from typing import Any

import pytest

from scopeworks.evaluate.page.answer import measured, rounded, sentences, warnings
from scopeworks.evaluate.page.entries import best, interval, labels, natural, slots


def entry(l0: float, loss: float, site: str = "resid_post.3", **more: Any) -> dict[str, Any]:
    values = {"name": f"{site}-{l0}", "site": site, "target_site": site, "d_sae": 2048, "l0": l0}
    values |= {"fvu": 0.25, "delta_loss": loss, "delta_loss_stderr": None, "config": {}}
    return values | {"recovered_share": 0.97} | more


def test_a_sentence_has_every_figure_and_says_once_what_brackets_are():
    known = {"delta_loss": [0.19, 0.23], "fvu": [0.245, 0.255], "recovered_share": None}
    assert sentences([entry(45.79, 0.2111, intervals=known)]) == [
        "With 45.8 active latents per token, the SAE of width 2,048 on resid_post.3 costs the "
        "language model 0.211 nats per token (95% interval 0.190 to 0.230), leaves 25.00% (24.50 "
        "to 25.50%) of the variance and recovers 97.0% of what ablating the site by its mean costs."
    ]


def test_a_splice_that_helps_has_a_minus_and_figures_that_are_not_known_no_words():
    known = {"delta_loss": [-0.03, 0.01]}
    (said,) = sentences([entry(5.0, -0.01, fvu=None, recovered_share=None, intervals=known)])
    assert said == (
        "With 5.00 active latents per token, the SAE of width 2,048 on resid_post.3 costs the "
        "language model −0.010 nats per token (95% interval −0.030 to 0.010)."
    )


def test_of_one_site_the_ends_of_the_frontier_and_the_canonical_one_are_quoted():
    some = [entry(l0, 1 / l0) for l0 in (5.0, 20.0, 90.0, 300.0)] + [entry(95.0, 2.0)]
    said = sentences(some)
    assert [text.split()[1] for text in said] == ["5.00", "90.0", "300"]


def test_of_many_sites_five_are_quoted_and_the_rest_counted():
    some = [entry(l0, 1 / l0, f"resid_post.{i}") for i in range(11) for l0 in (10.0, 110.0)]
    said = sentences(some)
    assert [f"on resid_post.{i} costs" in text for i, text in enumerate(said[:5])] == [True] * 5
    assert all(text.startswith("With 110 active") for text in said[:5])
    assert said[5:] == ["6 more sites are in the table."]


def test_the_frontier_is_what_no_other_sae_of_the_site_beats():
    some = [entry(10.0, 0.5), entry(20.0, 0.6), entry(20.0, 0.4), entry(9.0, 0.9, "mlp_out.1")]
    assert [one["name"] for one in best(some)] == [
        "mlp_out.1-9.0",
        "resid_post.3-10.0",
        "resid_post.3-20.0",
    ]
    assert best(some)[2]["delta_loss"] == 0.4


def test_an_old_evaluations_interval_is_made_of_the_standard_error():
    one = entry(10.0, 0.5, delta_loss_stderr=0.1)
    assert interval(one, "delta_loss") == pytest.approx((0.304, 0.696))
    assert interval(one, "fvu") is None
    assert interval(one | {"intervals": {"delta_loss": None}}, "l0") is None


def test_few_sequences_give_no_interval_although_the_standard_error_is_known():
    """An evaluation leaves an interval out on purpose; a normal one would be too short."""
    one = entry(10.0, 0.5, delta_loss_stderr=0.1, intervals={"delta_loss": None, "fvu": None})
    assert interval(one, "delta_loss") is None
    assert "95% interval" not in sentences([one])[0]


@pytest.mark.parametrize(
    ("value", "ends", "shown"),
    [
        (0.123456, [0.12, 0.13], ("0.1235", "0.1200 to 0.1300")),
        (1234.5, [1000.0, 1500.0], ("1,234", "1,000 to 1,500")),
        (0.5, [0.5, 0.5], ("0.500", "0.500 to 0.500")),
        (0.5, None, ("0.500", "")),
        (0.0, None, ("0", "")),
        (1e300, [-1e308, 1e308], ("1e+300", "−1e+308 to 1e+308")),
        (1.234567e59, None, ("1.235e+59", "")),
    ],
)
def test_numbers_have_two_digits_of_half_their_interval(value, ends, shown):
    assert rounded({"l0": value, "intervals": {"l0": ends}}, "l0") == shown


def test_warnings_name_their_sae_and_stand_once(evaluation):
    some = copy.deepcopy(evaluation)
    some["saes"][0]["warnings"] = ["Measured L0 is far off.", "Measured L0 is far off."]
    assert warnings([some, some], some["saes"]) == [
        "2,048 sequences were asked for and 6 measured: the split holds no more.",
        "sae0: Measured L0 is far off.",
    ]
    some["tokens"]["fewer_than_asked"] = False
    assert warnings([some], some["saes"][1:]) == []


def test_what_was_measured_is_said_with_sites_in_their_order(evaluation):
    some = [entry(10.0, 0.5, f"resid_post.{i}") for i in (10, 9, 2)]
    assert measured([evaluation], some).startswith(
        "3 sparse autoencoders on resid_post.2, resid_post.9, resid_post.10 of grouped, 2,048 "
        "latents wide, measured on 6 held-out sequences of 11 tokens ("
    )
    many = [entry(10.0, 0.5, f"resid_post.{i}") for i in range(26)]
    assert "on 26 sites from resid_post.0 to resid_post.25 of" in measured([evaluation], many)


def test_names_in_legends_say_what_differs():
    widths = [entry(10.0, 0.5), entry(20.0, 0.5, d_sae=4096)]
    assert labels(widths) == ["width 2,048, L0 10", "width 4,096, L0 20"]
    assert labels([entry(7.849, 0.5, config={"sparsity": 0.012})]) == ["λ 0.012, L0 7.85"]
    sites = [entry(10.0, 0.5, "x" * 40 + str(i)) for i in range(2)]
    assert [name for name, _ in slots(sites)] == ["…" + "x" * 28 + str(i) for i in range(2)]
    long = [entry(10.0, 0.5, f"{i}" + "x" * 40) for i in range(2)]
    assert [len(some) for _, some in slots(long)] == [1, 1]


def test_layers_are_sorted_by_number():
    names = ["mlp_out.10", "mlp_out.9", "attn_out.11", "7"]
    assert sorted(names, key=natural) == ["attn_out.11", "mlp_out.9", "mlp_out.10", "7"]
