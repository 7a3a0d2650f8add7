"""Memory of a stream: batch buffers that are reused, and chunks that several batches share."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import ml_dtypes
import numpy as np
import torch

_NUMPY = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


class Buffers:
    """Batch buffers that are reused once no tensor refers to them: page faults of new memory take
    longer than decompression.

    Args:
        shape: of a batch, (rows, d).
        dtype: float32 or bfloat16.
        keep: how many buffers are kept. A caller that holds more batches gets new buffers.
        pin: page-locked memory, from torch's own pool, which knows when a copy to the device has
            ended.
    """

    def __init__(self, shape: tuple[int, int], dtype: str, keep: int, pin: bool):
        self._shape, self._dtype, self._keep, self._pin = shape, dtype, keep, pin
        self._lock = threading.Lock()
        self._all: list[np.ndarray] = []
        probe = [np.empty(0)]
        self._unshared = sys.getrefcount(probe[0])

    def take(self) -> tuple[torch.Tensor, np.ndarray]:
        """A tensor [rows, d] that no other tensor shares memory with, and the same memory as a
        numpy array to fill."""
        if self._pin:
            tensor = torch.empty(self._shape, dtype=getattr(torch, self._dtype), pin_memory=True)
            bits = tensor.view(torch.int16) if self._dtype == "bfloat16" else tensor
            return tensor, bits.numpy().view(_NUMPY[self._dtype])
        array = self._free()
        if self._dtype == "bfloat16":
            return torch.from_numpy(array).view(torch.bfloat16), array.view(_NUMPY["bfloat16"])
        return torch.from_numpy(array), array

    def _free(self) -> np.ndarray:
        """An array to which no tensor and no view refers."""
        with self._lock:
            for i in range(len(self._all)):
                # A tensor from `torch.from_numpy` and every view of it hold a reference to the
                # array until their storage dies.
                if sys.getrefcount(self._all[i]) == self._unshared:
                    return self._all[i]
            plain = np.int16 if self._dtype == "bfloat16" else np.float32
            fresh = np.empty(self._shape, dtype=plain)
            if len(self._all) < self._keep:
                self._all.append(fresh)
            return fresh


class SharedChunks:
    """The most recently used chunks that several batches share. The first thread that needs a chunk
    decodes it; the others wait for it.

    Args:
        capacity: how many chunks are kept.
    """

    def __init__(self, capacity: int):
        self._capacity, self._lock = capacity, threading.Lock()
        self._made: OrderedDict[Hashable, Future[np.ndarray]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The chunk of `key`, made by `make` if it is not kept; an error of `make` is not kept."""
        with self._lock:
            future = self._made.get(key)
            mine = future is None
            if future is None:
                future = self._made[key] = Future()
            self._made.move_to_end(key)
            while len(self._made) > self._capacity:
                self._made.popitem(last=False)
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                with self._lock:
                    self._made.pop(key, None)
                future.set_exception(error)
        return future.result()
