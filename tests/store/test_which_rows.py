"""The key of which rows a store holds: what is in it, and what is not."""

import pytest

from scopeworks.store import StoreSpec
from scopeworks.store.which_rows import CHOSEN, COMPUTED, rows_key

PROVENANCE = {
    "model": "google/gemma-2-2b",
    "model_fingerprint": "aa",
    "tokenizer": "bb",
    "tokens": "cc",
    "split": "train",
    "context": 128,
    "masked_token_ids": [0, 1, 2],
    "masked_prefix": 0,
    "outlier": None,
    "drop_nonfinite": False,
    "device": "cpu",
    "dtype": "float32",
    "attention": "eager",
    "compile": False,
    "batch_sequences": 4,
}
SPEC = StoreSpec(
    sites={"resid_post.1": 24}, rows=4096, bucket_rows=1024, seed=3, provenance=PROVENANCE
)


def changed(**changes) -> StoreSpec:
    return SPEC.model_copy(update=changes)


def said(**changes) -> StoreSpec:
    return changed(provenance=PROVENANCE | changes)


def test_the_key_is_a_fixed_function_of_the_facts():
    assert rows_key(SPEC) == "fb2405b8b18315f793e42c98beb4f11b13138103155987b53ac5d55dd884de14"


@pytest.mark.parametrize(
    "other",
    [
        changed(sites={"mlp_out.0": 7}),
        changed(rows=8192),
        changed(codec="int8", chunk_rows=64, shard_rows=512),
        changed(versions={"torch": "9"}),
        said(model="/home/me/gemma"),
        said(tokenizer="dd", note="x"),
    ],
    ids=["sites", "rows", "codec and sizes", "versions", "name of the model", "other entries"],
)
def test_sites_sizes_places_and_versions_are_not_in_it(other):
    assert rows_key(other) == rows_key(SPEC)


@pytest.mark.parametrize("name", [*CHOSEN, *COMPUTED])
def test_every_entry_that_decides_rows_is_in_it(name):
    assert rows_key(said(**{name: "another"})) != rows_key(SPEC)


@pytest.mark.parametrize("other", [changed(seed=4), changed(bucket_rows=512)])
def test_what_permutes_rows_is_in_it(other):
    assert rows_key(other) != rows_key(SPEC)


@pytest.mark.parametrize("drops", [{"outlier": 8.0}, {"drop_nonfinite": True}])
def test_sites_are_in_it_where_rows_may_be_dropped_for_them(drops):
    ours, other = said(**drops), said(**drops).model_copy(update={"sites": {"mlp_out.0": 7}})
    assert rows_key(ours) != rows_key(other)
    assert rows_key(ours) == rows_key(ours.model_copy(update={"sites": {"resid_post.1": 9}}))


def test_a_store_of_unknown_rows_has_no_key():
    with pytest.raises(ValueError, match=r"must be a harvest's .*, got no tokens, split$"):
        rows_key(changed(provenance={"model_fingerprint": "aa"}))
