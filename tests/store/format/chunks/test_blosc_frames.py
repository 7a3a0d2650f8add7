"""Frames made by hand are frames to every blosc, and small."""

import concurrent.futures

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopeworks.store.format.chunks import blosc_frames as frames
from scopeworks.store.format.chunks import zstd
from scopeworks.store.format.chunks.codecs import PRESETS, STORAGE, blosc


def compressed(values: np.ndarray) -> np.ndarray | None:
    out = np.empty(frames.max_encoded_bytes(values.size, values.itemsize), np.uint8)
    end = frames.compress(values, out)
    return None if end is None else out[:end]


def decoded(frame: np.ndarray, like: np.ndarray) -> np.ndarray:
    out = np.empty_like(like)
    blosc.decompress(frame, out.reshape(-1).view(np.uint8))
    return out


def normal(count: int, dtype: str) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    if dtype == "<u2":
        return values.astype(ml_dtypes.bfloat16).view(np.uint16)
    return values if dtype == "<f4" else (30 * values).clip(-127, 127).astype(np.int8)


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 9000) | st.sampled_from([2**20 + 4, 3 * 2**20, 2**20 + 7]),
    dtype=st.sampled_from(["<u2", "<f4", "i1"]),
    kind=st.sampled_from(["normal", "zeros", "noise", "steps"]),
)
def test_any_blosc_reads_them(count: int, dtype: str, kind: str):
    values = {
        "normal": lambda: normal(count, dtype),
        "zeros": lambda: np.zeros(count, dtype),
        "noise": lambda: np.frombuffer(np.random.default_rng(1).bytes(4 * count), dtype)[:count],
        "steps": lambda: (np.arange(count) // 100).astype(dtype),
    }[kind]()
    frame = compressed(values)
    if frame is None:
        assert count < 1024 or kind == "noise"
        return
    np.testing.assert_array_equal(
        decoded(frame, values).view(np.uint8), np.ascontiguousarray(values).view(np.uint8)
    )


def test_smaller_than_the_search_for_matches_makes_them():
    values = normal(256 * 2304, "<u2")
    frame = compressed(values)
    assert frame is not None
    stock = blosc.compress(values.view(np.uint8), b"zstd", 1, blosc.SHUFFLE, 2**19, typesize=2)
    assert len(frame) < 0.985 * len(stock)
    assert 8 * len(frame) / values.size < 10.9


def test_threads_make_the_same_bytes():
    values = normal(256 * 576, "<u2")
    alone = PRESETS["exact"].encode(values)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for encoded in pool.map(PRESETS["exact"].encode, [values] * 32):
            np.testing.assert_array_equal(encoded, alone)


@pytest.mark.parametrize("codec", list(PRESETS))
@pytest.mark.parametrize("kind", ["normal", "noise"])
def test_room_used_again_holds_every_chunk(codec: str, kind: str):
    preset = PRESETS[codec]
    dtype = STORAGE[preset.dtype].str
    noise = np.frombuffer(np.random.default_rng(1).bytes(4 * 200_000), dtype)[:200_000]
    values = noise if kind == "noise" else normal(200_000, dtype)
    out = np.full(preset.max_encoded_bytes(values.nbytes), 255, np.uint8)
    for part in (values, values[:70_000], values[:1], values):
        encoded = preset.encode(part, out)
        assert encoded.base is out
        np.testing.assert_array_equal(encoded, preset.encode(part))
        back = np.empty_like(part)
        preset.decode(encoded, back)
        np.testing.assert_array_equal(back, part)


def test_without_the_library_blosc_makes_the_frame(monkeypatch: pytest.MonkeyPatch):
    values = normal(5000, "<u2")
    monkeypatch.setattr(zstd, "LIBRARY", None)
    assert compressed(values) is None
    out = np.empty_like(values)
    PRESETS["exact"].decode(PRESETS["exact"].encode(values), out)
    np.testing.assert_array_equal(out, values)


def test_a_numcodecs_without_the_symbols_is_no_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zstd, "import_module", lambda _name: np)
    assert zstd.found() is None
