"""Adds to each SAE's evaluation how well mixed its training batches are, for the study of mixing.

Owns the choice of what is measured: the store's statistic of mixing, for the order of rows in which
each SAE was trained.
"""

from typing import Any

from ....store import ActivationStore
from ....store.tools.mixing import mixing
from ...steps.harvest import stores_of
from ...suite.members import SuiteMember
from ...suite.outputs import Outputs

BATCHES = 8


def with_mixing(outputs: Outputs, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The evaluations of a suite's SAEs, in their order, each with `mixing`.

    `measured` is the share of a batch's pairs of rows that are of one sequence, `perfect` the same
    share after a perfect shuffle.
    """
    shares: dict[tuple[Any, ...], dict[str, Any]] = {}
    found = []
    for member, document in zip(outputs.members, documents, strict=True):
        own = _order(member)
        if own not in shares:
            shares[own] = _share(outputs, member, *own)
        found.append(document | {"mixing": shares[own]})
    return found


def _order(member: SuiteMember) -> tuple[int | None, int, int]:
    """(rows among which a row is shuffled, seed of the order, rows of a batch)."""
    values = member.values
    return values.get("shuffle_rows"), values.get("stream_seed", 0), values.get("batch", 4096)


def _share(
    outputs: Outputs, member: SuiteMember, shuffle_rows: int | None, seed: int, batch: int
) -> dict[str, Any]:
    """The statistic of one order."""
    store = ActivationStore.open([outputs.suite.place(url) for url in stores_of(outputs, member)])
    one = mixing(store, batch, BATCHES, seed, shuffle_rows=shuffle_rows)
    return {
        "measured": float(f"{one.measured:.6g}"),
        "perfect": float(f"{one.perfect:.6g}"),
        "batches": one.batches,
    }
