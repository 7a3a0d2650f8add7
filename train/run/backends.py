"""Checks, before anything is written, that a run's kernel runs on its device and that its ranks can
train together. Also decides what ranks share.
"""

import json
import sys
from collections.abc import Sequence

import torch

from ...machine import available_cores
from ...settings import dump
from ..kernels import available_backends, backend_paths, choose_backend
from ..ranks.agreement import (
    USUAL_L0,
    RankMachine,
    UpdateShape,
    check_same,
    choose,
    facts_of_process,
)
from ..ranks.world import World
from ..settings import TrainSettings
from .memory import fits
from .rows import TrainingRows

_OF_ONE_NODE = ("store", "out", "cache_dir", "checkpoints")


def check_backends(members: Sequence[TrainSettings], device: torch.device) -> None:
    """Raises ValueError for a kernel that cannot run on the device, or an encoder it does not
    have.
    """
    usable = available_backends(device)
    for settings in members:
        name, _, path = settings.backend.partition("/")
        if name != "auto" and name not in usable:
            raise ValueError(
                f"backend must be one of {', '.join(usable)} on {device.type}, got {name}"
            )
        if path and path not in backend_paths(name):
            paths = ", ".join(backend_paths(name)) or "it has none"
            raise ValueError(
                f"backend must name a path of {name} ({paths}), got {settings.backend}"
            )
        if settings.encoder == "tf32" and device.type != "cuda":
            raise ValueError(
                f"encoder tf32 needs a CUDA device, got {device.type}; choose bfloat16, screened or"
                " float32"
            )
        if name == "auto" and choose_backend(device) == "reference" and settings.encoder != "auto":
            raise ValueError(
                f"encoder {settings.encoder} has no effect with backend reference, the only one "
                f"for {device.type} here; leave it out, or install numba (cpu) or triton (cuda)"
            )


def check_ranks(
    members: Sequence[TrainSettings], source: TrainingRows, device: torch.device, world: World
) -> None:
    """Decides what ranks share; the same on all ranks.

    Raises:
        ValueError: the processes cannot train together: they differ, there are too many of them, or
            the kernel needs all latents. Or this process is alone, and an option is for several.
    """
    settings = members[0]
    if world.is_alone:
        limit = TrainSettings.model_fields["rank_timeout_s"].default
        idle = {
            "rank_timeout_s": any(member.rank_timeout_s != limit for member in members),
            "parallel": any(member.parallel not in (None, "auto") for member in members),
        }
        for name, without_effect in idle.items():
            if without_effect:
                raise ValueError(
                    f"{name} has no effect on a process alone; leave it out, or start several with "
                    "torchrun"
                )
        return
    if len(members) > 1:
        raise ValueError(
            f"members must be one for several ranks, got {len(members)}; train them one after the "
            "other"
        )
    name = choose_backend(device) if settings.backend == "auto" else settings.backend
    if name.partition("/")[0] == "reference":
        raise ValueError(
            f"backend must be cpu or triton for {world.size} ranks, got reference, which needs all "
            "latents"
        )
    asked = json.loads(dump(settings))
    facts = {name: asked[name] for name in asked if name not in _OF_ONE_NODE}
    facts |= {f"store's {name}": value for name, value in source.identity().items()}
    facts["wire"] = world.wire_for(settings.device, device)
    check_same(world, facts | facts_of_process(device))
    _choose_way(settings, source, device, world)
    world.shares(settings.width)
    if world.is_first and settings.parallel is not None:
        print(f"{world.size} ranks share {world.facts()['parallel']}", file=sys.stderr)


def _choose_way(
    settings: TrainSettings, source: TrainingRows, device: torch.device, world: World
) -> None:
    """The first rank decides what ranks share, and tells the others."""
    backend = world.wire_for(settings.device, device)

    def chosen() -> str:
        stored = source.stream_dtype(device, travel=True)
        update = UpdateShape(
            settings.width,
            source.d_in,
            source.d_out,
            settings.batch,
            settings.target_l0 or USUAL_L0,
            settings.target_site is not None,
            2 if stored == "bfloat16" else 4,
        )
        cores = available_cores() / world.place.size_of_host
        machine = RankMachine(world.link(backend), device.type, cores)
        rows_fit = fits([settings], source, device, world, by_rows=True)
        way = choose(settings.parallel, world.size, update, machine, rows_fit)
        return json.dumps(way)

    world.by_rows, world.why = json.loads(world.of_first(chosen))
