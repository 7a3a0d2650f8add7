"""A suite's SAEs, one by one: every `[[sae]]` table is a grid, and every point of it is a member.

Owns the grid, the members' names, the choice of the harvest that a member's sites come from, and
the groups of members that are trained on one stream.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field, PositiveInt

from ...harvest.model.families import family_of
from ...harvest.model.sites import Site, expand_sites, parse_site
from ...settings import Settings
from ...train.settings import TrainSettings
from .model_shape import model_config
from .settings import Several, SuiteFile, Table

GRID = ("width", "sparsity", "target_l0", "seed")
"""Keys of a `[[sae]]` table, beside its sites, that may be lists."""


class _Sites(Settings):
    """The sites of a `[[harvest]]` table."""

    site: Several


class _Batch(Settings):
    """The `batch` that `tokens` is divided by."""

    batch: PositiveInt


@dataclass(frozen=True)
class SuiteMember:
    """One SAE of a suite.

    Attributes:
        name: unique in the suite; made of sites and settings, without paths.
        site: the site that it reads.
        target_site: the site that a transcoder predicts; None for an SAE.
        harvests: numbers of the `[[harvest]]` tables that its sites come from, in the sites' order.
            Rows of two tables are joined up to the shorter one's end.
        values: settings of train, without paths.
        together: how many members of its table are trained at once on one stream, as memory allows.
    """

    name: str
    site: Site
    target_site: Site | None
    harvests: tuple[int, ...]
    values: Table
    together: int

    @property
    def sites(self) -> tuple[Site, ...]:
        """All sites that it is trained on: `site`, and `target_site` of a transcoder."""
        return (self.site,) if self.target_site is None else (self.site, self.target_site)

    @property
    def rows(self) -> int:
        """Rows that its updates read in all, repeats included: steps × batch."""
        fields = TrainSettings.model_fields
        taken = {name: self.values.get(name, fields[name].default) for name in ("steps", "batch")}
        return taken["steps"] * taken["batch"]


def members_of(file: SuiteFile) -> list[SuiteMember]:
    """The suite's SAEs in the order of its file.

    Raises:
        ValueError: naming file, table and key: a site that the model does not have or that is in
            no `[[harvest]]` table, settings that do not fit, or two members of one name.
    """
    n_layers = model_config(file.suite.model).num_hidden_layers
    tables = enumerate(file.suite.sae, 1)
    wanted = [one for i, table in tables for one in _grid(file, i, table, n_layers)]
    owners = harvest_sites(file, {site for one in wanted for site in one.sites})
    found: dict[str, SuiteMember] = {}
    for one in wanted:
        if one.name in found:
            raise ValueError(
                f"suite {file.path}, [[sae]]: names must differ, got {one.name} twice; give one of "
                "the tables a name, which comes first in its SAEs' names"
            )
        found[one.name] = _placed(one, owners)
    return list(found.values())


def harvest_sites(file: SuiteFile, wanted: set[Site]) -> list[list[Site]]:
    """The sites of every `[[harvest]]` table, in the order of the forward pass.

    Raises:
        ValueError: two tables without `site`, or a wanted site in none.
    """
    n_layers = model_config(file.suite.model).num_hidden_layers
    named = []
    for i, table in enumerate(file.suite.harvest, 1):
        if table.get("site") is None:
            named.append(None)
            continue
        where = f"[[harvest]] {i}"
        own = file.table(_Sites, where, {"site": table["site"]})
        named.append(_sites(file, where, own.site, n_layers))
    taken = {site for sites in named if sites is not None for site in sites}
    rest = sorted(wanted - taken, key=lambda site: site.depth)
    if named.count(None) > 1:
        raise ValueError(
            f"suite {file.path}, [[harvest]]: one table may be without site, for what the others "
            f"leave, got {named.count(None)}"
        )
    if rest and None not in named:
        raise ValueError(
            f"suite {file.path}, [[harvest]]: SAEs read {', '.join(map(str, rest[:5]))}, which no "
            "table names; add them, or a table without site"
        )
    return [rest if sites is None else sites for sites in named]


def groups_of(members: Sequence[SuiteMember]) -> list[list[SuiteMember]]:
    """Members in groups that are trained at once: those that read one stream and have the same
    `together`, at most `together` in a group."""
    keys = ("batch", "stream_seed", "shuffle_rows", "normaliser", "prefetch")
    keys += ("cache_dir", "cache_bytes")
    streams: dict[tuple[Any, ...], list[SuiteMember]] = {}
    for member in members:
        own = tuple(str(member.values.get(key)) for key in keys)
        streams.setdefault((member.harvests, *member.sites, member.together, own), []).append(
            member
        )
    return [
        many[i : i + many[0].together]
        for many in streams.values()
        for i in range(0, len(many), many[0].together)
    ]


class _Own(Settings):
    """Keys of a `[[sae]]` table that are not settings of train, or that take more values here."""

    site: Several
    """Patterns of sites, such as resid_post.* or mlp_out.0-12."""
    target_site: str | None = None
    """A transcoder's target: a site, or a kind of site at the layer of `site`."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,60}$")
    """Prefix of its SAEs' names."""
    tokens: float | None = Field(default=None, ge=1)
    """Rows that an SAE reads, instead of `steps`."""
    together: PositiveInt
    """SAEs that are trained at once."""


def _grid(file: SuiteFile, number: int, table: Table, n_layers: int) -> Iterator[SuiteMember]:
    """The members of one `[[sae]]` table."""
    where, suite = f"[[sae]] {number}", file.suite
    known = {"together": suite.together} | table
    own = file.table(_Own, where, {k: v for k, v in known.items() if k in _Own.model_fields})
    base = {"seed": suite.seed, "stream_seed": suite.seed} | suite.train
    alike = base | {k: v for k, v in table.items() if k not in (*_Own.model_fields, *GRID)}
    alike |= _counted(file, where, own, alike)
    store = f"{suite.stores or '.'}/store"
    for site in _sites(file, where, own.site, n_layers):
        target = _target(file, where, site, own.target_site)
        names = [str(one) for one in (site, target) if one is not None]
        reads = dict(zip(("site", "target_site"), names, strict=False))
        for point in _points(table):
            settings = alike | point
            file.table(TrainSettings, where, settings | reads, store=store, out="out")
            name = _name(own.name, names, point)
            yield SuiteMember(name, site, target, (), settings, own.together)


def _points(values: Table) -> Iterator[Table]:
    """Every combination of the grid's lists; sparsity and target_l0 are alternatives."""
    axes: list[list[Table]] = []
    for name in ("width", "seed"):
        axes.append([{name: value} for value in _listed(values, name)] or [{}])
    sparsities = [
        {name: value} for name in ("sparsity", "target_l0") for value in _listed(values, name)
    ]
    for point in itertools.product(*axes, sparsities or [{}]):
        yield {name: value for part in point for name, value in part.items()}


def _listed(values: Table, name: str) -> list[Any]:
    """One value or several, as a list."""
    value = values.get(name, [])
    return list(value) if isinstance(value, list | tuple) else [value]


def _counted(file: SuiteFile, where: str, own: _Own, values: Table) -> Table:
    """`tokens` as `steps`; {} if the table gives no tokens."""
    if own.tokens is None:
        return {}
    if "steps" in values:
        raise ValueError(f"suite {file.path}, {where}: tokens and steps exclude each other")
    batch = values.get("batch", TrainSettings.model_fields["batch"].default)
    file.table(_Batch, where, {"batch": batch})
    return {"steps": max(1, round(own.tokens / batch))}


def _sites(file: SuiteFile, where: str, patterns: Sequence[str], n_layers: int) -> list[Site]:
    """The sites that a table names."""
    try:
        return expand_sites(patterns, n_layers, family_of(model_config(file.suite.model)))
    except ValueError as error:
        text = str(error).replace("; for example --site resid_post.12", "")
        raise ValueError(f"suite {file.path}, {where}: {text}") from error


def _target(file: SuiteFile, where: str, site: Site, target: str | None) -> Site | None:
    """A transcoder's target."""
    if target is None:
        return None
    try:
        return parse_site(target if "." in target else f"{target}.{site.layer}")
    except ValueError as error:
        raise ValueError(f"suite {file.path}, {where}: target_site: {error}") from error


def _name(prefix: str | None, sites: Sequence[str], point: Table) -> str:
    """prefix-site-width_N-sparsity_λ (or target_l0_N), and the seed unless it is 0."""
    parts = [prefix] if prefix else []
    parts.append("-to-".join(sites))
    for name in (name for name in GRID if name in point):
        value = point[name]
        if name != "seed" or value:
            parts.append(f"{name}_{value:g}" if isinstance(value, float) else f"{name}_{value}")
    return "-".join(parts)


def _placed(member: SuiteMember, owners: list[list[Site]]) -> SuiteMember:
    """The member with its harvests: the first table that has all of its sites, or the first for
    each site."""
    whole = [i for i, sites in enumerate(owners) if set(member.sites) <= set(sites)]
    each = (next(i for i, sites in enumerate(owners) if site in sites) for site in member.sites)
    harvests = (whole[0],) * len(member.sites) if whole else tuple(each)
    return replace(member, harvests=harvests)
