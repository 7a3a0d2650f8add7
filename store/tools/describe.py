"""A store in a few lines, for `scopeworks store info`."""

import json
from collections.abc import Iterator

from ..read.reader import ActivationStore
from ..read.variance import total_variance


def describe(store: ActivationStore) -> Iterator[str]:
    """Lines of text: what, how much, which sites."""
    spec = store.spec
    state = "complete" if store.complete else f"{len(store.commits)} of {spec.n_buckets} buckets"
    yield f"{store.url}: {store.rows:,} of {spec.rows:,} rows ({state}), codec {spec.codec}"
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


def _scale(store: ActivationStore, site: str) -> str:
    """C and the norm of the mean, or why there is nothing to learn from the rows."""
    sums = [commit.sums[site] for commit in store.commits]
    squares = sum(one.squares for one in sums)
    if not squares:
        return "all rows are 0"
    text = f"C {store.normaliser(site):.6g}, norm of the mean {store.mean(site).norm():.6g}"
    constant = not total_variance(sum(one.total for one in sums), squares, store.rows)
    return f"{text}, all rows are the same" if constant else text


def _size(n_bytes: float) -> str:
    """Bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.3g} {unit}" if unit != "B" else f"{n_bytes} B"
        n_bytes /= 1024
    return f"{n_bytes:.4g} TiB"
