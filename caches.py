"""Caches: where compiled code and libraries' own files may be kept on this machine.

Owns numba's cache, which may be missing, and the folders that take the place of one that cannot be
written. Imports numba only when something is compiled.
"""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_CACHES = {"MPLCONFIGDIR": "matplotlib", "TRITON_CACHE_DIR": "triton"}
"""Caches that end or warn where they cannot be written: variable -> folder."""


def place_caches() -> None:
    """Sends libraries' caches to a private folder where the user's cannot be written; what the user
    has set stays. To be called before the libraries are imported."""
    if _is_writable(_user_caches()):
        return
    folder = _private_folder()
    if folder is not None:
        for variable, name in _CACHES.items():
            os.environ.setdefault(variable, str(folder / name))


def compiled(*signatures: str, version: str = "", **options: Any) -> Callable[[Function], Function]:
    """Compiles a function with numba, cached on disk where that can be done.

    Args:
        signatures: what to compile at once; none leaves it to the first call.
        version: what the code depends on besides the file that it stands in, as a folder's name.
        options: numba's own.
    """

    def decorate(function: Function) -> Function:
        import numba

        dispatcher = numba.njit(**options)(function)
        _keep_on_disk(dispatcher, function, version)
        for signature in signatures:
            dispatcher.compile(signature)
        if signatures:
            dispatcher.disable_compile()
        return cast(Function, dispatcher)

    return decorate


def _keep_on_disk(dispatcher: Any, function: Any, version: str) -> None:
    """Lets numba keep a function's code: where the user says, beside the source, in a folder for
    caches, or nowhere. A cache that cannot be read or written later ends nothing either."""
    from numba.core import config

    settings = cast(Any, config)
    before, beside = settings.CACHE_DIR, Path(function.__code__.co_filename).parent / "__pycache__"
    for place in _code_places(Path(before) if before else beside):
        if not _can_be_written(place / version):
            continue
        settings.CACHE_DIR = str(place / version)
        try:
            dispatcher.enable_caching()
        except RuntimeError:  # numba's own look at the folder
            continue
        finally:
            settings.CACHE_DIR = before
        for name in ("load_overload", "save_overload"):
            call = _optional(getattr(dispatcher._cache, name), dispatcher._cache.flush)
            setattr(dispatcher._cache, name, call)
        return


def _code_places(first: Path) -> Iterator[Path]:
    """Where compiled code may lie, the best place first; those behind are made only if need be."""
    yield first
    for home in (_user_caches, _private_folder):
        folder = home()
        if folder is not None:
            yield folder / "numba"


def _optional(call: Callable[..., Any], flush: Callable[[], None]) -> Callable[..., Any]:
    """A cache's method. What cannot be read or written counts as not there.

    numba unpickles a function's index before it asks which version of the source wrote it. So a
    class that has another name now, like a file that was cut short, raises whatever unpickling
    raises; such an index is emptied, and the code compiled again.
    """

    def tried(*arguments: Any) -> Any:
        try:
            return call(*arguments)
        except OSError:  # a full disk, a missing right
            return None
        except Exception:  # unpickling may raise anything
            with suppress(OSError):
                flush()
            return None

    return tried


def _can_be_written(folder: Path) -> bool:
    """Whether a folder is there, made now if need be, and can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _user_caches() -> Path | None:
    """The user's folder for caches, which need not exist; None where there is no home."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(named) if named else Path.home() / ".cache"
    except RuntimeError:  # no HOME, and a user that the system does not know
        return None


def _is_writable(folder: Path | None) -> bool:
    """Whether a folder can be written, or made; nothing is."""
    if folder is None:
        return False
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return there.is_dir() and os.access(there, os.W_OK)
    except OSError:  # a parent that may not be looked into
        return False


@cache
def _private_folder() -> Path | None:
    """A folder for caches in the temporary folder that nobody else can write to, since what is in
    it is run; None if there can be none."""
    user = getattr(os, "getuid", lambda: 0)()
    try:
        folder = Path(tempfile.gettempdir()) / f"scopeworks-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    others = stat.S_IWGRP | stat.S_IWOTH
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & others
    return folder if mine else None
