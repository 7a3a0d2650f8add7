"""What ranks must have in common before the first step: else they would train something else, or
find other bits."""

import importlib.metadata
import importlib.util
import json
from typing import Any

import torch

from ...machine import processor
from .world import World


def check_same(world: World, facts: dict[str, Any]) -> None:
    """Raises ValueError that names the first fact in which a rank differs from the first one;
    the same on all ranks.

    Args:
        world: the ranks.
        facts: JSON values by name.
    """
    told = [json.loads(text) for text in world.told(json.dumps(facts))]
    for rank, others in enumerate(told[1:], 1):
        for name in sorted(told[0].keys() | others.keys()):
            first, other = told[0].get(name), others.get(name)
            if first != other:
                raise ValueError(
                    f"ranks must have the same {name}, got {_shown(first)} on {world.named(0)} and "
                    f"{_shown(other)} on {world.named(rank)}"
                )


def facts_of_process(device: torch.device) -> dict[str, Any]:
    """What the bits of a step depend on beside rows and settings: packages, processor, threads."""
    packages = ("scopeworks", "torch", "numba" if device.type == "cpu" else "triton")
    facts: dict[str, Any] = {f"version of {name}": _version(name) for name in packages}
    if device.type == "cuda":
        return facts | {"card": torch.cuda.get_device_name(device)}
    return facts | {"processor": processor(), "threads": torch.get_num_threads()}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return "of no package"


def _shown(value: Any) -> str:
    return str(value)[:60]
