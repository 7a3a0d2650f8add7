"""Documents of a store that contradict themselves or hold nonsense, with checksums that are right:
one clear line from every reader, and from `verify`."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scopeworks.store import ActivationStore, StoreWriter, TokenStore
from scopeworks.store.format.commits import commit_key
from scopeworks.store.format.spec import crc32c_hex
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.store.forging import forge
from scopeworks.tests.store.making import make_store

SITE = "mlp_out.0"
DEEP: Any = 1
for _ in range(300):
    DEEP = [DEEP]


def base64_of(values: list[float], dtype: str = "<f8") -> str:
    return base64.b64encode(np.array(values, dtype).tobytes()).decode()


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Sets an entry: names on the way to it, then its value."""

    def change(attributes: dict[str, Any]) -> None:
        for name in path[:-2]:
            attributes = attributes[name]
        attributes[path[-2]] = path[-1]

    return change


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(attributes: dict[str, Any]) -> None:
        for name in path[:-1]:
            attributes = attributes[name]
        del attributes[path[-1]]

    return change


ROOTS = [
    (put("spec", "rows", "700"), "rows: input should be a valid integer"),
    (put("spec", "rows", 700.0), "rows: input should be a valid integer"),
    (put("spec", "rows", -1), "rows: input should be greater than 0"),
    (put("spec", "rows", 2**70), "rows: input should be less than"),
    (put("spec", "bucket_rows", 0), "bucket_rows: input should be greater than 0"),
    (put("spec", "seed", True), "seed: input should be a valid integer"),
    (put("spec", "codec", 3), "codec: input should be a valid string"),
    (put("spec", "codec", "zip"), "codec must be one of exact"),
    (put("spec", "sites", {}), "sites: dictionary should have at least 1 item"),
    (put("spec", "sites", {f"s{i}": 1 for i in range(10**5)}), "sites: dictionary .* at most 4096"),
    (put("spec", "sites", {"../x": 4}), "site name must be letters"),
    (put("spec", "sites", SITE, 2**40), "width of site mlp_out.0 must be at most"),
    (put("spec", "sites", "other", 7), "documents must name those .* got no 'sites/other/zarr"),
    (put("spec", "provenance", "deep", DEEP), "nested too deeply|recursion limit"),
    (put("spec", "provenance", []), "provenance: input should be (a valid dictionary|an object)"),
    (drop("spec", "seed"), r"must have spec.seed in its zarr.json"),
    (drop("spec"), "spec is missing"),
    (drop("documents"), "documents is missing"),
    (put("documents", "sites/zarr.json", 5), "documents.sites/zarr.json"),
    (put("documents", "../secret", "00000000"), r"got also '../secret'"),
    (put("grown_from", [800]), "grown_from must be ascending and below rows"),
    (put("grown_from", [-1]), "grown_from.0: input should be greater"),
    (put("version", {"a": 1}), "must have format version 1.x"),
    (put("format", ["activation-store"]), "must be a scopeworks activation-store, got"),
]


@pytest.mark.parametrize(("change", "message"), ROOTS, ids=[m for _, m in ROOTS])
def test_a_root_that_holds_nonsense_is_one_line(fresh, change, message):
    forge(Path(fresh.url) / "zarr.json", change)
    for attempt in (
        ActivationStore.open,
        verify_store,
        StoreWriter.begun,
        lambda url: StoreWriter.open(url, fresh.spec),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            attempt(fresh.url)
        assert "\n" not in str(raised.value)
        assert fresh.url in str(raised.value)


def test_a_billion_buckets_are_refused(fresh):
    def change(attributes: dict[str, Any]) -> None:
        attributes["spec"] |= {"rows": 10**9, "bucket_rows": 1, "shard_rows": 1, "chunk_rows": 1}

    forge(Path(fresh.url) / "zarr.json", change)
    with pytest.raises(ValueError, match="into at most 10000000 buckets"):
        ActivationStore.open(fresh.url)


COMMITS = [
    (put("rows", "192"), "rows: input should be a valid integer"),
    (put("rows", -5), "rows: input should be greater than or equal to 0"),
    (put("rows", 10**9), "must be 192 together, got 1000000000"),
    (put("rows", 191), r"must be 192 together, got 191"),
    (put("dropped", 10), "must be 192 together, got 202"),
    (put("dropped_at", [[0, 3]]), r"dropped_at must add up to dropped \(0\), got 3"),
    (put("dropped_at", [[0]]), "dropped_at.0.1 is missing"),
    (put("bucket", 2), "bucket must be 1 as its place says, got 2"),
    (put("sites", []), "sites: input should be (a valid dictionary|an object)"),
    (drop("sites", SITE), "sites must be those of the store's spec, got no 'mlp_out.0'"),
    (put("sites", "other", {"sum": "", "sum_squares": 0.0}), "got also 'other'"),
    (put("sites", SITE, "sum", 5), "sites.mlp_out.0.sum: input should be a valid string"),
    (put("sites", SITE, "sum", "AAAA"), "sum of mlp_out.0 must be base64 of f8|f8 numbers"),
    (put("sites", SITE, "sum", "!"), "sum of mlp_out.0 must be base64"),
    (put("sites", SITE, "sum", base64_of([0.0] * 6)), "must be 7 finite numbers, got 6"),
    (
        put("sites", SITE, "sum", base64_of([np.nan] * 7)),
        "must be 7 finite numbers, got 7 with nan",
    ),
    (put("sites", SITE, "sum", base64_of([1e9] * 7)), "sum_squares of mlp_out.0 must be at least"),
    (put("sites", SITE, "sum_squares", -1.0), "sum_squares: input should be greater"),
    (put("sites", SITE, "sum_squares", "1"), "sum_squares: input should be a valid number"),
    (put("sites", SITE, "scale", base64_of([1.0] * 7, "<f4")), "scale of mlp_out.0 must be there"),
    (drop("shards", "labels/token"), "shards must be those .* got no 'labels/token'"),
    (put("shards", f"sites/{SITE}", []), "shards of sites/mlp_out.0 must be 3 … 5 .* got none"),
    (put("shards", f"sites/{SITE}", 0, 0, 9), "must be 3 … 5 .3., got 9 … 5"),
    (put("shards", f"sites/{SITE}", 0, 1, 3), r"shard 3 .* must have 36 to .* bytes, got 3"),
    (put("shards", f"sites/{SITE}", 0, 1, 2**40), r"shard 3 .* bytes, got 1099511627776"),
    (put("shards", f"sites/{SITE}", 0, 1, -3), "input should be greater than or equal to 0"),
    (put("shards", f"sites/{SITE}", 0, 2, 2**32), "input should be less than 4294967296"),
    (put("shards", f"sites/{SITE}", 0, [1, 2]), r"shards.sites/mlp_out.0.0.2 is missing"),
    (put("shards", "../x", []), "got also '../x'"),
    (put("version", "2.0"), "must have format version 1.x, got 2.0"),
]


@pytest.mark.parametrize(("change", "message"), COMMITS, ids=[m for _, m in COMMITS])
def test_a_commit_that_holds_nonsense_is_one_line(fresh, change, message):
    forge(Path(fresh.url) / commit_key(1), change)
    with pytest.raises(OSError, match=rf"^commit of bucket 1: .*({message})") as raised:
        ActivationStore.open(fresh.url)
    assert "\n" not in str(raised.value)
    report = verify_store(fresh.url)
    assert [str(raised.value)] == report.problems[:1]
    assert report.damaged == {1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "NaN is no JSON number"),
        ("Infinity", "Infinity is no JSON number"),
        ("1e999", "1e999 is beyond float64"),
        ("[" * 10**5, "nested too deeply"),
        ('{"attributes": {"scopeworks": {"rows": 1, "rows": 2}}}', "'rows' is given twice"),
        ('{"attributes": {"scopeworks": []}}', "its zarr.json is not one"),
        ('{"attributes": {"scopeworks": {"a": "\\ud800", "format": "activation-store", '
         '"version": "1.0"}}}', "no canonical form|must be a scopeworks bucket-commit, got"),
        ("[]", "its zarr.json is not one"),
        ("", "its zarr.json is not one"),
        ("\0" * 50, "its zarr.json is not one"),
        ("9" * 5000, "its zarr.json is not one"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["zarr.json", commit_key(0)])
def test_text_that_is_no_document_is_one_line(fresh, key, text, message):
    (Path(fresh.url) / key).write_text(text)
    with pytest.raises((ValueError, OSError), match=message) as raised:
        ActivationStore.open(fresh.url)
    assert "\n" not in str(raised.value)
    assert fresh.url in str(raised.value)


def test_sums_that_are_not_those_of_the_rows_are_found(fresh):
    forge(Path(fresh.url) / commit_key(2), put("sites", SITE, "sum", base64_of([0.5] * 7)))
    forge(
        Path(fresh.url) / commit_key(0),
        lambda body: body["sites"][SITE].update(
            sum_squares=body["sites"][SITE]["sum_squares"] * 1.0001
        ),
    )
    report = verify_store(fresh.url)
    assert report.damaged == {0, 2}
    assert all("its rows do not add up to the sums" in problem for problem in report.problems)


@pytest.mark.parametrize("codec", ["exact", "fast", "float32", "int8"])
def test_sound_sums_of_every_codec_are_those_of_the_rows(tmp_path, codec):
    assert verify_store(make_store(tmp_path / "a", codec=codec).url).problems == []


def test_int8_without_its_scale_is_refused(tmp_path):
    url = make_store(tmp_path / "a", codec="int8").url
    forge(tmp_path / "a" / commit_key(3), drop("sites", SITE, "scale"))
    with pytest.raises(OSError, match=r"scale of mlp_out.0 must be there for int8"):
        ActivationStore.open(url)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_a_scale_that_is_no_step_is_refused(tmp_path, value):
    url = make_store(tmp_path / "a", codec="int8").url
    scale = base64_of([1.0] * 6 + [value], "<f4")
    forge(tmp_path / "a" / commit_key(0), put("sites", SITE, "scale", scale))
    with pytest.raises(OSError, match=r"scale of mlp_out.0 must be 7 finite numbers above 0"):
        ActivationStore.open(url)


def forge_array(url: str, key: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes an array's document, and its checksum in the root with it."""
    path = Path(url) / key
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    forge(Path(url) / "zarr.json", put("documents", key, crc32c_hex(path.read_bytes())))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (put("shape", [700, 8]), r"shape is \[700, 8\], by the root it is \[700, 7\]"),
        (put("data_type", "float32"), "data_type is 'float32', by the root it is 'bfloat16'"),
        (put("chunk_grid", "configuration", "chunk_shape", [32, 7]), "chunk_grid is"),
        (put("codecs", 0, "configuration", "chunk_shape", [64, 7]), "codecs is"),
        (put("codecs", 0, "configuration", "codecs", []), "codecs is"),
        (put("node_type", "group"), "node_type is 'group'"),
        (drop("shape"), "shape is None"),
    ],
)
def test_an_array_document_that_contradicts_the_root_is_found(fresh, change, named):
    key = f"sites/{SITE}/zarr.json"
    forge_array(fresh.url, key, change)
    problems = verify_store(fresh.url).problems
    assert len(problems) == 1
    assert problems[0].startswith(f"{key} contradicts the root: ")
    assert re.search(named, problems[0])


def test_a_preset_of_another_day_is_no_contradiction(fresh):
    blosc = ("codecs", 0, "configuration", "codecs", 1, "configuration")
    forge_array(fresh.url, f"sites/{SITE}/zarr.json", put(*blosc, "clevel", 5))
    assert verify_store(fresh.url).problems == []


@pytest.mark.parametrize(
    "change",
    [
        put("spec", "sites", SITE, 14),
        put("spec", "codec", "float32"),
        put("spec", "codec", "int8"),
        put("spec", "chunk_rows", 64),
        put("spec", "rows", 699),
    ],
)
def test_a_root_that_contradicts_its_store_is_found(fresh, change):
    forge(Path(fresh.url) / "zarr.json", change)
    assert verify_store(fresh.url).problems


def test_strangers_are_noted_and_are_no_damage(fresh):
    for key in ("README.txt", "sites/old/zarr.json", "commits/00000099/zarr.json", "commits/x"):
        (Path(fresh.url) / key).parent.mkdir(exist_ok=True)
        (Path(fresh.url) / key).write_text("x")
    report = verify_store(fresh.url)
    assert report.problems == []
    assert [note.partition(" is no part")[0] for note in report.notes] == [
        "README.txt",
        "sites/old",
        "commits/00000099",
        "commits/x",
    ]
    assert ActivationStore.open(fresh.url).complete


TOKENS = [
    (put("context", "16"), "context: input should be a valid integer"),
    (put("context", 10**9), "context: input should be less than"),
    (put("context", 1), "context: input should be greater"),
    (put("bos", -1), "bos: input should be greater"),
    (put("pad", 1.5), "pad: input should be a valid integer"),
    (drop("eos"), "eos is missing"),
    (put("splits", []), "splits: input should be (a valid dictionary|an object)"),
    (put("splits", {"../x": {}}), r"splits.../x"),
    (put("splits", "train", "sequences", 0), "sequences: input should be greater"),
    (put("splits", "train", "sequences", 10**12), "shards of train must be 0 … "),
    (put("splits", "train", "sha256", None), "sha256: input should be a valid string"),
    (put("splits", "train", "shards", []), "shards of train must be 0 … 0"),
    (put("splits", "train", "shards", [[0, 1, 2]]), "must have .* bytes, got 1"),
    (put("provenance", 3), "provenance: input should be (a valid dictionary|an object)"),
]


@pytest.mark.parametrize(("change", "message"), TOKENS, ids=[m for _, m in TOKENS])
def test_a_token_store_that_holds_nonsense_is_one_line(tmp_path, change, message):
    store = TokenStore.create(tmp_path / "tok", context=16, bos=1, eos=None, pad=0)
    store.write({"train": np.zeros((20, 16), np.uint32)})
    forge(tmp_path / "tok" / "zarr.json", change)
    with pytest.raises((ValueError, OSError), match=message) as raised:
        TokenStore.open(tmp_path / "tok")
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "tok") in str(raised.value)


def test_a_forged_document_reads_where_nothing_is_wrong(fresh):
    forge(Path(fresh.url) / commit_key(1), put("unknown", "newer"))
    forge(Path(fresh.url) / "zarr.json", put("unknown", {"newer": 1}))
    assert ActivationStore.open(fresh.url).rows == 700
