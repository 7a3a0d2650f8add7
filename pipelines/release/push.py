"""A release to the Hugging Face hub: one commit, checked against SHA256SUMS afterwards.

Owns the way up. What is uploaded already is not sent again, and the commit comes last: a repository
never holds half a release, and the same command continues a push that broke off. The token is
`huggingface_hub`'s (HF_TOKEN, or `hf auth login`) and is never shown.
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
    folder: Path, repo: str, *, revision: str | None = None, private: bool | None = None
) -> str:
    """Makes the repository's branch hold the release; returns `hf://USER/REPOSITORY@COMMIT`.

    Files of an earlier release that are not in this one go; others, such as `.gitattributes`, stay.

    Args:
        folder: a complete release.
        repo: id on the hub; made if it is not there.
        revision: branch, made if it is not there; main by default.
        private: whether a repository that is made is private; the account's default by default.

    Raises:
        OSError: the release is not complete, the hub refuses it or cannot be reached, or it lists
            other files afterwards than were sent.
        ValueError: a file of the release was changed, or `repo` is no id.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ValueError(f"push must be USER/REPOSITORY, got {repo}")
    sums = check_release(folder)
    sums |= sums_of(folder, [SUMS_FILE])
    try:
        commit = _pushed(folder, repo, revision, private, sums)
    except Exception as error:  # httpx' and the hub's errors have no common base
        raise OSError(f"release {folder} cannot be pushed to {repo}: {_hint(error)}") from error
    return f"hf://{repo}@{commit}"


def _pushed(
    folder: Path, repo: str, revision: str | None, private: bool | None, sums: Mapping[str, str]
) -> str:
    """Sends what the hub does not have; returns the commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    api.create_repo(repo, private=private, exist_ok=True)
    if revision is not None:
        api.create_branch(repo, branch=revision, exist_ok=True)
    before = _listing(api, repo, revision)
    wrong = {name for name in sums if not _same(before.get(name), folder / name, sums[name])}
    stale = sorted(_released(api, repo, revision, before) - sums.keys())
    if wrong or stale:
        added = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name)
            for name in sorted(wrong)
        ]
        removed = [CommitOperationDelete(path_in_repo=name) for name in stale]
        api.create_commit(
            repo, [*added, *removed], commit_message=f"Release {folder.name}", revision=revision
        )
    commit = api.model_info(repo, revision=revision).sha
    after = _listing(api, repo, commit)
    missing = [name for name in sums if not _same(after.get(name), folder / name, sums[name])]
    if missing:
        raise _DiffersError(
            f"the hub lists {len(missing)} files otherwise than {SUMS_FILE}, {missing[0]} among "
            "them; push again"
        )
    return str(commit)


class _DiffersError(Exception):
    """The hub holds something else than what was sent."""


def _listing(api: "HfApi", repo: str, revision: str | None) -> dict[str, "RepoFile"]:
    """The repository's files by name."""
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repo, recursive=True, revision=revision)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _same(entry: "RepoFile | None", path: Path, digest: str) -> bool:
    """Whether the hub's file has these bytes: by SHA-256, of small ones by git's own name."""
    if entry is None or entry.size != path.stat().st_size:
        return False
    if entry.lfs is not None:
        return entry.lfs.sha256 == digest
    data = path.read_bytes()  # of what is not in LFS: a few kilobytes
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _released(
    api: "HfApi", repo: str, revision: str | None, before: Mapping[str, "RepoFile"]
) -> set[str]:
    """Files of the release that the repository holds, as its own SHA256SUMS says."""
    if SUMS_FILE not in before:
        return set()
    text = Path(api.hf_hub_download(repo, SUMS_FILE, revision=revision)).read_text(encoding="utf-8")
    return {line.partition("  ")[2] for line in text.splitlines()} & before.keys()


def _hint(error: Exception) -> str:
    """What to do about it; an upload's own error is the cause of the client's."""
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
    return f"{one_line(cause)}; the same command continues"
