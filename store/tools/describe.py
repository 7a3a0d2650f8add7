"""The text and JSON of `scopeworks store info` and `store list`."""

import json
from collections.abc import Iterator
from typing import Any

from ..read.reader import ActivationStore
from ..read.variance import total_variance
from .catalogue import ListedStore

_SHOWN = 12
"""Digits of a fingerprint that are shown; enough to tell stores apart."""


def describe(store: ActivationStore) -> Iterator[str]:
    """Lines of text about a store: rows, sizes, then a line per site and per provenance entry."""
    spec = store.spec
    yield f"{store.url}: {_rows(store)}, codec {spec.codec}"
    yield (
        f"buckets of {spec.bucket_rows:,} rows, shards of {spec.shard_rows:,},"
        f" chunks of {spec.chunk_rows:,}; shuffle seed {spec.seed}"
    )
    if store.dropped:
        yield f"{store.dropped:,} rows were dropped: not finite, or outliers"
    stored = store.stored_bytes
    for name, width in store.sites.items():
        n_bytes = stored.get(f"sites/{name}", 0)
        line = f"{name}: d {width}, {_size(n_bytes)}"
        if store.rows:
            line += f", {8 * n_bytes / (store.rows * width):.2f} bits per value"
            line += f", {_scale(store, name)}"
        if name in store.saturated:
            line += f", {store.saturated[name]:,} values saturated"
        yield line
    labels = sum(n for path, n in stored.items() if path.startswith("labels/"))
    yield f"token, sequence, position: {_size(labels)}"
    for key, value in store.provenance.items():
        yield f"{key}: {value if isinstance(value, str) else json.dumps(value)}"


def described_as_one(store: ActivationStore) -> Iterator[str]:
    """Lines of text about joined stores: rows and sites of the whole, then notes."""
    yield f"joined: {_rows(store)} of {', '.join(store.sites)}"
    yield from (f"note: {note}" for note in store.notes)


def listed(entry: ListedStore) -> Iterator[str]:
    """A catalogue's entry as lines of text: kind and size, then model, tokens and sites."""
    size = "" if entry.stored_bytes is None else f", {_size(entry.stored_bytes)}"
    if entry.error is not None:
        yield f"{entry.url}: {entry.kind}, cannot be used: {entry.error}"
    elif entry.spec is not None:
        spec, said = entry.spec, entry.spec.provenance
        state = f"{entry.n_committed} of {spec.n_buckets} buckets"
        rows = spec.rows if entry.rows is None else entry.rows
        yield (
            f"{entry.url}: activations, {'complete' if entry.complete else state},"
            f" {rows:,} of {spec.rows:,} rows, codec {spec.codec}{size}"
        )
        yield f"    sites {', '.join(f'{name} (d {width})' for name, width in spec.sites.items())}"
        yield (
            f"    model {said.get('model', 'unknown')}, tokens {_short(said.get('tokens'))}, split"
            f" {said.get('split', 'unknown')}, context {said.get('context', 'unknown')}, rows key"
            f" {_short(entry.rows_key)}"
        )
    elif entry.tokens is not None:
        tokens = entry.tokens
        counts = ", ".join(f"{name} {n:,}" for name, n in tokens.splits.items())
        yield f"{entry.url}: tokens, complete, sequences of {tokens.context}: {counts}{size}"
        yield f"    tokens {_short(tokens.fingerprint)}"
    else:
        yield f"{entry.url}: tokens, not complete: being written, or its writer was stopped"


def as_json(entry: ListedStore) -> dict[str, Any]:
    """A catalogue's entry as JSON, without values that are unknown or belong to the other kind."""
    found: dict[str, Any] = {"url": entry.url, "kind": entry.kind, "complete": entry.complete}
    found |= {"rows": entry.rows, "stored_bytes": entry.stored_bytes, "error": entry.error}
    if entry.spec is not None:
        spec = entry.spec.model_dump(mode="json")
        found |= {"n_committed": entry.n_committed, "n_buckets": entry.spec.n_buckets}
        found |= {"rows_key": entry.rows_key, "spec": spec}
    if entry.tokens is not None:
        tokens = entry.tokens
        found |= {"context": tokens.context, "splits": tokens.splits}
        found |= {"fingerprint": tokens.fingerprint, "provenance": tokens.provenance}
    return {name: value for name, value in found.items() if value is not None}


def _rows(store: ActivationStore) -> str:
    """Committed rows of all rows, and whether the store is complete."""
    n_buckets = store.spec.n_buckets
    state = "complete" if store.complete else f"{len(store.commits)} of {n_buckets} buckets"
    return f"{store.rows:,} of {store.spec.rows:,} rows ({state})"


def _short(fingerprint: Any) -> str:
    return "unknown" if fingerprint is None else str(fingerprint)[:_SHOWN]


def _scale(store: ActivationStore, site: str) -> str:
    """C and the norm of the mean; also whether all rows are 0 or equal."""
    sums = [commit.sums[site] for commit in store.commits]
    squares = sum(one.squares for one in sums)
    if not squares:
        return "all rows are 0"
    text = f"C {store.normaliser(site):.6g}, norm of the mean {store.mean(site).norm():.6g}"
    constant = not total_variance(sum(one.total for one in sums), squares, store.rows)
    return f"{text}, all rows are the same" if constant else text


def _size(n_bytes: float) -> str:
    """A number of bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.3g} {unit}" if unit != "B" else f"{n_bytes} B"
        n_bytes /= 1024
    return f"{n_bytes:.4g} TiB"
