"""Whether a run's kernel runs on its device, checked before anything is written."""

from collections.abc import Sequence

import torch

from ..kernels import available_backends, backend_paths, choose_backend
from ..settings import TrainSettings


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
