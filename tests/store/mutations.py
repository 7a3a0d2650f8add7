"""Shards that were damaged on purpose, and what reader and `verify` make of them.

Case n of a seed is always the same: a shard of three chunks, of which one, or the index, is
changed; its checksums are then left wrong or made again. Used by tests/store/test_mutations.py and,
at length, by benchmarks/mutations.py.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

import google_crc32c
import ml_dtypes
import numpy as np

from scopeworks.store import DamagedStoreError, StoreSpec
from scopeworks.store.format.arrays import ArrayLayout, ShardRecord
from scopeworks.store.format.chunks.codecs import LABELS, PRESETS, Codec, blosc
from scopeworks.store.format.chunks.shard_index import encode_index
from scopeworks.store.format.commits import Commit
from scopeworks.store.format.sums import Summation
from scopeworks.store.place.local import LocalFiles
from scopeworks.store.read.array_reader import ArrayReader
from scopeworks.store.tools.shard_check import check_array
from scopeworks.tests.store.tampering import with_crc

CHUNKS, CHUNK, ROWS, WIDTH = 3, 1024, 3000, 3
"""Chunks of so many rows; the last is not full. Frames of fewer values are not made by us."""

SPEC = StoreSpec(
    sites={"x": WIDTH},
    rows=ROWS,
    bucket_rows=CHUNKS * CHUNK,
    chunk_rows=CHUNK,
    shard_rows=3 * CHUNK,
)

STOCK: dict[str, tuple[Codec, tuple[str, int, int, int] | None]] = {
    **{name: (codec, None) for name, codec in PRESETS.items()},
    "labels": (LABELS, None),
    "exact, many blocks": (PRESETS["exact"], ("zstd", 1, blosc.SHUFFLE, 512)),
    "exact, bit planes": (PRESETS["exact"], ("zstd", 1, blosc.BITSHUFFLE, 1024)),
    "fast, lz4": (PRESETS["fast"], ("lz4", 5, blosc.BITSHUFFLE, 1024)),
}
"""Kinds of chunks: the codec, and blosc's settings where blosc makes the frame."""

REFUSED, RIGHT = "refused", "right numbers"
BY_SUMS, BY_CHECKSUM = "other, found by shard's crc32c and sums", "other, found by shard's crc32c"
SILENT = "other, NOT FOUND"


@dataclass(frozen=True)
class Sound:
    """A shard as it was written."""

    layout: ArrayLayout
    values: np.ndarray
    frames: list[bytes]
    commit: Commit


class OneObject(LocalFiles):
    """A location that holds one object in memory, whatever its key."""

    def __init__(self, data: bytes):
        super().__init__(Path("memory"))
        self._data = data

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Location.read`."""
        assert start >= 0
        return self._data[start:stop]

    def read_into(self, key: str, start: int, out: np.ndarray) -> int:
        """See `Location.read_into`."""
        found = self.read(key, start, start + len(out))
        out[: len(found)] = np.frombuffer(found, np.uint8)
        return len(found)

    def size(self, key: str) -> int:
        """See `Location.size`."""
        return len(self._data)


@cache
def sound(kind: str) -> Sound:
    """The shard of a kind: a chunk of normal values, one of steps, one that hardly compresses."""
    codec, settings = STOCK[kind]
    is_label = codec is LABELS
    path, width = ("labels/token", None) if is_label else ("sites/x", WIDTH)
    layout = ArrayLayout(path, ROWS, width, CHUNK, CHUNKS * CHUNK, codec)
    values = layout.empty(CHUNKS * CHUNK)
    values[:CHUNK] = _as_stored(np.random.default_rng(0).standard_normal((CHUNK, WIDTH)), layout)
    values[CHUNK : 2 * CHUNK] = _as_stored(np.arange(3 * CHUNK).reshape(-1, 3) // 300 / 8, layout)
    values[2 * CHUNK :] = _as_stored(np.random.default_rng(1).uniform(-1, 1, (CHUNK, 3)), layout)
    values[ROWS:] = 0
    frames = [
        bytes(codec.encode(chunk)[:-4]) if settings is None else _by_blosc(chunk, *settings)
        for chunk in values.reshape(CHUNKS, CHUNK, *values.shape[1:])
    ]
    tally = None
    if not is_label:
        scale = np.full(WIDTH, 0.25, np.float32) if codec.dtype == "int8" else None
        tally = Summation(WIDTH, codec.dtype, scale)
        for start in range(0, ROWS, CHUNK):
            tally.add(tally.of(values[start : min(start + CHUNK, ROWS)]))
    record = _record(_object(frames))
    commit = Commit(0, ROWS, {} if tally is None else {"x": tally.result()}, {path: [record]})
    return Sound(layout, values[:ROWS], frames, commit)


def outcome(seed: int, case: int) -> tuple[str, str]:
    """Makes a case and judges it: kind of chunk and what came of it.

    Any error but DamagedStoreError comes out of here.
    """
    random = Random(f"{seed}/{case}")
    kind = list(STOCK)[case % len(STOCK)]
    shard = sound(kind)
    data = damaged(shard, random)
    place = OneObject(data)
    record = _record(data)
    reader = ArrayReader(place, shard.layout, lambda _shard: record.n_bytes)
    # As committed, and as somebody would commit it who has made all checksums again.
    first, again = (
        check_array(place, SPEC, shard.layout, commit, lambda _bytes: None)
        for commit in (
            shard.commit,
            replace(shard.commit, shards={shard.layout.path: [record]}),
        )
    )
    try:
        values = reader.read_rows(0, ROWS)
    except DamagedStoreError:
        return kind, REFUSED if first and again else SILENT
    if values.tobytes() == shard.values.tobytes():
        return kind, RIGHT
    if not first:
        return kind, SILENT
    return kind, BY_SUMS if again else BY_CHECKSUM


def damaged(shard: Sound, random: Random) -> bytes:
    """The shard's object after a change."""
    if random.random() < 0.15:
        return _with_damaged_index(shard, random)
    frames = list(shard.frames)
    if random.random() < 0.05:
        first, second = random.sample(range(CHUNKS), 2)
        frames[first], frames[second] = frames[second], frames[first]
        return _object(frames)
    number = random.randrange(CHUNKS)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        frames[number] = random.choice(CHANGES)(frames[number], shard, random)
    if random.random() < 0.8:
        return _object(frames)
    changed = list(map(with_crc, frames))
    changed[number] = changed[number][:-4] + with_crc(shard.frames[number])[-4:]
    return b"".join(changed) + encode_index(list(map(len, changed)), CHUNKS)


def _flip(frame: bytes, _shard: Sound, random: Random) -> bytes:
    """A few bits, most often near the header."""
    changed = bytearray(frame)
    for _ in range(random.choice((1, 1, 2, 8))):
        if changed:
            limit = random.choice((24, 64, len(changed)))
            changed[random.randrange(min(limit, len(changed)))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _set_field(frame: bytes, shard: Sound, random: Random) -> bytes:
    """One of the integers of header, offsets or streams becomes an edge value."""
    n_bytes, length = shard.layout.chunk_bytes, len(frame)
    edges = [0, 1, 2, 4, 15, 16, 17, 20, 24, 10**9, 2**30, 2**31 - 1, -1, -2, -16, -(2**31)]
    edges += [n + by for n in (n_bytes, length, n_bytes + 16) for by in (-1, 0, 1, 4)]
    places = [4, 8, 12, 16, 20, 24]
    places += list(range(28, min(length, 28 + 4 * 12), 4))
    if length > 20:  # a stream's length, where an offset says it is
        places += [start for (start,) in struct.iter_unpack("<i", frame[16 : length // 4 * 4][:48])]
    place = random.choice(places)
    if not 0 <= place <= length - 4:
        return frame
    return frame[:place] + struct.pack("<i", random.choice(edges)) + frame[place + 4 :]


def _set_byte(frame: bytes, _shard: Sound, random: Random) -> bytes:
    """Version, compressor's version, flags or bytes per value."""
    place = random.randrange(4)
    return frame[:place] + bytes([random.randrange(256)]) + frame[place + 1 :]


def _cut(frame: bytes, _shard: Sound, random: Random) -> bytes:
    """Shorter; often so that the header agrees."""
    frame = frame[: random.choice((0, 8, 16, 20, 24, random.randrange(len(frame) + 1)))]
    return _told(frame) if random.random() < 0.5 else frame


def _extend(frame: bytes, _shard: Sound, random: Random) -> bytes:
    """Longer; often so that the header agrees."""
    frame += random.randbytes(random.choice((1, 4, 16, 1000)))
    return _told(frame) if random.random() < 0.5 else frame


def _splice(frame: bytes, shard: Sound, random: Random) -> bytes:
    """A piece of another frame in the place of this one's."""
    other = random.choice(shard.frames)
    start = random.randrange(len(frame) + 1)
    piece = other[start : start + random.choice((1, 4, 16, 256))]
    return frame[:start] + piece + frame[start + len(piece) :]


def _stored(_frame: bytes, shard: Sound, random: Random) -> bytes:
    """A frame that stores bytes as they are: as many as it says, or not."""
    codec, n_bytes = shard.layout.codec, shard.layout.chunk_bytes
    flags = (4 if codec.cname == "zstd" else 1) << 5 | 2
    length = random.choice((24, n_bytes + 16, n_bytes + 15, n_bytes))
    said = random.choice((n_bytes + 16, length))
    header = struct.pack("<BBBBiii", 2, 1, flags, codec.itemsize, n_bytes, n_bytes, said)
    return header + shard.frames[0][:1] * (length - 16)


CHANGES: list[Callable[[bytes, Sound, Random], bytes]] = [
    _flip,
    _flip,
    _set_field,
    _set_field,
    _set_field,
    _set_byte,
    _cut,
    _extend,
    _splice,
    _stored,
]


def _with_damaged_index(shard: Sound, random: Random) -> bytes:
    """The shard's chunks with another index behind them, its crc32c wrong or right."""
    chunks = list(map(with_crc, shard.frames))
    lengths = list(map(len, chunks))
    index = np.frombuffer(encode_index(lengths, CHUNKS)[:-4], "<u8").copy()
    edges = [0, 1, 20, 2**31, 2**62, 2**63, 2**64 - 1, sum(lengths), *index.tolist()]
    for _ in range(random.choice((1, 1, 2, 3))):
        index[random.randrange(len(index))] = random.choice(edges)
    tail = index.tobytes() if random.random() < 0.9 else random.randbytes(random.randrange(60))
    return b"".join(chunks) + (with_crc(tail) if random.random() < 0.8 else tail + bytes(4))


def _told(frame: bytes) -> bytes:
    """The frame with its own length in its header."""
    if len(frame) < 16:
        return frame
    return frame[:12] + struct.pack("<i", len(frame)) + frame[16:]


def _as_stored(values: np.ndarray, layout: ArrayLayout) -> np.ndarray:
    """float64 [rows, 3] as an array of the layout holds them."""
    if layout.width is None:
        return (np.abs(values[:, 0]) * 1000).astype(np.uint32)
    if layout.codec.dtype == "int8":
        return np.clip(values * 100, -127, 127).astype(np.int8)
    values = values.astype(np.float32)
    is_bfloat16 = layout.codec.dtype == "bfloat16"
    return values.astype(ml_dtypes.bfloat16).view(np.uint16) if is_bfloat16 else values


def _by_blosc(chunk: np.ndarray, cname: str, level: int, shuffle: int, block: int) -> bytes:
    content = chunk.reshape(-1).view(np.uint8)
    return blosc.compress(content, cname.encode(), level, shuffle, block, typesize=chunk.itemsize)


def _object(frames: list[bytes]) -> bytes:
    """A shard of these frames with all its checksums."""
    chunks = list(map(with_crc, frames))
    return b"".join(chunks) + encode_index(list(map(len, chunks)), CHUNKS)


def _record(data: bytes) -> ShardRecord:
    """What a commit says of an object with these bytes; nonsense where its index is."""
    tail = data[-(16 * CHUNKS + 4) : -4]
    places = np.frombuffer(tail[: len(tail) // 16 * 16], "<i8").reshape(-1, 2)
    crc = 0
    for start, length in places.tolist():
        crc = google_crc32c.extend(crc, data[start : start + length][-4:] if start >= 0 else b"")
    return ShardRecord(0, len(data), google_crc32c.extend(crc, tail))
