"""Writing an activation store: bucket by bucket, each committed last, from any number of processes.

Owns which stores may be continued or grown, and the buffers of the buckets. `bucket.BucketWriter`
fills and encodes a bucket. `root` and `sealing` own the order of steps that makes a killed writer
harmless.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ...machine import available_cores
from ...settings import differences
from ..format.chunks.codecs import PRESETS
from ..format.commits import Commit, committed_buckets, read_commit
from ..format.root import KEY, Root, as_json, create, grow, read_root, repair_documents
from ..format.spec import StoreSpec
from ..place.locate import locate
from ..place.location import Location, StorageOptions
from ..place.place import INSIDE, AnyPlace
from .bucket import BucketWriter
from .scratch import Scratch
from .sealing import seal, sound_commit

MEMORY_BYTES = 2**30


class StoreWriter:
    """Writes the buckets of one store; see `open`. Close it, best by using it as a context manager.

    Buckets are independent: any process on any machine may write any bucket that no other process
    is writing. Nothing is locked.
    """

    def __init__(
        self,
        location: Location,
        root: Root,
        memory_bytes: int = MEMORY_BYTES,
        scratch_dir: str | Path | None = None,
        drop_nonfinite: bool = False,
        background: bool = False,
    ):
        self.spec, self._location = root.spec, location
        self._memory_bytes, self._scratch_dir = memory_bytes, scratch_dir
        self._drop_nonfinite = drop_nonfinite
        self._idle: list[Scratch] = []
        self._pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="scopeworks-encode")
        self._sealer = ThreadPoolExecutor(1, "scopeworks-seal") if background else None
        self._sealing: Future[None] | None = None

    @classmethod
    def open(
        cls,
        url: AnyPlace,
        spec: StoreSpec,
        storage_options: StorageOptions = None,
        *,
        memory_bytes: int = MEMORY_BYTES,
        scratch_dir: str | Path | None = None,
        drop_nonfinite: bool = False,
        background: bool = False,
    ) -> "StoreWriter":
        """Creates the store, or continues one of the same spec.

        If `spec` has more rows than the store, the store grows by whole buckets. A store whose last
        bucket is short cannot grow.

        Args:
            url: path, URL or place of the store.
            spec: what the store will hold.
            storage_options: of a URL, as fsspec takes them.
            memory_bytes: a bucket beyond this size is collected in a file instead of in memory.
                With `background` two buckets are held at once. For an object store, shards of up to
                as many bytes (at least one shard) are held while they are uploaded.
            scratch_dir: folder of that file; by default the system's temporary folder.
            drop_nonfinite: leave out rows with NaN or Inf and count them in the commit. If false,
                such a row is an error.
            background: seal a bucket in the background while the next one fills. A bucket is then
                committed before the next one is sealed, or in `close`; both raise its errors.

        Raises:
            ValueError: the place holds a store of another spec (naming the differences), one of
                more rows, or something else.
        """
        location = locate(url, storage_options)
        begun = _begun(location)
        root = _continued(location, begun or create(location, spec), spec)
        return cls(location, root, memory_bytes, scratch_dir, drop_nonfinite, background)

    @staticmethod
    def begun(url: AnyPlace, storage_options: StorageOptions = None) -> StoreSpec | None:
        """The spec of the store at a place; None if the place is empty. Use it to continue with the
        sizes that were chosen when the store was begun.

        Raises:
            ValueError: the place holds something else.
        """
        root = _begun(locate(url, storage_options))
        return None if root is None else root.spec

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
        """The record of a committed bucket; FileNotFoundError if it is not committed."""
        return read_commit(self._location, bucket, self.spec)

    @contextmanager
    def bucket(self, number: int, in_stored_order: bool = False) -> Iterator[BucketWriter]:
        """Fills one bucket. Leaving the block seals and commits it, in the background if the writer
        was opened so; an exception leaves it uncommitted.

        A bucket that a killed process left half written is written again. A bucket that another
        process commits meanwhile is left as it is.

        Args:
            number: of the bucket, from 0.
            in_stored_order: the rows come in the stored order and are not permuted; for copies.
        """
        scratch = self._take_scratch()
        try:
            bucket = BucketWriter(self.spec, number, scratch, self._drop_nonfinite, in_stored_order)
            yield bucket
            bucket.check_full()
            self._wait()
        except BaseException:
            self._idle.append(scratch)
            raise
        if self._sealer is None:
            self._seal(bucket, scratch)
        else:
            self._sealing = self._sealer.submit(self._seal, bucket, scratch)

    def close(self) -> None:
        """Waits for the bucket that is being sealed and stops the threads.

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
        """Waits until no bucket is being sealed; raises the error of sealing it."""
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.result()

    def _seal(self, bucket: BucketWriter, scratch: Scratch) -> None:
        """Seals and commits a bucket, and frees its buffers for the next one."""
        try:
            scales = self._scales(bucket.bucket)
            seal(self._location, self.spec, bucket, self._pool, scales, self._memory_bytes)
        finally:
            self._idle.append(scratch)

    def _scales(self, bucket: int) -> dict[str, np.ndarray] | None:
        """int8: the scales that bucket 0 has set; None for bucket 0 and other codecs."""
        if PRESETS[self.spec.codec].dtype != "int8" or bucket == 0:
            return None
        first = sound_commit(self._location, self.spec, 0)
        if first is None:
            raise ValueError(
                f"bucket 0 must be committed before bucket {bucket}: it sets the scales of the int8"
                " codec; write it first, then the others in any order"
            )
        return {name: sums.scale for name, sums in first.sums.items() if sums.scale is not None}

    def _take_scratch(self) -> Scratch:
        """Buffers for a bucket; used ones if there are any, because the page faults of new memory
        take longer than filling it."""
        if self._idle:
            return self._idle.pop()
        layouts = self.spec.site_layouts() | self.spec.label_layouts()
        rows = min(self.spec.bucket_rows, self.spec.rows)
        return Scratch(layouts, rows, self._memory_bytes, self._scratch_dir)


def _begun(location: Location) -> Root | None:
    """The root of the store at a location; None if the location is empty."""
    try:
        return read_root(location)
    except FileNotFoundError:
        harmless = ("sites", "labels", "commits", INSIDE)
        found = [name for name in location.children() if name not in harmless]
        if KEY in found:  # another process has begun the store since the first read
            return read_root(location)
        if found:
            raise ValueError(
                f"store {location.url} must be empty or an activation store, but it holds"
                f" {', '.join(found[:3])}; choose another place"
            ) from None
        return None


def _continued(location: Location, root: Root, spec: StoreSpec) -> Root:
    """Checks that a store may be continued under a spec; grows it to the spec's rows."""
    old, new = as_json(root.spec), as_json(spec)
    del old["versions"], new["versions"]
    growing = new["rows"] > old["rows"]
    if changed := differences(old | ({"rows": new["rows"]} if growing else {}), new):
        raise ValueError(
            f"store {location.url} must be continued with the settings it was begun with (only rows"
            f" may grow), but these differ: {'; '.join(changed)}; choose another place or the old"
            " settings"
        )
    _check_growth(location, root, spec.rows)
    if growing:
        return grow(location, root, spec.rows)
    repair_documents(location, root)
    return root


def _check_growth(location: Location, root: Root, rows: int) -> None:
    """Refuses a growth that would write a bucket again.

    That is a short last bucket, or one that an earlier version of this package was writing again
    when it was stopped.
    """
    size = root.spec.bucket_rows
    if rows > root.spec.rows and root.spec.rows % size:
        raise ValueError(
            f"rows of store {location.url} must stay {root.spec.rows}, got {rows}: its last bucket"
            f" holds {root.spec.rows % size} of {size} rows, because the text had ended or an"
            " earlier version cut it there, and no bucket is written again; choose another place"
        )
    for bucket in {earlier // size for earlier in root.grown_from if earlier % size}:
        with suppress(FileNotFoundError):
            read_commit(location, bucket, root.spec)
