"""The C library's heap while a model runs on a CPU.

glibc gives the larger temporaries of a forward pass back to the system as soon as they are freed,
or does not, as earlier allocations have left its thresholds; every page then faults again in the
next layer. On two cores that cost a forward pass anything from nothing to a half of its time.
"""

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT, _LARGEST = 2**30, 2**28


@cache
def keep_freed_memory() -> bool:
    """Lets this process keep up to 1 GiB of freed memory, in pieces of up to 256 MiB, for what is
    allocated next; whether that can be asked for here (glibc only). Once a process."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    found = [mallopt(_M_MMAP_THRESHOLD, _LARGEST), mallopt(_M_TRIM_THRESHOLD, _KEPT)]
    return found == [1, 1]
