"""The tables of an index, as DuckDB, pandas and polars read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scopeworks.evaluate.latents.files import tables
from scopeworks.evaluate.latents.files.folder import open_index
from scopeworks.tests.evaluate.latents import made_contents as made

D_SAE = 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("index")
    made.write(out, D_SAE)
    return out / "tables"


def by_duckdb(path: Path) -> dict[str, list[Any]]:
    import duckdb

    found = duckdb.connect().sql(f"SELECT * FROM '{path}'")
    assert found is not None
    rows = found.fetchall()
    return {name: [row[i] for row in rows] for i, name in enumerate(found.columns)}


def by_pandas(path: Path) -> dict[str, list[Any]]:
    import pandas

    frame = pandas.read_parquet(path)
    return {
        name: [v.tolist() if isinstance(v, np.ndarray) else v for v in frame[name].tolist()]
        for name in frame.columns
    }


def by_polars(path: Path) -> dict[str, list[Any]]:
    import polars

    return polars.read_parquet(path).to_dict(as_series=False)


READERS = [by_duckdb, by_pandas, by_polars]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("table", tables.COLUMNS)
def test_readers_find_the_columns(folder: Path, table: str, read: Callable[[Path], dict]):
    found = read(folder / f"{table}.parquet")
    assert list(found) == list(tables.COLUMNS[table])
    lengths = {len(column) for column in found.values()}
    assert len(lengths) == 1 and lengths.pop() >= D_SAE


@pytest.mark.parametrize("read", READERS)
def test_readers_find_the_numbers(folder: Path, read: Callable[[Path], dict]):
    firings, directions = made.firings(D_SAE), made.directions(D_SAE)
    latents = read(folder / "latents.parquet")
    assert latents["fired"] == firings.fired.tolist()
    assert latents["max"] == firings.largest.tolist()
    assert [sum(counts) for counts in latents["histogram"]] == firings.fired.tolist()
    examples = read(folder / "examples.parquet")
    kept = firings.examples.tokens[0][firings.examples.tokens[0] >= 0]
    assert list(examples["tokens"][0]) == made.decode(kept.tolist())
    assert examples["value"] == firings.examples.value.tolist()
    together = read(folder / "together.parquet")
    assert len(together["partner"]) == 2 * (D_SAE - 1)
    assert made.DEAD not in together["latent"]
    near = read(folder / "neighbours.parquet")
    assert set(near["by"]) == {"decoder", "wider"}
    assert near["by"][:9] == ["decoder"] * 8 + ["wider"]
    assert near["neighbour"][:8] == directions.decoder.latent[0].tolist()
    logits = read(folder / "logits.parquet")
    assert logits["token"][:10] == directions.raised[0].tolist()
    assert (logits["side"][10], logits["rank"][10]) == ("lowered", 0)


def test_fields_say_their_units(folder: Path):
    import pyarrow.parquet as pq

    for table, columns in tables.COLUMNS.items():
        schema = pq.read_schema(folder / f"{table}.parquet")
        for name, (_, unit, meaning) in columns.items():
            said = schema.field(name).metadata
            assert (said[b"unit"].decode(), said[b"meaning"].decode()) == (unit, meaning)


def test_tables_and_pages_say_the_same(folder: Path):
    index, tokens = open_index(folder.parent), by_polars(folder / "tokens.parquet")
    mine = [i for i, latent in enumerate(tokens["latent"]) if latent == 7]
    assert [tokens["text"][i] for i in mine] == [one[0] for one in index.page(7)["tokens"]]
    assert [tokens["share_of_token"][i] for i in mine] == pytest.approx(
        [one[3] for one in index.page(7)["tokens"]], rel=1e-5
    )


def test_row_groups_together_are_the_table(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "LATENTS", 7)
    out = folder.parent.parent / "grouped"
    made.write(out, D_SAE)
    for table in tables.COLUMNS:
        name = f"{table}.parquet"
        assert by_polars(out / "tables" / name) == by_polars(folder / name)


def test_docs_list_the_columns():
    page = (Path(__file__).parents[4] / "docs" / "latents.md").read_text()
    for table, columns in tables.COLUMNS.items():
        rows = [
            f"| `{n}` | {kind} | {unit} | {said} |" for n, (kind, unit, said) in columns.items()
        ]
        head = "| column | type | unit | meaning |\n|---|---|---|---|\n"
        assert f"**{table}.parquet**\n\n{head}" + "\n".join(rows) + "\n\n" in page
