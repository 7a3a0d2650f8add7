"""The step harvest: tokens → activation stores; a share is some of the buckets.

Owns the choice of the stores that a suite uses. The name of a store starts with its rows' key, so
stores of one `[[harvest]]` table are found whichever suite made them. A site that one of them holds
is not harvested again. The sites that none holds go into another store with the same rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ...console import NotReadyError
from ...harvest.rows.run import harvest_rows
from ...store import TokenStore
from ...store.place.locate import locate
from ...store.place.place import Place
from ...store.tools.catalogue import ListedStore, catalogue
from ...workers.share import TaskShare
from ..suite.marks import alone
from ..suite.members import SuiteMember
from ..suite.outputs import Outputs
from .step import State, Step


@dataclass(frozen=True)
class Cover:
    """The stores that hold a table's sites.

    Attributes:
        entries: existing stores; each holds a needed site that the stores before it do not.
        missing: sites that no store holds.
    """

    entries: tuple[ListedStore, ...]
    missing: tuple[str, ...]


def cover(outputs: Outputs, number: int) -> Cover:
    """Looks for a table's sites in the suite's `read` stores, then in stores with its rows' key.

    Raises:
        ValueError: a store is damaged, or a `read` store was made from other tokens.
    """
    missing = [str(site) for site in outputs.sites[number]]
    chosen = []
    for entry in [*outputs.read_only, *_own(outputs, number)]:
        if entry.error is not None:
            raise ValueError(f"store {entry.url} cannot be used: {entry.error}")
        if entry.spec is not None and set(missing) & set(entry.spec.sites):
            chosen.append(entry)
            missing = [site for site in missing if site not in entry.spec.sites]
    return Cover(tuple(chosen), tuple(missing))


def stores_of(outputs: Outputs, member: SuiteMember) -> list[str]:
    """URLs of the stores that a member's sites are in.

    Raises:
        NotReadyError: a store is missing or not complete.
    """
    urls: dict[str, None] = {}
    for site, number in zip(map(str, member.sites), member.harvests, strict=True):
        entries = [e for e in cover(outputs, number).entries if e.spec and site in e.spec.sites]
        if not entries or not entries[0].complete:
            where = f" (store {entries[0].url})" if entries else ""
            raise NotReadyError(f"the rows of {site} are not all harvested{where}")
        urls[entries[0].url] = None
    return list(urls)


def rows_of(outputs: Outputs) -> int:
    """Rows of all stores; stores with the same rows count once."""
    most: dict[int, int] = {}
    for number in range(len(outputs.sites)):
        specs = [entry.spec for entry in cover(outputs, number).entries]
        most[number] = max((spec.rows for spec in specs if spec is not None), default=0)
    return sum(most.values())


def state(outputs: Outputs) -> State:
    """Committed buckets of all stores; a store that is not begun counts as one missing bucket."""
    try:
        covers = [cover(outputs, number) for number in range(len(outputs.sites))]
    except FileNotFoundError:  # the token store of `[text] store` does not exist
        covers = [Cover((), ("",))]
    entries = [entry for one in covers for entry in one.entries]
    total = sum(entry.spec.n_buckets for entry in entries if entry.spec)
    total += sum(bool(one.missing) for one in covers)
    return State(sum(entry.n_committed for entry in entries), total, "buckets")


def execute(outputs: Outputs, share: TaskShare) -> None:
    """Harvests a share of the missing buckets, table by table."""
    TokenStore.open(outputs.tokens)
    for number in range(len(outputs.sites)):
        with alone(outputs, f"{outputs.stores}/{outputs.rows_key(number)}", share):
            for place, sites in _begun(outputs, number, share):
                print(harvest_rows(outputs.harvest_settings(number, place, sites), share=share))


def pieces(outputs: Outputs) -> int:
    """Buckets of the largest table (2^20 rows each), as far as its rows are given; at least 8."""
    rows = [table.get("rows") or 0 for table in outputs.suite.harvest]
    return max(8, max(rows) // 2**20)


def _begun(outputs: Outputs, number: int, share: TaskShare) -> Iterator[tuple[Place, list[str]]]:
    """The stores to work on, with their sites: incomplete ones, and a new one for the sites that no
    store holds."""
    found = cover(outputs, number)
    if found.missing and not share.is_first:
        raise NotReadyError(f"no store is begun for {found.missing[0]}; share 0 does that")
    for entry in found.entries:
        if not entry.complete and entry.spec is not None:
            yield outputs.suite.place(entry.url), list(entry.spec.sites)
    if found.missing:
        yield outputs.store(number, list(found.missing)), list(found.missing)


def _own(outputs: Outputs, number: int) -> list[ListedStore]:
    """The stores with a table's rows key in the suite's `stores` folder."""
    root, rows = outputs.suite.place(outputs.stores), outputs.rows_key(number)
    names = [name for name in locate(root).children() if name.startswith(f"{rows}-")]
    places = [outputs.suite.place(f"{outputs.stores}/{name}") for name in names if "." not in name]
    return [entry for place in places for entry in catalogue(place, records=False)]


STEP = Step("harvest", ("tokenize",), state, execute, pieces, on_gpu=True)
