"""Objects behind an fsspec file system: gs://, s3://, memory:// and all other fsspec protocols.

Owns the retries and the error text. A single put is atomic on every object store, which is all that
commits need.
"""

import errno
import random
import time
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any, TypeVar

import fsspec
import numpy as np

from ...foreign import one_line
from .location import joined

ResultT = TypeVar("ResultT")

TRIES = 5
FIRST_WAIT_S = 0.1
"""Wait before the second try; doubled for each further one, with up to half added at random. The
drivers have retries of their own too."""

_BUCKETS = ("gs", "gcs", "s3", "s3a")
"""Protocols whose URLs begin with a bucket."""

_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
_TRANSIENT_ERRNO = {errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE}


class RemoteObjects:
    """Objects under one URL; see `location.Location` for the methods.

    Raises:
        ValueError: the protocol is unknown, its driver is not installed, or the options do not fit
            it.
    """

    in_flight = 32
    streams_writes = False

    def __init__(self, url: str, storage_options: dict[str, Any] | None):
        protocol, _, rest = url.partition("://")
        if protocol in _BUCKETS and not rest.strip("/"):
            raise ValueError(
                f"URL {url} must name a bucket, got none; write {protocol}://BUCKET/NAME"
            )
        self.url = f"{protocol}://{rest.rstrip('/')}"
        try:
            self._fs, self._root = fsspec.url_to_fs(self.url, **(storage_options or {}))
        except ImportError as error:
            raise ValueError(
                f"URL {url} needs a driver that is not installed; {_extra(url)}"
            ) from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"URL {url} cannot be used: {error}") from error

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Location.read`."""
        if stop is not None and stop <= start:
            return b""
        path = self._path(key)
        if start == 0 and stop is None:
            return self._try(key, lambda: self._fs.cat_file(path))
        try:
            return self._try(key, lambda: self._fs.cat_file(path, start=start, end=stop))
        except FileNotFoundError:
            raise
        except OSError:
            if start >= self.size(key):  # some services refuse a range beyond the end
                return b""
            raise

    def read_into(self, key: str, start: int, out: np.ndarray) -> int:
        """See `Location.read_into`."""
        data = self.read(key, start, start + len(out))
        out[: len(data)] = np.frombuffer(data, dtype=np.uint8)
        return len(data)

    def size(self, key: str) -> int:
        """See `Location.size`."""

        def asked() -> int:
            self._fs.invalidate_cache()
            return int(self._fs.size(self._path(key)))

        return self._try(key, asked)

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """See `Location.write`; the object is held in memory until it is sent."""
        self.replace(key, joined(parts))

    def replace(self, key: str, data: bytes) -> None:
        """See `Location.replace`."""
        try:
            self._try(key, lambda: self._fs.pipe_file(self._path(key), data))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.url}/{key} cannot be written: {error}; make the bucket first, or correct"
                " its name"
            ) from error

    def create(self, key: str, data: bytes) -> bool:
        """See `Location.create`; also reads first, for services without a put that creates only."""
        try:
            return self.read(key) == data
        except FileNotFoundError:
            pass
        try:
            self._try(key, lambda: self._fs.pipe_file(self._path(key), data, mode="create"))
        except OSError:  # each driver has its own error for an object that exists
            try:
                return self.read(key) == data  # equal if an earlier try had succeeded after all
            except FileNotFoundError:
                self.replace(key, data)
        return True

    def children(self, prefix: str = "") -> list[str]:
        """See `Location.children`."""
        path = self._path(prefix)

        def listed() -> list[str]:
            self._fs.invalidate_cache()
            return self._fs.ls(path, detail=False)

        try:
            found = self._try(prefix, listed)
        except FileNotFoundError:
            return []
        names = (PurePosixPath(name.rstrip("/")) for name in found)
        return sorted({name.name for name in names if str(name).strip("/") != path.strip("/")})

    def remove(self, key: str) -> None:
        """See `Location.remove`."""
        try:
            self._try(key, lambda: self._fs.rm_file(self._path(key)))
        except FileNotFoundError:
            return

    def sweep(self, keys: Iterable[str]) -> None:
        """See `Location.sweep`; an unfinished put leaves nothing on an object store."""

    def flush(self, keys: Iterable[str]) -> None:
        """See `Location.flush`; a put returns only when the object is stored."""

    def newest(self) -> float:
        """See `Location.newest`; time is the service's clock."""

        def asked() -> float:
            self._fs.invalidate_cache()
            return max(self._fs.modified(path).timestamp() for path in self._fs.find(self._root))

        return self._try("", asked)

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}".rstrip("/")

    def _try(self, key: str, call: Callable[[], ResultT]) -> ResultT:
        """Repeats the call until it succeeds; see `attempt`."""
        return attempt(f"{self.url}/{key}".rstrip("/"), call)


def attempt(where: str, call: Callable[[], ResultT]) -> ResultT:
    """Repeats a call until it succeeds: at most `TRIES` times, and only after transient errors.

    Args:
        where: the object's URL, for errors.
        call: what to do.

    Raises:
        FileNotFoundError: the call raised it.
        OSError: any other error; the text names `where`.
    """
    wait = FIRST_WAIT_S
    for left in range(TRIES - 1, -1, -1):
        try:
            return call()
        except FileNotFoundError as error:
            if str(error):
                raise
            raise FileNotFoundError(f"{where} does not exist") from error
        except Exception as error:  # drivers raise classes of their own libraries
            if left and is_transient(error):
                time.sleep(wait * (1 + random.random() / 2))
                wait *= 2
                continue
            kind, text = type(error).__name__, one_line(error)
            said = kind if text == kind else f"{kind}: {text}"
            raise OSError(f"{where}: {said}{_hint(error)}") from error
    raise AssertionError("unreachable")


def is_transient(error: BaseException) -> bool:
    """Whether a later try may succeed: after timeouts, broken connections or overload, but not for
    missing rights or buckets."""
    if isinstance(error, PermissionError):
        return False
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith(
        "aiohttp"
    ):
        return getattr(error, "status", 503) in _TRANSIENT_STATUS
    if getattr(error, "code", None) in _TRANSIENT_STATUS:
        return True
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO


def _hint(error: BaseException) -> str:
    """The next step after an error of access; "" for other errors."""
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return "; give credentials as the driver takes them, or by --storage-option key=value"
    return ""


def _extra(url: str) -> str:
    """What to install for a protocol."""
    known = {"s3": "pip install 'scopeworks[s3]'", "gs": "pip install gcsfs"}
    return known.get(url.partition("://")[0], "install the fsspec driver of that protocol")
