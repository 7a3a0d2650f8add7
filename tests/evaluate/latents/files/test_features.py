"""circuit-tracer's record: what its page makes of every key."""

import math
from dataclasses import replace

import numpy as np
import pytest

from scopeworks.evaluate.latents.files.features import band_name, feature
from scopeworks.evaluate.latents.files.gathered import Gathered
from scopeworks.tests.evaluate.latents import made_contents as made

D_SAE = 30


@pytest.fixture(scope="module")
def found() -> Gathered:
    manifest = made.manifest(D_SAE).model_copy(update={"bands": made.BANDS})
    firings, directions = made.firings(D_SAE), made.directions(D_SAE)
    return Gathered(manifest, firings, directions, made.decode, np.zeros(D_SAE))


def test_examples_are_in_bands_by_strength(found: Gathered):
    bands = feature(found, 0)["examples_quantiles"]
    examples = found.firings.examples
    assert bands[0]["quantile_name"] == "Top activations"
    assert bands[1]["quantile_name"] == "Firings 0–20% from the strongest"
    peaks = [
        example["tokens_acts_list"][example["train_token_ind"]]
        for band in bands
        for example in band["examples"]
    ]
    assert peaks == pytest.approx(examples.value[examples.latent == 0].tolist(), rel=1e-5)
    assert not any(e["is_repeated_datapoint"] for band in bands for e in band["examples"])


def test_example_ends_where_its_tokens_do(found: Gathered):
    (first, second) = feature(found, 0)["examples_quantiles"][0]["examples"]
    assert (len(first["tokens"]), len(second["tokens"])) == (made.WINDOW // 2, made.WINDOW)
    ids = found.firings.examples.tokens[1]
    assert second["tokens"] == [made.text_of(i) for i in ids.tolist()]
    assert len(first["tokens_acts_list"]) == made.WINDOW // 2


def test_percentiles_are_exact_to_a_bin(found: Gathered):
    """Entry i is the (i + 1)-th percentile, as the page counts."""
    draw = np.random.default_rng(0)
    values, width = draw.gamma(2.0, 2.0, 1000), 0.5
    counts = np.zeros((D_SAE, 64), np.int64)
    np.add.at(counts[0], (values / width).astype(int), 1)
    firings = replace(
        found.firings,
        histogram=counts,
        fired=np.full(D_SAE, 1000),
        smallest=np.full(D_SAE, values.min()),
        largest=np.full(D_SAE, values.max()),
    )
    got = feature(replace(found, firings=firings), 0)
    slow = [np.sort(values)[math.ceil(p / 100 * 1000) - 1] for p in range(1, 101)]
    assert np.abs(np.array(got["quantile_values"]) - slow).max() <= width + 1e-3
    assert got["quantile_values"][-1] == pytest.approx(values.max(), rel=1e-3)
    assert got["quantile_values"] == sorted(got["quantile_values"])


def test_histogram_and_range_are_of_all_firings(found: Gathered):
    got, firings = feature(found, 1), found.firings
    assert sum(got["histogram"]) == firings.fired[1]
    assert (got["act_min"], got["act_max"]) == (0, pytest.approx(firings.largest[1], rel=1e-5))
    assert got["activation_frequency"] == pytest.approx(firings.fired[1] / made.ROWS)
    # Bins of the page's own width, act_max / bins, are less than one bin off at either end.
    n, width = len(got["histogram"]), firings.bin_width[1]
    assert (n - 1) * width <= got["act_max"] <= n * width


def test_output_tokens_are_in_order(found: Gathered):
    got, directions = feature(found, 2), found.directions
    assert got["top_logits"] == [made.text_of(i) for i in directions.raised[2].tolist()]
    assert got["bottom_logits"] == [made.text_of(i) for i in directions.lowered[2].tolist()]


def test_band_names_count_from_the_strongest():
    assert [band_name(b, 3) for b in (0, 1, 3)] == [
        "Top activations",
        "Firings 0–33.3% from the strongest",
        "Firings 66.7–100% from the strongest",
    ]
