"""Whether a run's kernel runs on its device, and its ranks together, checked before anything is
written."""

import json
from collections.abc import Sequence

import torch

from ...settings import dump
from ..kernels import available_backends, backend_paths, choose_backend
from ..ranks.agreement import check_same, facts_of_process
from ..ranks.world import World
from ..settings import TrainSettings
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
    """Raises ValueError where processes cannot train together: they differ, there are too many of
    them, or the kernel needs all latents. The same on all ranks."""
    settings = members[0]
    if world.is_alone:
        if settings.rank_timeout_s != TrainSettings.model_fields["rank_timeout_s"].default:
            raise ValueError(
                "rank_timeout_s has no effect on a process alone; leave it out, or start several "
                "with torchrun"
            )
        return
    if len(members) > 1:
        raise ValueError(
            f"members must be one for several ranks, got {len(members)}; train them one after the "
            "other"
        )
    world.shares(settings.width)
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
