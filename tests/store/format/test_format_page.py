"""docs/format.md against the code."""

import json
import re
from pathlib import Path

import pytest

from scopeworks.store import StoreSpec, StoreWriter
from scopeworks.store.format.chunks.codecs import PRESETS, blosc
from scopeworks.store.format.permutations import permutation
from scopeworks.store.format.spec import VERSION
from scopeworks.tests.store.making import make_store, spec_of

PAGE = Path(__file__).parents[3].joinpath("docs", "format.md").read_text(encoding="utf-8")


def keys_of(table_of: str) -> set[str]:
    """Names in the first column of the table below a heading."""
    section = PAGE.split(f"### {table_of}\n")[1].split("\n### ")[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return set(re.findall(r"`([\w-]+)`", " ".join(first)))


def test_version_is_the_codes():
    assert f"Version **{VERSION}**" in PAGE


def test_example_document_is_what_is_written():
    spec = StoreSpec(sites={"x": 2304}, rows=1_000_000, bucket_rows=262_144)
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(text) == spec.site_layouts()["x"].metadata()


def test_codec_table_is_the_presets():
    shuffles = {"bytes": blosc.SHUFFLE, "bits": blosc.BITSHUFFLE, "none": blosc.NOSHUFFLE}
    rows = re.findall(r"\| `(\w+)` \| `(\w+)` \| (\w+) (\d) \| (\w+) \| (\d+) \|", PAGE)
    found = {
        name: (dtype, cname, int(level), shuffles[shuffle], int(block))
        for name, dtype, cname, level, shuffle, block in rows
    }
    assert found == {
        name: (codec.dtype, codec.cname, codec.clevel, codec.shuffle, codec.blocksize)
        for name, codec in PRESETS.items()
    }


def test_permutation_vectors_are_the_codes():
    vectors = re.findall(
        r"purpose (\d), (?:bucket|epoch) (\d)(?:, bucket (\d))?, n = (\d) gives\s+`(\[.*?\])`", PAGE
    )
    assert len(vectors) == 3
    for purpose, a, b, n, expected in vectors:
        found = permutation(int(n), 7, int(purpose), int(a), int(b or 0)).tolist()
        assert found == json.loads(expected)


@pytest.mark.parametrize(
    ("heading", "key"),
    [("Root attributes", "zarr.json"), ("Commit records", "commits/00000000/zarr.json")],
)
def test_attribute_tables_list_every_key(tmp_path, heading, key):
    make_store(tmp_path, rows=576)
    StoreWriter.open(tmp_path, spec_of(rows=960)).close()
    attributes = json.loads((tmp_path / key).read_text())["attributes"]["scopeworks"]
    assert keys_of(heading) == set(attributes)


def test_spec_row_lists_every_field():
    (row,) = re.findall(r"\| `spec` \| (.*) \|", PAGE)
    assert set(re.findall(r"`(\w+)`", row)) == set(StoreSpec.model_fields)


def test_objects_are_those_of_the_layout(made):
    found = {
        re.sub(r"\d{8}", "<bucket, 8 digits>", re.sub(r"/c/\d+", "/c/<shard>", str(p)))
        for p in (path.relative_to(made.url) for path in Path(made.url).rglob("*.json"))
    }
    listing = PAGE.split("## Activation store\n")[1].split("\nRow i of")[0]
    for name in found:
        pattern = re.sub(r"^(sites)/[\w.]+", r"\1/<site>", name)
        assert pattern in listing or pattern.startswith("labels/"), name
