"""Changes a chunk of a store and makes its checksums again, as somebody might who means harm."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np

from scopeworks.store.format.arrays import ArrayLayout, ShardRecord
from scopeworks.store.format.chunks.shard_index import decode_index, encode_index
from scopeworks.store.format.commits import read_commit, write_commit
from scopeworks.store.place.locate import locate
from scopeworks.tests.store.making import Made


def with_crc(data: bytes) -> bytes:
    """Bytes and their crc32c."""
    return data + google_crc32c.value(data).to_bytes(4, "little")


def layout_of(made: Made, path: str) -> ArrayLayout:
    """Layout of an array of the store."""
    layouts = made.spec.site_layouts() | made.spec.label_layouts()
    return layouts[path.rpartition("/")[2]]


def change_shard(
    made: Made,
    path: str,
    shard: int,
    change: Callable[[list[bytes]], None],
    in_commit: bool = True,
) -> None:
    """Lets `change` alter a shard's frames (without crc32c), and writes it with sound checksums; if
    wanted, in the commit record too."""
    layout = layout_of(made, path)
    file = Path(made.url, layout.shard_key(shard))
    data = file.read_bytes()
    index = decode_index(data[-layout.index_bytes :], len(data), layout.max_chunk_bytes)
    frames = [data[start : start + length - 4] for start, length in index.tolist()]
    change(frames)
    chunks = [with_crc(frame) for frame in frames]
    tail = encode_index([len(chunk) for chunk in chunks], layout.shard_chunks)
    write_object(made, path, shard, b"".join(chunks) + tail, in_commit)


def write_object(made: Made, path: str, shard: int, data: bytes, in_commit: bool = True) -> None:
    """Writes a shard's object, and its size and checksum into the commit record if wanted."""
    layout = layout_of(made, path)
    Path(made.url, layout.shard_key(shard)).write_bytes(data)
    if not in_commit:
        return
    tail, crc = data[-layout.index_bytes : -4], 0
    places = np.frombuffer(tail[: len(tail) // 16 * 16], "<i8").reshape(-1, 2)
    for start, length in places.tolist():
        crc = google_crc32c.extend(crc, data[start : start + length][-4:] if start >= 0 else b"")
    record = ShardRecord(shard, len(data), google_crc32c.extend(crc, tail))
    location, bucket = locate(made.url), shard * layout.shard_rows // made.spec.bucket_rows
    commit = read_commit(location, bucket, made.spec)
    shards = [record if old.shard == shard else old for old in commit.shards[path]]
    write_commit(location, replace(commit, shards=commit.shards | {path: shards}))
