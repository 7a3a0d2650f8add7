"""Finds the SAE that an id names in a release: a folder, a slot's canonical SAE, or the only SAE.

Owns the rules and the errors. A release is a tree of folders, which the caller lists.
"""

import difflib
import re
from collections.abc import Callable, Iterator

from .formats.table import FORMATS

CANONICAL = "canonical"
CANONICAL_L0 = 100
"""A slot's canonical SAE is the one whose L0 is nearest to this (Gemma Scope report)."""

Children = Callable[[str], list[str]]
"""Names directly below a folder of the release ("" is the release itself); [] for none."""

_WEIGHTS = {row.weights for row in FORMATS}
_FILES = (
    ".json",
    ".jsonl",
    ".safetensors",
    ".npz",
    ".md",
    ".png",
    ".svg",
    ".txt",
    ".gitattributes",
)
"""Suffixes of files: such a name is not listed as a folder, which would cost a request."""
_DEPTH = 6  # Gemma Scope's releases have four levels of folders, a release of several kinds six
_SHOWN = 6


def choose(children: Children, sae_id: str | None, where: str, complete: bool = True) -> str:
    """The folder of the SAE that an id names, below the release's own.

    `slot/canonical` is the SAE of the slot `layer_12/width_16k` whose folder `average_l0_N` has the
    N nearest to 100; of two that are equally near, the sparser one. (The published table has two
    such slots and takes the sparser one in one of them.) A folder above exactly one SAE names that
    SAE.

    Args:
        children: lists the release.
        sae_id: folder in the release; None for a release of one SAE.
        where: names the release in errors.
        complete: whether `children` lists everything; if not, the id must be a whole folder.

    Raises:
        ValueError: the id names no SAE, or more than one; the text names some that are there.
    """
    wanted = (sae_id or "").strip("/")
    if ".." in wanted.split("/"):
        raise ValueError(f"sae_id must be a folder of {where}, got {sae_id}")
    if wanted.rpartition("/")[2] in _WEIGHTS:
        wanted = wanted.rpartition("/")[0]
    if wanted and _WEIGHTS & set(children(wanted)):
        return wanted
    if not complete:
        raise ValueError(
            f"sae_id {sae_id} must name the whole folder of an SAE that is in the cache, for only "
            f"a part of {where} is; go online once, or pass one of {_shown(children)}"
        )
    slot, _, last = wanted.rpartition("/")
    if last == CANONICAL:
        return _canonical(children, slot, where)
    found = list(_saes(children, wanted))
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"sae_id must name one SAE of {where}, got {sae_id or 'none'}, which holds "
            f"{len(found)}: {_list(found)}"
        )
    raise ValueError(
        f"sae_id must name an SAE of {where}, got {sae_id}; {_nearest(children, wanted)}"
    )


def _canonical(children: Children, slot: str, where: str) -> str:
    """The SAE of a slot whose L0 is nearest to 100."""
    names = (re.fullmatch(r"average_l0_(\d{1,9})", name) for name in children(slot))
    l0s = [int(name[1]) for name in names if name]
    for l0 in sorted(l0s, key=lambda l0: (abs(l0 - CANONICAL_L0), l0)):
        folder = f"{slot}/average_l0_{l0}".lstrip("/")
        if _WEIGHTS & set(children(folder)):
            return folder
    raise ValueError(
        f"{CANONICAL} must stand for one of a slot's folders average_l0_N, got "
        f"{slot or 'the whole release'} of {where}, which has none; {_nearest(children, slot)}"
    )


def _saes(children: Children, folder: str, depth: int = _DEPTH) -> Iterator[str]:
    """Folders with an SAE at or below one, in order of their numbers."""
    names = children(folder)
    if _WEIGHTS & set(names):
        yield folder
        return
    for name in sorted(names, key=_numbers_apart) if depth else ():
        if not name.endswith(_FILES):
            yield from _saes(children, f"{folder}/{name}".lstrip("/"), depth - 1)


def _nearest(children: Children, wanted: str) -> str:
    """Names similar to the id, for an error."""
    known = list(_saes(children, ""))
    if not known:
        names = ", ".join(sorted(_WEIGHTS))
        return f"no folder of it holds an SAE: one of {names}"
    close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.8)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {_list(known)}"


def _shown(children: Children) -> str:
    return _list(list(_saes(children, "")))


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
    return ", ".join(name or "the folder itself" for name in names[:_SHOWN]) + more


def _numbers_apart(name: str) -> list[tuple[int, str]]:
    """Sorts layer_2 before layer_10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]
