"""Groups: which SAEs are measured together, and how the groups' figures become one evaluation.

SAEs of a group share the clean pass, and SAEs of one site also its ablations. An SAE's figures do
not depend on its group, so SAEs can be grouped by memory and by workers.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...harvest.model.sites import Site, parse_site


@dataclass(frozen=True)
class GroupedSAE:
    """One SAE to be grouped; `number` is its place in the settings."""

    number: int
    site: Site
    target: Site
    n_bytes: int


def groups_of(
    items: Sequence[GroupedSAE], n: int = 1, most_bytes: int | None = None
) -> list[tuple[int, ...]]:
    """Numbers of the SAEs of each group; SAEs of one target site are kept together.

    Args:
        items: the SAEs.
        n: groups wanted; there are more if memory is short, fewer if there are fewer SAEs.
        most_bytes: limit of the weights in a group; a single SAE may exceed it.
    """
    rows = sorted(items, key=lambda one: (one.target.depth, str(one.target), one.number))
    size = -(-len(rows) // n)
    groups: list[list[GroupedSAE]] = []
    for one in rows:
        last = groups[-1] if groups else None
        full = last is None or len(last) == size
        if most_bytes is not None and last is not None:
            full = full or sum(other.n_bytes for other in last) + one.n_bytes > most_bytes
        if full:
            groups.append([one])
        else:
            groups[-1].append(one)
    return [tuple(sorted(one.number for one in group)) for group in groups]


def joined(results: dict[tuple[int, ...], dict[str, Any]]) -> dict[str, Any]:
    """The groups' results as one result, the same as a single group's would be."""
    groups = sorted(results)
    first = results[groups[0]]
    _say_if_they_differ([results[group] for group in groups])
    baselines = {site: own for group in groups for site, own in results[group]["baselines"].items()}
    in_order = sorted(baselines, key=lambda site: (parse_site(site).depth, site))
    return {
        "clean": first["clean"],
        "baselines": {site: baselines[site] for site in in_order},
        "saes": _by_number({group: results[group]["saes"] for group in groups}),
        "subsets": {
            name: subset
            | {
                "saes": _by_number(
                    {group: results[group]["subsets"][name]["saes"] for group in groups}
                )
            }
            for name, subset in first["subsets"].items()
        },
    }


def _by_number(entries: dict[tuple[int, ...], list[Any]]) -> list[Any]:
    """The groups' entries in the order of the SAEs in the settings."""
    pairs = [pair for group, own in entries.items() for pair in zip(group, own, strict=True)]
    return [entry for _, entry in sorted(pairs, key=lambda pair: pair[0])]


def _say_if_they_differ(results: list[dict[str, Any]]) -> None:
    """Prints a line if groups differ: different processors round differently."""
    losses = sorted({result["clean"]["loss"] for result in results})
    if len(losses) > 1:
        print(
            f"workers computed clean losses from {losses[0]!r} to {losses[-1]!r}: their processors "
            "round differently, so figures agree except for their last digits",
            file=sys.stderr,
        )
