"""Space: whether the disk has room for what a harvest will write.

Owns a lower bound of bytes from rows, widths and codec: a harvest that would fit is never refused.
`estimate` measures what compression really gives.
"""

from pathlib import Path

from ...machine import free_disk
from ...store import ActivationStore, StoreSpec
from ...store.format.chunks.codecs import PRESETS
from ...store.place.place import Place


def bytes_left(spec: StoreSpec, committed_rows: int) -> int:
    """A lower bound of the bytes that a store's uncommitted rows will take."""
    rows = max(0, spec.rows - committed_rows)
    return int(rows * sum(spec.sites.values()) * PRESETS[spec.codec].least_bits / 8)


def check_space(url: str, spec: StoreSpec, begun: StoreSpec | None) -> None:
    """Refuses a harvest that the disk has no room for, before anything is written.

    Args:
        url: of the store.
        spec: what the store is to hold.
        begun: the spec that it was begun with, if it exists.

    Raises:
        ValueError: a local store needs more than is free.
    """
    if Place(url).is_remote:
        return
    path = Path(url.removeprefix("file://"))
    needed = bytes_left(spec, 0 if begun is None else ActivationStore.open(path).rows)
    free = free_disk(path)
    if needed > free:
        raise ValueError(
            f"store {url} must have room for at least {_size(needed)} more ({spec.rows:,} rows of "
            f"{sum(spec.sites.values()):,} values, codec {spec.codec}), got {_size(free)} free; "
            "take a disk with room, fewer --rows or --site, or another --codec"
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes >= 10**7 else f"{n_bytes / 1e6:,.3f} MB"
