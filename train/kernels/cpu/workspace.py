"""Memory that the CPU step reuses from step to step: fresh pages cost as much as the arithmetic."""

import math

import numpy as np
import torch
from torch import Tensor


class Workspace:
    """Named buffers that grow and are handed out again, with what the last user left in them.

    Only one step may use it at a time.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def tensor(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """An uninitialised contiguous tensor, valid until the same name is asked for again."""
        n = math.prod(shape)
        held = self._buffers.get(name)
        if held is None or held.numel() < n or held.dtype != dtype:
            held = self._buffers[name] = torch.empty(n, dtype=dtype)
        return held[:n].view(shape)

    def grown(self, name: str, n: int, dtype: torch.dtype) -> np.ndarray:
        """A flat array of at least n numbers, its contents kept; grows to 1.5·n."""
        held = self._buffers.get(name)
        if held is None or held.numel() < n:
            grown = torch.empty(n + n // 2, dtype=dtype)
            if held is not None:
                grown[: held.numel()] = held
            held = self._buffers[name] = grown
        return held.numpy()
