"""Writing an activation store: bucket by bucket, each committed last, from any number of processes.

Owns creation, continuation and the order of steps that makes a killed writer harmless. Filling and
encoding a bucket is `bucket.BucketWriter`'s.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..settings import differences
from .bucket import BucketWriter
from .codecs import PRESETS
from .commits import Commit, commit_key, committed_buckets, read_commit, write_commit
from .location import Location, StorageOptions, locate
from .scratch import Scratch
from .spec import (
    FORMAT,
    VERSION,
    StoreSpec,
    checked_attributes,
    checksum,
    crc32c_hex,
    encode_json,
    group_document,
)

MEMORY_BYTES = 2**30
_CREATORS = 8
"""Processes that may begin one store at the same moment."""


class StoreWriter:
    """Writes the buckets of one store; see `open`. To be closed, best as a context manager.

    Buckets are independent: any process on any machine may write any bucket that nobody else is
    writing. Nothing is locked.
    """

    def __init__(
        self,
        location: Location,
        spec: StoreSpec,
        memory_bytes: int = MEMORY_BYTES,
        scratch_dir: Path | None = None,
        drop_nonfinite: bool = False,
        background: bool = False,
    ):
        self.spec, self._location = spec, location
        self._memory_bytes, self._scratch_dir = memory_bytes, scratch_dir
        self._drop_nonfinite = drop_nonfinite
        self._idle: list[Scratch] = []
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="scopeworks-encode")
        self._sealer = ThreadPoolExecutor(1, "scopeworks-seal") if background else None
        self._sealing: Future[None] | None = None

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str],
        spec: StoreSpec,
        storage_options: StorageOptions = None,
        *,
        memory_bytes: int = MEMORY_BYTES,
        scratch_dir: Path | None = None,
        drop_nonfinite: bool = False,
        background: bool = False,
    ) -> "StoreWriter":
        """Creates the store, or continues one of the same spec.

        Args:
            memory_bytes: a bucket beyond this size is collected in a file in `scratch_dir`
                (default: the system's temporary folder) instead of in memory. With `background` two
                buckets are held at once.
            drop_nonfinite: leave rows with NaN or Inf out and count them in the commit, instead of
                refusing them.
            background: seal a bucket in the background while the next one fills; then a bucket is
                committed when the one after the next begins, or at `close`, which also raise what
                went wrong with it.

        Raises:
            ValueError: the place holds a store of another spec (naming the differences) or
                something else.
        """
        location = locate(url, storage_options)
        old = _existing_spec(location)
        if old is None:
            _create(location, spec)
        elif changed := differences(_as_json(old), _as_json(spec)):
            raise ValueError(
                f"store {location.url} must be continued with the settings it was begun with;"
                f" different are {'; '.join(changed)}; choose another place or the old settings"
            )
        return cls(location, spec, memory_bytes, scratch_dir, drop_nonfinite, background)

    @property
    def n_buckets(self) -> int:
        """Buckets of the complete store."""
        return self.spec.n_buckets

    @property
    def committed(self) -> set[int]:
        """Buckets committed so far, by any writer."""
        return set(committed_buckets(self._location, self.spec))

    def bucket_range(self, bucket: int) -> tuple[int, int]:
        """Rows [start, stop) of a bucket."""
        return self.spec.bucket_range(bucket)

    def commit(self, bucket: int) -> Commit:
        """The record of a committed bucket; FileNotFoundError if it is not."""
        return read_commit(self._location, bucket, self.spec)

    @contextmanager
    def bucket(self, bucket: int, in_stored_order: bool = False) -> Iterator[BucketWriter]:
        """Fills one bucket; leaving the block seals and commits it (in the background, if so
        opened), an exception leaves it uncommitted.

        A bucket that a killed process left half written is written anew; one that is committed is
        replaced, first losing its commit. `in_stored_order` takes rows that were permuted already,
        for copies.
        """
        scratch = self._take_scratch()
        try:
            filling = BucketWriter(
                self.spec, bucket, scratch, self._drop_nonfinite, in_stored_order
            )
            yield filling
            filling.check_full()
            self._wait()
        except BaseException:
            self._idle.append(scratch)
            raise
        if self._sealer is None:
            self._seal(filling, scratch)
        else:
            self._sealing = self._sealer.submit(self._seal, filling, scratch)

    def close(self) -> None:
        """Waits for the bucket that is being sealed and ends the threads.

        Raises:
            OSError: that bucket could not be written.
        """
        try:
            self._wait()
        finally:
            if self._sealer is not None:
                self._sealer.shutdown()
            self._pool.shutdown()
            while self._idle:
                self._idle.pop().close()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _wait(self) -> None:
        """Until no bucket is being sealed; raises what went wrong with it."""
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.result()

    def _seal(self, filling: BucketWriter, scratch: Scratch) -> None:
        """Shards, then the commit; if one cannot be written (disk full, upload failed) none
        stays."""
        location, keys = self._location, filling.shard_keys()
        try:
            location.remove(commit_key(filling.bucket))
            location.sweep([*keys, commit_key(filling.bucket)])
            write_commit(location, filling.seal(location, self._pool, self._scales(filling.bucket)))
        except BaseException:
            for key in keys:
                location.remove(key)
            raise
        finally:
            self._idle.append(scratch)

    def _scales(self, bucket: int) -> dict[str, np.ndarray] | None:
        """int8: the scales that bucket 0 has set."""
        if PRESETS[self.spec.codec].dtype != "int8" or bucket == 0:
            return None
        try:
            sites = self.commit(0).sums
        except FileNotFoundError as error:
            raise ValueError(
                f"bucket 0 must be committed before bucket {bucket}: it sets the scales of the int8"
                " codec; write it first, then the others in any order"
            ) from error
        return {name: sums.scale for name, sums in sites.items() if sums.scale is not None}

    def _take_scratch(self) -> Scratch:
        """Room for a bucket, used before if there is one: the page faults of new room cost more
        than filling it."""
        if self._idle:
            return self._idle.pop()
        layouts = self.spec.site_layouts() | self.spec.label_layouts()
        rows = min(self.spec.bucket_rows, self.spec.rows)
        return Scratch(layouts, rows, self._memory_bytes, self._scratch_dir)


def _existing_spec(location: Location) -> StoreSpec | None:
    """The spec of the store that is there; None if nothing is."""
    try:
        data = location.read("zarr.json")
    except FileNotFoundError:
        found = [name for name in location.children() if name not in ("sites", "labels", "commits")]
        if found:
            raise ValueError(
                f"store {location.url} must be empty or an activation store, but it holds"
                f" {', '.join(found[:3])}; choose another place"
            ) from None
        return None
    body = checked_attributes(data, FORMAT, location.url)
    return StoreSpec.model_validate(body["spec"])


def _create(location: Location, spec: StoreSpec) -> None:
    """Writes the metadata, the root last: a store whose root is there has all of it. Several
    processes may do so at once."""
    documents = {f"{group}/zarr.json": group_document() for group in ("sites", "labels", "commits")}
    for layout in [*spec.site_layouts().values(), *spec.label_layouts().values()]:
        documents[f"{layout.path}/zarr.json"] = encode_json(layout.metadata())
    location.sweep([*documents, "zarr.json"])
    for key, document in documents.items():
        _write_document(location, key, document)
    body = {
        "format": FORMAT,
        "version": VERSION,
        "spec": _as_json(spec),
        "documents": {key: crc32c_hex(document) for key, document in documents.items()},
    }
    root = group_document(body | {"crc32c": checksum(body)})
    _write_document(location, "zarr.json", root)


def _write_document(location: Location, key: str, document: bytes) -> None:
    """Writes a document that others may be creating, or sweeping away unfinished, at the same
    time."""
    for left in range(_CREATORS - 1, -1, -1):
        try:
            location.write(key, [document])
        except FileNotFoundError:
            if not left:
                raise
        else:
            return


def _as_json(spec: StoreSpec) -> dict[str, Any]:
    """The spec as it reads back from disk (tuples are lists, keys are text)."""
    return json.loads(json.dumps(spec.model_dump(mode="json")))
