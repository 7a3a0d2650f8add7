"""Families of language models: one file and one row each, `family` has the interface.

All that is particular to a family is in its file; the table below finds it by a configuration's
`model_type`.
"""

from typing import Any

from .family import Family, SiteModule
from .gemma2 import GEMMA2
from .gemma3 import GEMMA3

__all__ = [
    "FAMILIES",
    "GEMMA2",
    "GEMMA3",
    "Family",
    "SiteModule",
    "family_named",
    "family_of",
    "titles",
]

FAMILIES: tuple[Family, ...] = (GEMMA2, GEMMA3)
"""Every family there is."""


def family_of(config: Any) -> Family:
    """The family of a model, by transformers' configuration.

    Raises:
        ValueError: no family takes it.
    """
    return family_named(getattr(config, "model_type", None), "one")


def family_named(model_type: Any, model: str) -> Family:
    """The family that takes this `model_type`.

    Raises:
        ValueError: no family does; the text names those that exist.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    got = "no model_type" if model_type is None else f"model_type {str(model_type)[:60]!r}"
    raise ValueError(
        f"model must be a {titles()}, got {model} with {got}; other decoder families have other "
        "sites"
    )


def titles() -> str:
    """The families' names, for an error's line."""
    return " or ".join(family.title for family in FAMILIES)
