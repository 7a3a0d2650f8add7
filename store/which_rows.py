"""Which rows a store holds, in which order: the key by which two stores are known to agree.

Owns what a harvest's provenance and a spec say of that. It reads no commit and no row: what stores
really hold is compared by `read.joining` when they are read as one.
"""

import hashlib
import json
from typing import Any

from .format.spec import StoreSpec

ORDER = 1
"""Version of the rules by which tokens become rows and rows stand in a bucket (docs/format.md,
"Order of rows in a bucket")."""

CHOSEN = (
    *("model_fingerprint", "tokens", "split"),
    *("masked_token_ids", "masked_prefix", "outlier", "drop_nonfinite"),
)
"""Entries of a harvest's provenance that decide which tokens give rows, and what of."""

COMPUTED = ("device", "dtype", "attention", "compile", "batch_sequences")
"""Entries that decide the last bits of the rows' values, but not which rows there are."""

_NEEDED = ("model_fingerprint", "tokens", "split")


def rows_key(spec: StoreSpec) -> str:
    """A content key of the rows of a store and of their order, apart from its sites, codec and
    place.

    It is the sha256 (64 hexadecimal digits) of canonical JSON (sorted keys, no spaces) that holds

    - the version `ORDER` of the rules that give rows their order;
    - of the spec: `seed` and `bucket_rows`, which permute rows inside buckets;
    - of the provenance: the `CHOSEN` entries (fingerprints of the model's weights and of the
      tokens, split, mask) and the `COMPUTED` ones (device, dtype, attention, batch);
    - the sites' names, only where rows may be dropped (`outlier`, `drop_nonfinite`): a row is
      dropped for what it is at any of the sites.

    Not in it are sites and widths, how many rows there are, codec, sizes of chunks and shards,
    paths, names, hosts, times and versions of libraries. An entry that an older store does not have
    counts as null.

    Of two stores of equal keys, bucket b holds the same tokens in the same order, computed alike,
    if it is a whole bucket in both or they are to hold equally many `rows`: `ActivationStore.open`
    joins them. A store of another key may be joined as well, if only what `COMPUTED` names differs.

    Raises:
        ValueError: the provenance is none of a harvest, so nobody knows what the rows are of.
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
