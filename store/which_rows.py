"""A content key of the rows of a store and of their order, to see whether two stores agree.

Owns which entries of a spec and of a harvest's provenance decide the rows. It reads no commit and
no row: `read.joining` compares what stores really hold when they are read as one.
"""

import hashlib
import json
from typing import Any

from .format.spec import StoreSpec

ORDER = 1
"""Version of the rules that turn tokens into rows and order rows in a bucket (docs/format.md,
"Order of rows in a bucket")."""

CHOSEN = (
    *("model_fingerprint", "tokens", "split"),
    *("masked_token_ids", "masked_prefix", "outlier", "drop_nonfinite"),
)
"""Entries of a harvest's provenance that decide which tokens give rows, and of which model."""

COMPUTED = ("device", "dtype", "attention", "compile", "batch_sequences")
"""Entries that change the last bits of the rows' values, but not which rows there are."""

_NEEDED = ("model_fingerprint", "tokens", "split")


def rows_key(spec: StoreSpec) -> str:
    """A content key of a store's rows and of their order; independent of its sites, codec and
    place.

    It is the sha256 (64 hexadecimal digits) of canonical JSON (sorted keys, no spaces) that holds

    - the version `ORDER` of the rules that give rows their order;
    - of the spec: `seed` and `bucket_rows`, which fix the order of rows inside buckets;
    - of the provenance: the `CHOSEN` entries (fingerprints of the model's weights and of the
      tokens, split, mask) and the `COMPUTED` ones (device, dtype, attention, batch);
    - the sites' names, only if rows may be dropped (`outlier`, `drop_nonfinite`): a value at any
      of the sites may drop a row.

    Not in the key: widths, the number of rows, codec, sizes of chunks and shards, paths, names,
    hosts, times and versions of libraries. An entry that an older store does not have counts as
    null.

    If two stores have equal keys, their buckets b hold the same tokens in the same order, computed
    in the same way, provided that bucket b is whole in both stores or their specs name equally many
    `rows`. `ActivationStore.open` joins such stores, and also stores whose keys differ only by
    `COMPUTED` entries.

    Raises:
        ValueError: the provenance is not a harvest's, so the rows' origin is unknown.
    """
    said = spec.provenance
    if missing := [name for name in _NEEDED if said.get(name) is None]:
        raise ValueError(
            f"provenance must be a harvest's for a key of its rows, got no {', '.join(missing)}"
        )
    facts: dict[str, Any] = {name: said.get(name) for name in (*CHOSEN, *COMPUTED)}
    facts |= {"order": ORDER, "seed": spec.seed, "bucket_rows": spec.bucket_rows}
    if said.get("outlier") is not None or said.get("drop_nonfinite"):
        facts["sites"] = sorted(spec.sites)
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
