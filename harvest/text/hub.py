"""The hub: data sets of the Hugging Face hub, row by row, without downloading them first.

Owns the names `hf:NAME`, `hf:NAME:CONFIG` and `hf:NAME@SPLIT`, and going on after a broken
connection. `file_formats` reads what a row holds. Needs the extra `datasets`.
"""

import time
from collections.abc import Iterator
from typing import Any

from ...foreign import one_line
from .text_file import HUB

_ATTEMPTS = 6


def hub_rows(path: str) -> Iterator[Any]:
    """Yields the rows of a data set in its own order, as a stream.

    After a broken connection it waits, and goes on after the last row that it got.

    Raises:
        OSError: there is no such data set, or several attempts in a row did not reach it.
        ValueError: the extra `datasets` is not installed.
    """
    rows, failures = _opened(path), 0
    state = rows.state_dict()
    while True:
        try:
            for row in rows:
                yield row
                state, failures = rows.state_dict(), 0
            return
        except Exception as error:  # the readers of every format have errors of their own
            failures += 1
            if failures == _ATTEMPTS or not _is_broken_connection(error):
                raise OSError(
                    f"text {path} cannot be read any further: {one_line(error)}; check the network "
                    "and run the same command again"
                ) from error
            time.sleep(2.0**failures)
            rows.load_state_dict(state)


def _is_broken_connection(error: Exception) -> bool:
    """Whether trying again may help; the hub's connections raise errors that are no OSError."""
    module = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or module in ("httpx", "httpx2", "aiohttp")


def _opened(path: str) -> Any:
    """The data set as a stream."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ValueError(
            f"text {path} needs the package datasets; pip install 'scopeworks[datasets]'"
        ) from error
    name, _, split = path.removeprefix(HUB).partition("@")
    name, _, config = name.partition(":")
    try:
        return load_dataset(name, config or None, split=split or "train", streaming=True)
    except Exception as error:  # the hub's, its connections' and the formats' have no common base
        raise OSError(
            f"text {path} cannot be opened: {one_line(error)}; check its name, or run "
            "`hf auth login` if it is private"
        ) from error
