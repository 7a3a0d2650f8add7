"""Data as script files: a page opened from disk may load scripts, but may not fetch files.

Owns `data/*.js`. Each file is one call of a function of `scopeworks`, the page's global. They hold
no `<`, so that no text of a corpus can end a script or open a comment.
"""

import base64
import json
import zlib
from typing import Any

import numpy as np

from .gathered import Gathered
from .records import LEVEL, Records, json_text, rounded

SEARCH_LATENTS = 16384
"""Latents in one file of columns."""

SHARD_LATENTS, MOST_IN_SHARDS = 64, 16384
"""Latents in one shard, and the widest SAE that has shards; wider ones need HTTP."""

IN_SHARDS = ("act_max", "examples_quantiles")
"""The keys of circuit-tracer's record that the page shows; the others are in the page's record."""

_TEXTS = 5
_BESIDE = 6
"""Tokens on either side of a peak that can be searched."""


def call(name: str, *arguments: Any) -> bytes:
    """A script that calls a function of the page with data."""
    text = ",".join(json_text(argument) for argument in arguments)
    return f"scopeworks.{name}({text});\n".replace("<", "\\u003c").encode()


def search(found: Gathered, k: int) -> bytes:
    """`scopeworks.search(k, columns)` for latents [16384 k, 16384 (k + 1))."""
    first = k * SEARCH_LATENTS
    stop = min(first + SEARCH_LATENTS, found.manifest.sae.d_sae)
    latents, firings = range(first, stop), found.firings
    columns = {
        "fired": firings.fired[first:stop].tolist(),
        "max": rounded(firings.largest[first:stop], 4),
        "tokens": [[one[0] for one in found.token_shares(i)[:_TEXTS]] for i in latents],
        "raised": [[one[0] for one in found.output_tokens(i, "raised")[:_TEXTS]] for i in latents],
        "context": [_contexts(found, i) for i in latents],
    }
    return call("search", k, columns)


def _contexts(found: Gathered, latent: int) -> list[str]:
    """Short texts around the peaks of the strongest examples."""
    return [
        "".join(one.texts[max(0, one.at - _BESIDE) : one.at + _BESIDE + 1])
        for one in found.snippets(latent)[:_TEXTS]
    ]


def plane(found: Gathered) -> bytes:
    """`scopeworks.map({x, y})`: places in the plane, as base64 of little-endian uint16."""
    places = np.rint(found.directions.map.clip(0, 1) * 65535).astype("<u2")
    columns = (base64.b64encode(places[:, i].tobytes()).decode() for i in (0, 1))
    return call("map", dict(zip("xy", columns, strict=True)))


def shard_json(features: Records, pages: Records, k: int, d_sae: int) -> tuple[int, bytes]:
    """The number of a shard, and its content: {"features": [record, …], "pages": [record, …]}.

    It holds latents [64 k, 64 (k + 1)); of circuit-tracer's records only the keys `IN_SHARDS`.
    """
    latents = range(k * SHARD_LATENTS, min((k + 1) * SHARD_LATENTS, d_sae))
    lists = (
        b",".join(_in_shard(json.loads(features.raw(i))) for i in latents),
        b",".join(pages.raw(i) for i in latents),
    )
    return k, b'{"features":[%b],"pages":[%b]}' % lists


def shard(content: tuple[int, bytes]) -> bytes:
    """`scopeworks.shard(k, text)`: base64 of a shard's content, compressed by zlib."""
    k, whole = content
    return call("shard", k, base64.b64encode(zlib.compress(whole, LEVEL)).decode())


def _in_shard(record: dict[str, Any]) -> bytes:
    """The part of circuit-tracer's record that a page opened from disk shows.

    Shades need only four digits; two more would make a shard a tenth larger.
    """
    for band in record["examples_quantiles"]:
        for one in band["examples"]:
            values = one["tokens_acts_list"]
            one["tokens_acts_list"] = [value and float(f"{value:.4g}") for value in values]
    return json_text({key: record[key] for key in IN_SHARDS}).encode()
