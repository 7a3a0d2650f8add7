"""Uploads a release to the Hugging Face hub: one commit, checked against SHA256SUMS afterwards.

Owns the upload. Uploaded files are not sent again, and the commit comes last. So a repository never
holds half a release, and the same command continues an interrupted push. The token is that of
`huggingface_hub` (HF_TOKEN, or `hf auth login`) and is never shown.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...foreign import one_line
from ...hub_errors import status
from .sums import SUMS_FILE, check_release, sums_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile


def push(
    folder: str | Path, repo: str, *, revision: str | None = None, private: bool | None = None
) -> str:
    """Makes the repository's branch hold the release; returns `hf://USER/REPOSITORY@COMMIT`.

    Files of an earlier release that are not in this one are deleted; other files, such as
    `.gitattributes`, stay.

    Args:
        folder: a complete release.
        repo: id on the hub, USER/REPOSITORY; made if it does not exist.
        revision: branch, made if it does not exist; main by default.
        private: whether the repository is private. By default a new one gets the account's default,
            and an existing one is not changed.

    Raises:
        OSError: the release is not complete, the hub refuses it or cannot be reached, or the hub
            then lists other files than were sent.
        ValueError: a file of the release was changed, `repo` is not an id, or an existing
            repository is private or public against `private`.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo) or "--" in repo or ".." in repo:
        raise ValueError(f"push must be USER/REPOSITORY, without -- and .., got {repo}")
    folder = Path(folder)
    sums = check_release(folder)
    sums |= sums_of(folder, [SUMS_FILE])
    try:
        commit = _pushed(folder, repo, revision, private, sums)
    except _OtherRepositoryError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # httpx' and the hub's errors have no common base
        raise OSError(f"release {folder} cannot be pushed to {repo}: {_hint(error)}") from error
    return f"hf://{repo}@{commit}"


def _pushed(
    folder: Path, repo: str, revision: str | None, private: bool | None, sums: Mapping[str, str]
) -> str:
    """Sends the files that the hub does not have; returns the commit that holds the release."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo, private=private, exist_ok=True)
    _check_private(api, repo, private)
    if revision is not None:
        api.create_branch(repo, branch=revision, exist_ok=True)
    before = _listing(api, repo, revision)
    wrong = _differing(before, folder, sums)
    stale = sorted(_released(api, repo, revision, before) - sums.keys())
    if wrong or stale:
        commit = _sent(api, folder, repo, revision, wrong, stale)
    else:
        commit = str(api.model_info(repo, revision=revision).sha)
    if differing := _differing(_listing(api, repo, commit), folder, sums):
        raise _DiffersError(
            f"the hub lists {len(differing)} files otherwise than {SUMS_FILE}, {differing[0]} "
            "among them; push again"
        )
    return commit


def _sent(
    api: "HfApi", folder: Path, repo: str, revision: str | None, wrong: list[str], stale: list[str]
) -> str:
    """Uploads files, then makes one commit with all of them; returns the commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added = [CommitOperationAdd(path_in_repo=n, path_or_fileobj=folder / n) for n in wrong]
    removed = [CommitOperationDelete(path_in_repo=name) for name in stale]
    message = "Release of sparse autoencoders"
    return api.create_commit(
        repo, [*added, *removed], commit_message=message, revision=revision
    ).oid


def _check_private(api: "HfApi", repo: str, private: bool | None) -> None:
    """Raises if the repository existed before and is private or public against `private`."""
    if private is None or api.model_info(repo).private is private:
        return
    asked, there = ("private", "public") if private else ("public", "private")
    raise _OtherRepositoryError(
        f"{repo} must be {asked}, got one that is there and {there}; change it in its settings on "
        "the hub, or name another"
    )


class _OtherRepositoryError(Exception):
    """The repository exists, and is private or public against the user's choice."""


class _DiffersError(Exception):
    """The hub holds other files than were sent."""


def _listing(api: "HfApi", repo: str, revision: str | None) -> dict[str, "RepoFile"]:
    """The repository's files by name."""
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repo, recursive=True, revision=revision)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _differing(
    listing: Mapping[str, "RepoFile"], folder: Path, sums: Mapping[str, str]
) -> list[str]:
    """Files of the release that the hub lacks, or has with other bytes."""
    return [
        name
        for name, digest in sorted(sums.items())
        if not _same(listing.get(name), folder / name, digest)
    ]


def _same(entry: "RepoFile | None", path: Path, digest: str) -> bool:
    """Whether the hub's file has the same bytes, by SHA-256 or, for small files, by git's hash."""
    if entry is None or entry.size != path.stat().st_size:
        return False
    if entry.lfs is not None:
        return entry.lfs.sha256 == digest
    data = path.read_bytes()  # a file that is not in LFS has a few kilobytes
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _released(
    api: "HfApi", repo: str, revision: str | None, before: Mapping[str, "RepoFile"]
) -> set[str]:
    """Files of a release that the repository holds, by the SHA256SUMS in the repository."""
    if SUMS_FILE not in before:
        return set()
    text = Path(api.hf_hub_download(repo, SUMS_FILE, revision=revision)).read_text(encoding="utf-8")
    return {line.partition("  ")[2] for line in text.splitlines()} & before.keys()


def _hint(error: Exception) -> str:
    """The error in words, and what to do. The cause of the client's error is the upload's error."""
    if isinstance(error, _DiffersError):
        return str(error)
    cause = error if error.__cause__ is None or status(error) is not None else error.__cause__
    code = status(cause)
    if code in (401, 403):
        return (
            f"the hub refuses it ({code}): run `hf auth login` with a token that may write there, "
            "or set HF_TOKEN"
        )
    if code is None:
        return f"{one_line(cause)}; check the network, the same command continues"
    said = str(getattr(cause, "server_message", None) or one_line(cause))
    return f"the hub answers {code} ({' '.join(said.split())[:300]}); the same command continues"
