"""Parquet tables of an index: one row per latent, example, token or neighbour.

Owns the columns, with their units in the fields' metadata, and how they are written, a row group at
a time. Needs pyarrow (the extra `latents`); without it an index has no tables.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..contents import Nearest
from .gathered import Gathered

LATENTS = 4096
"""Latents in one row group."""

_PIECE = 256
"""Latents held as Python values at a time: these take twenty times the memory of the table."""

_MOST_ROWS = 2**26

_LEVEL = 19
"""zstd's level."""

_SHARE, _F, _COUNT = "share, 0 to 1", "feature activation", "count"

COLUMNS: dict[str, dict[str, tuple[str, str, str]]] = {
    "latents": {
        "latent": ("int32", "index", "The latent"),
        "fired": ("int64", "rows", "Rows in which it fires"),
        "density": ("float64", _SHARE, "fired / rows read"),
        "mean": ("float64", _F, "Mean where it fires; 0 where it never does"),
        "min": ("float64", _F, "Smallest where it fires"),
        "max": ("float64", _F, "Largest"),
        "theta": ("float64", "pre-activation", "Threshold above which it fires"),
        "histogram_width": ("float64", _F, "Bin k of histogram is [k, k + 1) times this"),
        "histogram": ("list<int64>", "rows", "Firings by feature activation"),
        "positions": ("list<float32>", _SHARE, "Density between the manifest's position edges"),
        "x": ("float32", "0 to 1", "Place of the decoder row in the plane"),
        "y": ("float32", "0 to 1", "Likewise"),
    },
    "examples": {
        "latent": ("int32", "index", "The latent"),
        "band": ("int16", "index", "0: the strongest; 1 …: equal shares of firings by strength"),
        "sequence": ("int64", "index", "Sequence in the token store's split"),
        "position": ("int32", "token", "Position in the sequence at which the latent fires"),
        "start": ("int32", "token", "Position of the first token"),
        "value": ("float32", _F, "At position"),
        "tokens": ("list<string>", "text", "The tokens' texts; joined, they are the snippet"),
        "f": ("list<float32>", _F, "At every token"),
    },
    "tokens": {
        "latent": ("int32", "index", "The latent"),
        "token": ("int32", "token id", "A token at which it fires"),
        "text": ("string", "text", "The token's text"),
        "count": ("int64", _COUNT, "Of the drawn firings at this token"),
        "share_of_firings": ("float32", _SHARE, "count / drawn firings"),
        "share_of_token": ("float32", _SHARE, "Of this token's rows, those at which it fires"),
    },
    "logits": {
        "latent": ("int32", "index", "The latent"),
        "side": ("string", "raised or lowered", "Which end of the list"),
        "rank": ("int16", "from 0", "0 is the strongest effect"),
        "token": ("int32", "token id", "An output token"),
        "text": ("string", "text", "Its text"),
        "effect": ("float32", "logit per unit of feature activation, final norm's scale left out",
                   "Decoder row through the final norm's gain and the unembedding"),
    },
    "neighbours": {
        "latent": ("int32", "index", "The latent"),
        "by": ("string", "name", "decoder, encoder, or the name of another SAE"),
        "rank": ("int16", "from 0", "0 is the nearest"),
        "neighbour": ("int32", "index", "A latent, of the other SAE where one is named"),
        "cosine": ("float32", "cosine", "Of both directions"),
    },
    "together": {
        "latent": ("int32", "index", "The latent"),
        "rank": ("int16", "from 0", "By falling jaccard"),
        "partner": ("int32", "index", "A latent that fires in the same rows"),
        "jaccard": ("float32", _SHARE, "Rows in which both fire over rows in which either does"),
        "correlation": ("float32", "Pearson's r", "Of both feature activations"),
    },
}  # fmt: skip
"""Table -> column -> type, unit, meaning."""


def available() -> bool:
    """Whether tables can be written here."""
    return find_spec("pyarrow") is not None


def parts(found: Gathered, table: str) -> Iterator[bytes]:
    """A Parquet file, a row group of `LATENTS` latents at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(table)
    sink = _Sink()
    floats, others = _leaves(table)
    # Exponents of floating-point numbers compress well once they are split from the mantissas.
    encodings: Any = {"use_byte_stream_split": floats, "use_dictionary": others}
    with pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"),
        schema,
        compression="zstd",
        compression_level=_LEVEL,
        **encodings,
    ) as writer:
        for first in range(0, found.manifest.sae.d_sae, LATENTS):
            last = min(first + LATENTS, found.manifest.sae.d_sae)
            pieces = []
            for start in range(first, last, _PIECE):
                columns = _ROWS[table](found, start, min(start + _PIECE, last))
                arrays = [pa.array(columns[field.name], type=field.type) for field in schema]
                pieces.append(pa.Table.from_arrays(arrays, schema=schema))
            writer.write_table(pa.concat_tables(pieces), row_group_size=_MOST_ROWS)
            yield sink.taken()
    yield sink.taken()


class _Sink:
    """Keeps what is written until it is taken."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def flush(self) -> None:
        """Does nothing: there is no other buffer."""

    def close(self) -> None:
        """Does nothing: the bytes can still be taken."""

    def taken(self) -> bytes:
        """All bytes since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _leaves(table: str) -> tuple[list[str], list[str]]:
    """Paths of a table's columns in Parquet: those of floating-point numbers, and the others."""
    paths = {
        f"{name}.list.element" if of.startswith("list<") else name: "float" in of
        for name, (of, _, _) in COLUMNS[table].items()
    }
    floats = [path for path, is_float in paths.items() if is_float]
    return floats, [path for path in paths if path not in floats]


def _schema(table: str) -> Any:
    """The table's Arrow schema, with units and meanings in the fields' metadata."""
    import pyarrow as pa

    def kind(name: str) -> Any:
        if name.startswith("list<"):
            return pa.list_(kind(name[5:-1]))
        return pa.type_for_alias(name)

    return pa.schema(
        [
            pa.field(name, kind(of), nullable=False, metadata={"unit": unit, "meaning": meaning})
            for name, (of, unit, meaning) in COLUMNS[table].items()
        ]
    )


def _latents(found: Gathered, first: int, stop: int) -> dict[str, Any]:
    firings, part = found.firings, slice(first, stop)
    fired = firings.fired[part]
    counts = firings.histogram[part]
    used = np.where(counts > 0, np.arange(1, counts.shape[1] + 1), 0).max(1, initial=0)
    return {
        "latent": np.arange(first, stop),
        "fired": fired,
        "density": fired / max(firings.rows, 1),
        "mean": firings.total[part] / np.maximum(fired, 1),
        "min": firings.smallest[part],
        "max": firings.largest[part],
        "theta": found.theta[part],
        "histogram_width": firings.bin_width[part],
        "histogram": [row[:n] for row, n in zip(counts, used, strict=True)],
        "positions": list(firings.by_position[part] / np.maximum(firings.position_rows, 1)),
        "x": found.directions.map[part, 0],
        "y": found.directions.map[part, 1],
    }


def _examples(found: Gathered, first: int, stop: int) -> dict[str, Any]:
    examples = found.firings.examples
    part = slice(found.examples_of(first).start, found.examples_of(stop - 1).stop)
    lengths = (examples.tokens[part] >= 0).sum(1)
    tokens = [row[:n] for row, n in zip(examples.tokens[part], lengths, strict=True)]
    names = ("latent", "band", "sequence", "position", "start", "value")
    return {name: getattr(examples, name)[part] for name in names} | {
        "tokens": [found.words(row.tolist()) for row in tokens],
        "f": [row[:n] for row, n in zip(examples.f[part], lengths, strict=True)],
    }


def _tokens(found: Gathered, first: int, stop: int) -> dict[str, Any]:
    part = slice(found.tokens_of(first).start, found.tokens_of(stop - 1).stop)
    shares = [one for latent in range(first, stop) for one in found.token_shares(latent)]
    return {
        "latent": found.firings.token_latent[part],
        "token": found.firings.token[part],
        "text": [one[0] for one in shares],
        "count": found.firings.token_count[part],
        "share_of_firings": np.array([one[2] for one in shares]),
        "share_of_token": np.array([one[3] for one in shares]),
    }


def _logits(found: Gathered, first: int, stop: int) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS["logits"]}
    for latent in range(first, stop):
        for side in ("raised", "lowered"):
            for rank, (text, token, effect) in enumerate(found.output_tokens(latent, side)):
                row = (latent, side, rank, token, text, effect)
                for column, value in zip(columns.values(), row, strict=True):
                    column.append(value)
    return columns


def _neighbours(found: Gathered, first: int, stop: int) -> dict[str, Any]:
    directions = found.directions
    sides = {"decoder": directions.decoder, "encoder": directions.encoder, **directions.others}
    blocks = [
        _ranked(side.latent[first:stop], {"cosine": side.cosine[first:stop]}, first)
        | {"by": [name] * int((side.latent[first:stop] >= 0).sum())}
        for name, side in sides.items()
        if isinstance(side, Nearest)
    ]
    names = np.concatenate([np.array(block["by"], dtype=object) for block in blocks])
    columns = {
        name: np.concatenate([block[name] for block in blocks])
        for name in ("latent", "rank", "neighbour", "cosine")
    }
    order = np.argsort(columns["latent"], kind="stable")
    return {name: column[order] for name, column in (columns | {"by": names}).items()}


def _together(found: Gathered, first: int, stop: int) -> dict[str, Any]:
    firings, part = found.firings, slice(first, stop)
    values = {"jaccard": firings.jaccard[part], "correlation": firings.correlation[part]}
    columns = _ranked(firings.partner[part], values, first)
    return columns | {"partner": columns["neighbour"]}


def _ranked(ids: np.ndarray, values: dict[str, np.ndarray], first: int) -> dict[str, Any]:
    """Arrays [latents, ranks] as rows; places with the id -1 are left out."""
    there = ids >= 0
    latents, ranks = np.nonzero(there)
    columns = {"latent": first + latents, "rank": ranks, "neighbour": ids[there]}
    return columns | {name: value[there] for name, value in values.items()}


_ROWS: dict[str, Callable[[Gathered, int, int], dict[str, Any]]] = {
    "latents": _latents,
    "examples": _examples,
    "tokens": _tokens,
    "logits": _logits,
    "neighbours": _neighbours,
    "together": _together,
}
