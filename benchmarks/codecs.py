"""Bits per value and speed of every codec on a chunk of activations.

    python benchmarks/codecs.py

One thread; a chunk of 256 rows of width 2,304 as in `store.py`: normal values with log-normal
channel scales, rounded to bfloat16 (the entropy of such values, taken one by one, is 10.9 bits).
Speeds are the best of many repeats, in GB of uncompressed values a second. Results go to
benchmarks/results/codecs.csv.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from recording import record, surroundings
from store_systems import rows_of

from scopeworks.store.format.chunks.codecs import PRESETS, Codec, blosc

ROWS, WIDTH = 256, 2304
OTHERS = {
    "zstd 1, byte shuffle, blosc's own block": Codec("bfloat16", "zstd", 1),
    "zstd 1, byte shuffle, 512 KiB": Codec("bfloat16", "zstd", 1, blocksize=2**19),
    "zstd 1, bit shuffle, 512 KiB": Codec("bfloat16", "zstd", 1, blosc.BITSHUFFLE, 2**19),
    "zstd 3, byte shuffle, 512 KiB": Codec("bfloat16", "zstd", 3, blocksize=2**19),
    "lz4 5, bit shuffle, 64 KiB": Codec("bfloat16", "lz4", 5, blosc.BITSHUFFLE, 2**16),
    "lz4 9, byte shuffle, 256 KiB": Codec("bfloat16", "lz4", 9, blocksize=2**18),
}


def best(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of the calls that fit into about that time."""
    found, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        work()
        found = min(found, time.perf_counter() - started)
    return found


def chunk(dtype: str) -> np.ndarray:
    """The chunk in a storage dtype; int8 with one scale per channel, as in a store."""
    rows = next(rows_of(ROWS, WIDTH, torch.float32))[1][:ROWS]
    if dtype == "float32":
        return rows.numpy()
    if dtype == "int8":
        return (rows / rows.abs().amax(0) * 127).round().to(torch.int8).numpy()
    return rows.bfloat16().view(torch.int16).numpy().view("<u2")


def measured(codec: Codec, seconds: float) -> dict[str, float]:
    """Bits per value and both speeds."""
    values = np.ascontiguousarray(chunk(codec.dtype))
    encoded, out = codec.encode(values), np.empty_like(values)
    codec.decode(encoded, out)
    assert (out == values).all()
    gb = values.nbytes / 1e9
    return {
        "bits_per_value": round(8 * len(encoded) / values.size, 2),
        "encode_gb_per_s": round(gb / best(lambda: codec.encode(values), seconds), 2),
        "decode_gb_per_s": round(gb / best(lambda: codec.decode(encoded, out), seconds), 2),
    }


def main() -> None:
    """Measures every codec and records a row for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    for name, codec in {**OTHERS, **PRESETS}.items():
        row = {"codec": name, **measured(codec, seconds)}
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        record("codecs", row | surroundings("cpu", ("numcodecs", "numpy", "numba")))


if __name__ == "__main__":
    main()
