"""Frames of others: what blosc writes is read, what lies about itself is refused before it is
decoded."""

import struct
from itertools import product

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopeworks.store.format.chunks import zstd
from scopeworks.store.format.chunks.codecs import LABELS, PRESETS, STORAGE, Codec, blosc
from scopeworks.store.format.chunks.decoding import decode

VALUES = (np.arange(30_000) // 7 % 251).astype("<u2")
NOISE = np.frombuffer(np.random.default_rng(0).bytes(60_000), "<u2")


def made(values: np.ndarray, cname: str = "zstd", level: int = 1, shuffle: int = 1, block: int = 0):
    content = np.ascontiguousarray(values).view(np.uint8)
    frame = blosc.compress(
        content, cname.encode(), level, shuffle, block, typesize=values.dtype.itemsize
    )
    return np.frombuffer(frame, np.uint8).copy()


def field(frame: np.ndarray, offset: int, value: int) -> np.ndarray:
    """The frame with another int32 at a place."""
    changed = frame.copy()
    changed[offset : offset + 4] = np.frombuffer(struct.pack("<i", value), np.uint8)
    return changed


def byte(frame: np.ndarray, offset: int, value: int) -> np.ndarray:
    changed = frame.copy()
    changed[offset] = value
    return changed


@pytest.mark.parametrize("without_library", [False, True])
@pytest.mark.parametrize(
    ("cname", "level", "shuffle", "block"),
    list(product(["zstd", "lz4"], [0, 1, 5], [0, 1, 2], [0, 300, 8192])),
)
def test_whatever_blosc_makes_is_read(cname, level, shuffle, block, without_library, monkeypatch):
    if without_library:
        monkeypatch.setattr(zstd, "LIBRARY", None)
    for content, size in product((VALUES, NOISE), ("<u2", "<u4", "i1")):
        values = content[:29_996].view(size)
        out = np.empty_like(values)
        decode(made(values, cname, level, shuffle, block), out, cname)
        np.testing.assert_array_equal(out, values)


SPLIT = PRESETS["exact"].encode(VALUES)[:-4].copy()  # one block: its offset is at 16, streams at 20
BLOCKS = made(VALUES, block=8192)  # eight of them, the last is short
STORED = made(NOISE, level=0)


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        (SPLIT[:0], r"must have a header of 16 bytes, got 0"),
        (SPLIT[:15], r"must have a header of 16 bytes, got 15"),
        (SPLIT[:40], r"frame's length must be 40, got"),
        (np.append(SPLIT, SPLIT[:1]), r"frame's length must be"),
        (byte(SPLIT, 0, 3), r"version must be \(2, 1\), got \(3, 1\)"),
        (byte(SPLIT, 1, 2), r"version must be \(2, 1\), got \(2, 2\)"),
        (byte(SPLIT, 2, 1), r"compressor must be 128, got 0"),
        (byte(SPLIT, 2, 0b10000101), r"flags must be known ones, got 0b10000101"),
        (byte(SPLIT, 2, 0b10001001), r"flags must be known ones"),
        (byte(SPLIT, 2, 0b10000011), r"stores \d+ bytes of 60000"),
        (byte(SPLIT, 3, 0), r"bytes per value must be 2, got 0"),
        (byte(SPLIT, 3, 255), r"bytes per value must be 2, got 255"),
        (field(SPLIT, 4, 2**31 - 1), r"holds 2147483647 bytes, expected 60000"),
        (field(SPLIT, 4, -1), r"holds -1 bytes, expected 60000"),
        (field(SPLIT, 8, 0), r"block must be 1 … 60000 bytes of whole values, got 0"),
        (field(SPLIT, 8, -2), r"block must be .* got -2"),
        (field(SPLIT, 8, 60_002), r"block must be .* got 60002"),
        (field(SPLIT, 8, 59_999), r"block must be .* got 59999"),
        (field(SPLIT, 8, 2), r"cannot hold 30000 blocks"),
        (field(SPLIT, 12, 2**31 - 1), r"length must be \d+, got 2147483647"),
        (field(SPLIT, 16, 10**9), r"block 0 must begin at 20, got 1000000000"),
        (field(SPLIT, 16, -4), r"block 0 must begin at 20, got -4"),
        (field(SPLIT, 20, 0), r"must be 1 … 30000 bytes within the frame, got 0"),
        (field(SPLIT, 20, -1), r"must be 1 … 30000 bytes within the frame, got -1"),
        (field(SPLIT, 20, 2**31 - 1), r"within the frame, got 2147483647"),
        (field(BLOCKS, 20, 48), r"block 1 must begin at \d+, got 48"),
        (field(BLOCKS, 44, 0), r"block 7 must begin at 48, got 0"),
        (field(STORED, 12, 2**31 - 1), r"length must be 60016"),
        (field(STORED[:24], 12, 24), r"stores 8 bytes of 60000"),
    ],
)
def test_a_frame_that_lies_is_refused(frame, named):
    with pytest.raises(ValueError, match=named):
        decode(frame, np.empty_like(VALUES), "zstd")


def test_a_lying_frame_with_a_sound_crc32c_is_no_chunk():
    """The two chunks that were reported: one ended the process, one gave what was behind it."""
    for frame in (field(field(SPLIT, 12, 2**31 - 1), 16, 10**9), field(STORED, 12, 60_016)[:20]):
        crc = google_crc32c.value(frame).to_bytes(4, "little")
        with pytest.raises(ValueError, match=r"frame's length must be"):
            PRESETS["exact"].decode(
                np.append(frame, np.frombuffer(crc, np.uint8)), np.empty_like(VALUES)
            )


def test_blocks_may_stand_in_any_order():
    """Blosc's threads write them as they finish."""
    starts = BLOCKS[16:48].view("<i4")
    order = [3, 0, 7, 1, 2, 6, 5, 4]
    ends = np.append(starts[1:], len(BLOCKS))
    pieces, places, at = [], np.empty(8, "<i4"), 48
    for block in order:
        places[block] = at
        pieces.append(BLOCKS[starts[block] : ends[block]])
        at += len(pieces[-1])
    shuffled = np.concatenate([BLOCKS[:16], places.view(np.uint8), *pieces])
    out = np.empty_like(VALUES)
    decode(shuffled, out, "zstd")
    np.testing.assert_array_equal(out, VALUES)


def test_a_stream_that_holds_too_little_or_too_much_is_refused():
    assert zstd.LIBRARY is not None
    for count in (29_999, 30_001):
        stream = np.empty(1000, np.uint8)
        stream = stream[: zstd.LIBRARY.compress(np.zeros(count, np.uint8), stream)]
        length = np.array([len(stream)], "<i4").view(np.uint8)
        frame = np.concatenate([SPLIT[:20], length, stream, length, stream])
        with pytest.raises(ValueError, match=r"holds 29999 bytes|zstd refused: Dest"):
            decode(field(frame, 12, len(frame)), np.empty_like(VALUES), "zstd")


@pytest.mark.parametrize("codec", [*PRESETS.values(), LABELS], ids=[*PRESETS, "labels"])
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_bytes_under_a_repaired_crc32c_decode_or_are_refused(codec: Codec, data):
    values = np.frombuffer(VALUES.tobytes()[:40_000], STORAGE[codec.dtype])
    frame = codec.encode(values)[:-4].copy()
    places = st.integers(0, 60) | st.integers(0, len(frame) - 1)
    for place in data.draw(st.lists(places, max_size=4)):
        frame[place] = data.draw(st.integers(0, 255))
    frame = frame[: data.draw(st.just(len(frame)) | st.integers(0, len(frame)))]
    crc = google_crc32c.value(frame).to_bytes(4, "little")
    try:
        codec.decode(np.append(frame, np.frombuffer(crc, np.uint8)), np.empty_like(values))
    except ValueError as error:
        assert "\n" not in str(error)
