"""Samples as one file, so that explaining and scoring see the same contexts.

Owns the layout: an npz of plain arrays. `facts` in it is JSON in UTF-8 bytes, and holds everything
that decided the draws.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ....store.place.files import write_file
from .sample_set import Samples, UnigramTable

VERSION = 1
_TABLES = ("token", "token_rows", "offsets", "fired_at", "fired", "total")
_ARRAYS = ("latents", "fired", "largest", "column", "kind", "quantile", "sequence", "start", "f")


def write_samples(path: Path, samples: Samples, twin: Samples, drawn_by: dict[str, Any]) -> None:
    """Writes the samples of some latents and of their controls.

    Args:
        path: the file.
        samples: of the SAE's latents.
        twin: of the random SAE's latents, one for each.
        drawn_by: everything that decides the samples, as JSON values.
    """
    facts = {"version": VERSION, "drawn_by": drawn_by, "rows": [samples.rows, twin.rows]}
    arrays: dict[str, Any] = {
        "facts": np.frombuffer(json.dumps(facts, sort_keys=True).encode(), np.uint8)
    }
    for prefix, one in (("", samples), ("twin_", twin)):
        arrays |= {prefix + name: getattr(one, name) for name in _ARRAYS}
        arrays |= {f"{prefix}unigrams_{name}": getattr(one.unigrams, name) for name in _TABLES}
        arrays[f"{prefix}tokens"] = one.tokens.astype(np.uint32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_file(path, buffer.getvalue())


def read_samples(path: Path, drawn_by: dict[str, Any]) -> tuple[Samples, Samples] | None:
    """The samples and the twin's; None if there is no file, or one with another `drawn_by`.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read.
    """
    if not path.is_file():
        return None
    data = path.read_bytes()
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            facts = json.loads(arrays["facts"].tobytes())
            if facts["version"] != VERSION or facts["drawn_by"] != drawn_by:
                return None
            both = [_taken(arrays, prefix) for prefix in ("", "twin_")]
        pairs = zip(facts["rows"], both, strict=True)
        samples, twin = (_samples(rows, taken) for rows, taken in pairs)
    except Exception as error:  # damage may raise errors of zipfile, zlib, numpy or Python
        raise ValueError(
            f"{path} must be the samples that `scopeworks latents explain` wrote, but it is "
            "damaged; remove it, and they are drawn again"
        ) from error
    return samples, twin


def _taken(arrays: Any, prefix: str) -> dict[str, Any]:
    """One side's arrays."""
    found = {name: arrays[prefix + name] for name in (*_ARRAYS, "tokens")}
    found["unigrams"] = UnigramTable(*(arrays[f"{prefix}unigrams_{name}"] for name in _TABLES))
    found["tokens"] = found["tokens"].astype(np.int64)
    return found


def _samples(rows: int, taken: dict[str, Any]) -> Samples:
    """Samples from one side's arrays."""
    return Samples(rows=int(rows), **taken)
