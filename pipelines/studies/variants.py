"""A study's variants as suites: the user's suite with the variant's SAEs and settings.

Owns the view of a suite that studies get, the check that it has enough SAEs, and the merge. A
derived suite has the name and folders of the user's suite, so outputs with the same content key are
shared.
"""

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ...evaluate.study.study import LackError, Scene, Study, Variant
from ...harvest.model.families import FAMILIES
from ...harvest.model.files import SHIPPED, model_place
from ...harvest.model.sites import parse_site, site_width
from ..suite.members import GRID, members_of
from ..suite.model_shape import model_config
from ..suite.settings import SuiteFile, Table

SPARSITIES = (3e-4, 6e-4, 1.2e-3)
"""λs for a suite whose SAEs have target_l0 instead; about the report's values."""

_NOT_SHARED = ("importance", "subsets", "firing_sequences", "top_latents", "top_snippets")
"""Settings of evaluate that are not taken from the suite: a study sets those that it needs."""


def scene_of(file: SuiteFile, full: bool = False) -> Scene:
    """The suite as studies see it.

    Raises:
        ValueError: naming file, table and key.
    """
    members = members_of(file)
    sites = sorted({site for one in members for site in one.sites}, key=lambda site: site.depth)
    prices: Table = {}
    for name in ("sparsity", "target_l0"):
        values = sorted({one.values[name] for one in members if name in one.values})
        prices |= {name: values} if values else {}
    n_sequences = file.suite.evaluate.get("n_sequences", 2048)
    config = model_config(file.suite.model)
    scene = Scene(
        sites=tuple(map(str, sites)),
        n_layers=config.num_hidden_layers,
        widths=tuple(sorted({one.values["width"] for one in members})),
        prices=prices or {"sparsity": list(SPARSITIES)},
        sparsities=tuple(prices.get("sparsity", SPARSITIES)),
        settings=shared_settings(file),
        seed=file.suite.seed,
        n_sequences=n_sequences,
        context=file.suite.text.get("context"),
        full=full,
        model=file.suite.model,
        twin=twin_of(file),
    )
    return replace(scene, d_in=site_width(parse_site(scene.site), config))


def twin_of(file: SuiteFile) -> str | None:
    """The instruction-tuned model of the suite's `[twin]`, or the known one of its model."""
    name = file.suite.model
    if file.suite.twin.model is not None:
        return file.suite.twin.model
    if name == model_place(SHIPPED[0]):
        return model_place(SHIPPED[1])
    return next((f.tuned[name] for f in FAMILIES if name in f.tuned), None)


def shared_settings(file: SuiteFile) -> Table:
    """Training settings of the suite's first SAE without those of the grid. A study trains its SAEs
    with them, as the suite does."""
    values = members_of(file)[0].values
    return {name: value for name, value in values.items() if name not in GRID}


def check_enough(study: Study, saes: Iterable[tuple[Any, ...]], remedy: str) -> None:
    """Checks that a study can compare at least two of these SAEs.

    Args:
        study: the study.
        saes: (site, width, anything that differs between SAEs of one site and width).
        remedy: what to do if it cannot, for the error.

    Raises:
        LackError: it cannot.
    """
    if study.needs is None:
        return
    found: dict[tuple[Any, ...], set[tuple[Any, ...]]] = {}
    for sae in set(saes):
        found.setdefault(sae[:2] if study.needs.alike else (), set()).add(sae)
    if max(map(len, found.values()), default=0) < 2:
        got = f"one at each of {len(found)}" if study.needs.alike else f"{len(set(saes))}"
        raise LackError(f"study {study.name} must have {study.needs.words}, got {got}; {remedy}")


def derived(file: SuiteFile, variant: Variant) -> SuiteFile:
    """The suite that a variant asks for."""
    suite, new = file.suite, copy.copy(file)
    changed: dict[str, Any] = {
        "text": suite.text | variant.text,
        "harvest": _harvest(suite.harvest, variant.harvest),
        "evaluate": _evaluate(suite.evaluate, variant.evaluate),
    }
    if variant.sae:
        changed["train"] = shared_settings(file) | variant.train
        changed["sae"] = tuple(variant.sae)
    else:
        changed["sae"] = tuple(_trained(table, variant.train) for table in suite.sae)
    if variant.model is not None:
        changed["model"] = variant.model
    new.suite = suite.model_copy(update=changed)
    return new


def _harvest(tables: tuple[Table, ...], own: Table) -> tuple[Table, ...]:
    """The suite's tables with the variant's settings, and a table for sites that none names."""
    merged = [table | own for table in tables]
    if all("site" in table for table in merged):
        merged.append({name: value for name, value in merged[0].items() if name != "site"})
    return tuple(merged)


def _evaluate(table: Table, own: Table) -> Table:
    """The suite's settings without those that cost more passes, then the variant's."""
    shared = {name: value for name, value in table.items() if name not in _NOT_SHARED}
    merged = {"top_latents": 0} | shared | own
    if not merged["top_latents"] and not merged.get("importance"):
        merged.pop("seed", None)  # it would have no effect, and evaluate refuses that
    return merged


def _trained(table: Table, own: Table) -> Table:
    """A `[[sae]]` table of the suite under the variant's settings."""
    kept = {name: v for name, v in table.items() if not (name == "tokens" and "steps" in own)}
    return kept | own
