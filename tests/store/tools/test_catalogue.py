"""A catalogue names every store at a place, and says of broken ones what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from scopeworks.store import ActivationStore, StoreWriter, TokenStore
from scopeworks.store.cli import app
from scopeworks.store.tools.catalogue import ListedStore, catalogue
from scopeworks.store.which_rows import rows_key
from scopeworks.tests.store.making import fill, make_store, rows_of, spec_of

SAID = {"model": "tiny", "model_fingerprint": "aa", "tokens": "0123456789abcdef", "split": "train"}


def make_tokens(url: str) -> TokenStore:
    store = TokenStore.create(url, context=8, bos=2, eos=1, pad=0)
    store.write({"train": np.zeros((5, 8), np.uint32), "held_out": np.ones((2, 8), np.uint32)})
    return TokenStore.open(url)


def some_buckets(url: str, buckets: range) -> None:
    spec = spec_of(provenance=SAID)
    with StoreWriter.open(url, spec) as writer:
        for bucket in buckets:
            fill(writer, rows_of(spec), bucket)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a whole store, one of which two of four buckets are there, and tokens."""
    make_store(tmp_path / "acts", provenance=SAID)
    some_buckets(str(tmp_path / "begun"), range(2))
    make_tokens(str(tmp_path / "tokens"))
    (tmp_path / "sae").mkdir()
    (tmp_path / "sae/config.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("x")
    return tmp_path


def by_name(place: Path | str, **options) -> dict[str, ListedStore]:
    return {entry.url.rpartition("/")[2]: entry for entry in catalogue(place, **options)}


def test_every_store_is_named_and_nothing_else(place):
    found = by_name(place)
    assert list(found) == ["acts", "begun", "tokens"]
    acts, begun, tokens = found.values()
    store = ActivationStore.open(place / "acts")
    assert (acts.kind, acts.spec, acts.url) == ("activations", store.spec, store.url)
    assert (acts.complete, acts.n_committed, acts.rows) == (True, 4, 700)
    assert acts.stored_bytes == sum(store.stored_bytes.values())
    assert acts.rows_key == rows_key(store.spec)
    assert (begun.complete, begun.n_committed, begun.rows) == (False, 2, 384)
    assert begun.rows_key == acts.rows_key
    assert (tokens.kind, tokens.complete, tokens.error) == ("tokens", True, None)
    assert tokens.tokens is not None and tokens.tokens.splits == {"train": 5, "held_out": 2}
    sizes = [path.stat().st_size for path in (place / "tokens").glob("*/c/*/0")]
    assert tokens.stored_bytes == sum(sizes)


def test_the_place_itself_may_be_a_store(place):
    assert catalogue(place / "acts") == [by_name(place)["acts"]]
    assert catalogue(f"file://{place}/tokens")[0].kind == "tokens"


def test_without_records_only_lists_are_read(place):
    (place / "acts/commits/00000001/zarr.json").write_text("{}")
    acts = by_name(place, records=False)["acts"]
    assert (acts.n_committed, acts.complete, acts.rows, acts.error) == (4, True, None, None)


def test_a_damaged_record_is_said_and_the_store_is_not_complete(place):
    (place / "acts/commits/00000001/zarr.json").write_text("{}")
    acts = by_name(place)["acts"]
    assert acts.error is not None and acts.error.startswith("commit of bucket 1: ")
    assert (acts.complete, acts.n_committed, acts.rows) == (False, 4, None)


@pytest.mark.parametrize(
    ("name", "text", "kind", "error"),
    [
        ("acts", "{", "unreadable", "zarr.json is not valid JSON"),
        ("acts", '{"attributes": {"scopeworks": {"format": "activation-store", "version": "2.0"}}}',
         "activations", "must have format version 1.x, got 2.0"),
        ("tokens", '{"attributes": {"scopeworks": {"format": "token-store", "version": "1.0"}}}',
         "tokens", "is damaged"),
    ],
)  # fmt: skip
def test_a_broken_root_is_one_line(place, name, text, kind, error):
    (place / name / "zarr.json").write_text(text)
    found = by_name(f"file://{place}")
    assert len(found) == 3
    assert found[name].kind == kind and error in str(found[name].error)
    assert found[name].url == str(place / name)
    assert not found[name].complete and "\n" not in str(found[name].error)


def test_a_group_of_others_is_none_of_ours(place):
    (place / "acts/zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    assert list(by_name(place)) == ["begun", "tokens"]


def test_tokens_that_are_being_written_are_not_complete(place):
    TokenStore.create(place / "more", context=8, bos=2, eos=1, pad=0)
    more = by_name(place)["more"]
    assert (more.kind, more.complete, more.tokens, more.error) == ("tokens", False, None, None)


def test_a_link_to_a_store_elsewhere_is_a_store(place, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "linked").symlink_to(place / "acts")
    assert by_name(other)["linked"].rows == 700


def test_nothing_is_no_error(tmp_path):
    assert catalogue(tmp_path / "nowhere") == catalogue(tmp_path) == []


def test_a_url_of_fsspec():
    make_store("memory://catalogue/acts")
    make_tokens("memory://catalogue/tokens")
    found = by_name("memory://catalogue")
    assert [entry.kind for entry in found.values()] == ["activations", "tokens"]
    assert found["acts"].url == "memory://catalogue/acts"
    assert found["acts"].rows_key is None


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["list", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_prints_a_store_in_a_few_lines(place):
    (place / "tokens/zarr.json").write_text("{")
    text = run(str(place))
    assert f"{place}/acts: activations, complete, 700 of 700 rows, codec exact, " in text
    assert f"{place}/begun: activations, 2 of 4 buckets, 384 of 700 rows" in text
    assert "    sites resid_post.1 (d 24), mlp_out.0 (d 7)\n" in text
    assert "    model tiny, tokens 0123456789ab, split train, context unknown, rows key " in text
    assert f"{place}/tokens: unreadable, cannot be used: " in text
    tokens = make_tokens(f"{place}/more").url
    assert "tokens, complete, sequences of 8: train 5, held_out 2" in run(tokens)
    with pytest.raises(FileNotFoundError, match=r"no store at .*/none or in a folder"):
        run(f"{place}/none")


def test_the_command_prints_json(place):
    acts, _, tokens = json.loads(run(str(place), "--json"))
    assert (acts["kind"], acts["rows"], acts["n_buckets"], acts["complete"]) == (
        "activations", 700, 4, True,
    )  # fmt: skip
    assert acts["spec"]["sites"] == {"resid_post.1": 24, "mlp_out.0": 7}
    assert run(f"{place}/none", "--json") == "[]\n"
    assert tokens["splits"] == {"train": 5, "held_out": 2} and "spec" not in tokens
