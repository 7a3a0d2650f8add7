"""Brings an SAE's files to this machine: from a folder, a URL, or a Hugging Face repository.

Owns the way from a name to local files, and records which commit a revision was. `choice` decides
which SAE of a release is meant, `formats` reads it. Files of the hub stay in `huggingface_hub`'s
cache, and are read from there if the hub cannot be reached.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ...foreign import one_line
from ...hub_errors import hub_hint, status
from ...store.place.files import write_file
from ...store.place.locate import locate
from ...store.place.location import Location, StorageOptions
from ...store.place.place import Place
from .choice import choose
from .formats.table import FORMATS, Format

SCHEME = "hf://"
_ID = re.compile(r"[\w.-]+/[\w.-]+")
_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class FoundSAE:
    """An SAE's files on this machine.

    Attributes:
        path: the folder, or the lone file.
        source: where they are from: `hf://USER/REPOSITORY@COMMIT/FOLDER`, a URL, or the path.
        remedy: advice to add to the error if the files are not an SAE.
    """

    path: Path
    source: str
    remedy: str = ""


@contextmanager
def fetched(
    release: str | Path,
    sae_id: str | None = None,
    *,
    revision: str | None = None,
    storage_options: StorageOptions = None,
    force_download: bool = False,
) -> Iterator[FoundSAE]:
    """An SAE's files, which are there while the block runs; see `SAE.from_pretrained`."""
    name = str(release)
    if is_url(name):
        _refuse(f"the URL {name}", revision=revision, force_download=force_download)
        with tempfile.TemporaryDirectory(prefix="scopeworks-sae-") as temporary:
            yield _from_url(Place(name, storage_options), sae_id, Path(temporary))
        return
    _refuse(f"{name}, which is no URL of a file system", storage_options=storage_options)
    repository = _Repository.named(name, revision, sae_id)
    if repository is not None:
        yield repository.fetch(force_download)
        return
    _refuse(f"the path {name}", revision=revision, force_download=force_download)
    yield _from_path(Path(name.removeprefix("file://")).expanduser(), sae_id)


def is_url(name: str) -> bool:
    """Whether a name is a URL of a file system, which has storage options."""
    return Place(name).is_remote and not name.startswith(SCHEME)


def is_remote(name: str) -> bool:
    """Whether a name is a URL or a hub address, not a path on this machine."""
    return Place(name).is_remote


def _refuse(where: str, **options: Any) -> None:
    """An option that would do nothing is an error."""
    for option, value in options.items():
        if value:
            raise ValueError(f"{option} has no effect on {where}; leave it out")


def _from_path(path: Path, sae_id: str | None) -> FoundSAE:
    """A folder on this machine: an SAE's own, or a release."""
    if path.is_dir() and (sae_id is not None or not _told(path)):

        def children(folder: str) -> list[str]:
            below = path / folder
            return sorted(entry.name for entry in below.iterdir()) if below.is_dir() else []

        path = path / choose(children, sae_id, str(path))
    elif sae_id is not None:
        raise FileNotFoundError(
            f"release {path} must be a folder, a URL or an id on the hub such as "
            "google/gemma-scope-2b-pt-res, got nothing of that name"
        )
    return FoundSAE(path, str(path))


def _told(folder: Path) -> bool:
    """Whether a folder is one SAE's own, complete or not."""
    return any((folder / name).is_file() for row in FORMATS for name in row.told_by)


def _from_url(place: Place, sae_id: str | None, temporary: Path) -> FoundSAE:
    """Downloads the files of an SAE through fsspec, into a folder with the URL's path: formats read
    facts from folder names."""
    location = locate(place)
    folder = choose(location.children, sae_id, place.url)
    path = temporary / place.url.partition("://")[2].strip("/") / folder
    names = location.children(folder)
    for name in _files(_format(names), names):
        write_file(path / name, _blocks(location, f"{folder}/{name}".lstrip("/")))
    return FoundSAE(path, f"{place.url.rstrip('/')}/{folder}".rstrip("/"))


def _blocks(location: Location, key: str) -> Iterator[bytes]:
    """A remote file in parts."""
    size = location.size(key)
    for start in range(0, size, _BLOCK_BYTES):
        stop = min(start + _BLOCK_BYTES, size)
        block = location.read(key, start, stop)
        if len(block) != stop - start:
            raise OSError(f"{location.url}/{key} was changed while it was read; read it again")
        yield block


def _format(names: list[str]) -> Format:
    """The format of a folder that holds these files."""
    return next(row for row in FORMATS if row.weights in names)


def _files(row: Format, names: list[str]) -> list[str]:
    return [name for name in (*row.told_by, *row.beside) if name in names]


class _Repository:
    """A release on the hub, at one revision."""

    def __init__(self, repo: str, revision: str | None, sae_id: str | None):
        self._repo, self._revision, self._sae_id = repo, revision, sae_id
        at = f"@{revision}" if revision else ""
        self._name = f"{SCHEME}{repo}{at}"

    @classmethod
    def named(cls, name: str, revision: str | None, sae_id: str | None) -> "_Repository | None":
        """The repository that a name means: `hf://USER/REPOSITORY[@REVISION][/FOLDER]`, or an id
        unless a local folder has that name; None for other names."""
        if not name.startswith(SCHEME):
            if Path(name).exists() or not _ID.fullmatch(name) or name.startswith("."):
                return None
            return cls(name, revision, sae_id)
        repo = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/(.*))?", name.removeprefix(SCHEME))
        if repo is None:
            raise ValueError(
                f"hub address must be {SCHEME}USER/REPOSITORY[@REVISION][/FOLDER], got {name}"
            )
        at = unquote(repo[2]) if repo[2] else None
        if revision is not None and at not in (None, revision):
            raise ValueError(f"revision must be given once, got {revision} and {name}")
        parts = [part for part in ((repo[3] or "").strip("/"), sae_id or "") if part]
        return cls(repo[1], revision or at, "/".join(parts) or None)

    def fetch(self, force: bool) -> FoundSAE:
        """Downloads what is not in the cache yet.

        Raises:
            OSError: the hub refuses it or cannot be reached, and the cache does not have it.
            ValueError: the id names no SAE.
        """
        commit, files, complete = self._listing()
        children = tree(files)
        folder = choose(children, self._sae_id, self._name, complete)
        names = children(folder)
        wanted = [f"{folder}/{name}".lstrip("/") for name in _files(_format(names), names)]
        path = self._downloaded(commit, wanted, force)
        source = f"{SCHEME}{self._repo}@{path.name}/{folder}".rstrip("/")
        remedy = "; if the copy in the cache is damaged, force_download=True fetches it again"
        return FoundSAE(path / folder, source, remedy)

    def _listing(self) -> tuple[str | None, list[str], bool]:
        """The commit in the cache (None if the hub answered), the repository's files, and whether
        the list of files is complete."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, RevisionNotFoundError

        try:
            info = HfApi().model_info(self._repo, revision=self._revision, timeout=20)
            return None, [file.rfilename for file in info.siblings or ()], True
        except RevisionNotFoundError as error:
            raise ValueError(
                f"revision must be a branch, tag or commit of {self._repo}, got {self._revision}"
            ) from error
        except HFValidationError as error:
            raise self._refusal(error) from error
        except Exception as error:  # httpx' and the hub's errors have no common base
            if 400 <= (status(error) or 599) < 500:
                raise self._refusal(error) from error
            return self._cached(error)

    def _cached(self, error: Exception) -> tuple[str, list[str], bool]:
        """The listing from the cache, when the hub cannot be reached."""
        from huggingface_hub import HfApi, get_cached_repo_tree, snapshot_download
        from huggingface_hub.errors import (
            CachedRepoTreeNotFoundError,
            LocalEntryNotFoundError,
            RevisionResolutionError,
        )

        revision = {"revision": self._revision, "local_files_only": True}
        try:
            commit = HfApi().resolve_revision(self._repo, **revision).resolved
            nothing = ["/"]  # matches no file: asks for the folder only
            folder = snapshot_download(self._repo, allow_patterns=nothing, **revision)
        except (RevisionResolutionError, LocalEntryNotFoundError):
            raise self._refusal(error) from error
        print(
            f"the hub cannot be reached ({one_line(error)}): {self._repo} is read from the cache, "
            f"commit {commit}",
            file=sys.stderr,
        )
        try:
            tree = get_cached_repo_tree(self._repo, revision=commit)
            return commit, [file.path for file in tree], True
        except CachedRepoTreeNotFoundError:
            files = (path for path in Path(folder).rglob("*") if path.is_file())
            return commit, [path.relative_to(folder).as_posix() for path in files], False

    def _downloaded(self, commit: str | None, files: list[str], force: bool) -> Path:
        """The folder in the cache that holds the files; its name is the commit."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        # snapshot_download takes patterns: escape their special characters.
        patterns = [re.sub(r"([*?\[])", r"[\1]", name) for name in files]
        where = {"revision": commit or self._revision, "local_files_only": commit is not None}
        try:
            folder = snapshot_download(
                self._repo, allow_patterns=patterns, force_download=force, **where
            )
        except LocalEntryNotFoundError as error:
            if commit is None:
                raise self._refusal(error) from error
            raise OSError(
                f"{files[-1]} of {self._name} is not in the cache, and the hub cannot be reached; "
                "go online once"
            ) from error
        except Exception as error:  # as above
            raise self._refusal(error) from error
        missing = [name for name in files if not (Path(folder) / name).is_file()]
        if missing:
            raise OSError(
                f"{self._name} must hold {missing[0]}, which it no longer does; try again"
            )
        return Path(folder)

    def _refusal(self, error: Exception) -> OSError:
        return OSError(f"{self._name} cannot be loaded: {hub_hint(error, 'repository')}")


def tree(files: list[str]) -> Any:
    """Lists folders of a repository, from the paths of its files."""
    below: dict[str, set[str]] = {}
    for path in files:
        parts = path.split("/")
        for depth, part in enumerate(parts):
            below.setdefault("/".join(parts[:depth]), set()).add(part)
    return lambda folder: sorted(below.get(folder, ()))
