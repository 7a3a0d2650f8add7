"""Caches: folders for compiled code and for libraries' own files.

Owns numba's cache, which may be missing, and the folders used if the usual one cannot be written.
Imports numba only when something is compiled.
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
"""Environment variable -> folder, for libraries that fail or warn if their cache cannot be
written."""


def place_caches() -> None:
    """Moves libraries' caches to a private folder if the user's cannot be written. Variables that
    the user has set are kept. Call it before the libraries are imported."""
    if _is_writable(_user_caches()):
        return
    folder = _private_folder()
    if folder is not None:
        for variable, name in _CACHES.items():
            os.environ.setdefault(variable, str(folder / name))


def compiled(*signatures: str, version: str = "", **options: Any) -> Callable[[Function], Function]:
    """Decorator that compiles a function with numba, cached on disk if possible.

    Args:
        signatures: types to compile for now; without any, the first call compiles.
        version: folder name for everything besides its source file on which the code depends.
        options: of `numba.njit`.
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
    """Lets numba keep a function's code in the user's folder (NUMBA_CACHE_DIR), beside the source,
    in a folder for caches, or nowhere. Later errors of reading or writing it are ignored too."""
    from numba.core import config

    settings = cast(Any, config)
    before, beside = settings.CACHE_DIR, Path(function.__code__.co_filename).parent / "__pycache__"
    for place in _code_places(Path(before) if before else beside):
        if not _can_be_written(place / version):
            continue
        settings.CACHE_DIR = str(place / version)
        try:
            dispatcher.enable_caching()
        except RuntimeError:  # numba's own check of the folder failed
            continue
        finally:
            settings.CACHE_DIR = before
        for name in ("load_overload", "save_overload"):
            call = _optional(getattr(dispatcher._cache, name), dispatcher._cache.flush)
            setattr(dispatcher._cache, name, call)
        return


def _code_places(first: Path) -> Iterator[Path]:
    """Folders for compiled code, best first; later ones are made only if needed."""
    yield first
    for home in (_user_caches, _private_folder):
        folder = home()
        if folder is not None:
            yield folder / "numba"


def _optional(call: Callable[..., Any], flush: Callable[[], None]) -> Callable[..., Any]:
    """A cache's method that returns None if the cache cannot be read or written.

    numba unpickles a function's index before it checks which version of the source wrote it. So an
    index that names a class that was renamed since, or that was cut short, raises any of the errors
    of unpickling. Such an index is emptied, and the code is compiled again.
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
    """Whether a folder can be written; makes it if it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _user_caches() -> Path | None:
    """The user's folder for caches, which need not exist; None if the user has no home folder."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(named) if named else Path.home() / ".cache"
    except RuntimeError:  # no HOME, and the system does not know the user
        return None


def _is_writable(folder: Path | None) -> bool:
    """Whether a folder can be written or made; makes nothing."""
    if folder is None:
        return False
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return there.is_dir() and os.access(there, os.W_OK)
    except OSError:  # a parent folder that may not be read
        return False


@cache
def _private_folder() -> Path | None:
    """A folder for caches inside the temporary folder; None if it cannot be made. No other user can
    write to it, because the code in it is run."""
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
