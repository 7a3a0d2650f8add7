"""Chunks whose checksums were made again: the reader refuses what is no chunk, `verify` finds what
is another."""

import struct

import numpy as np
import pytest

from scopeworks.store import ActivationStore, DamagedStoreError
from scopeworks.store.format.chunks.codecs import PRESETS
from scopeworks.store.format.chunks.shard_index import MISSING
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.store.making import CHUNK, make_store
from scopeworks.tests.store.tampering import change_shard, layout_of, with_crc, write_object

SITE = "resid_post.1"
PATH = f"sites/{SITE}"


def set_field(offset: int, value: int, inner: int = 1):
    def change(frames: list[bytes]) -> None:
        frame = frames[inner]
        frames[inner] = frame[:offset] + struct.pack("<i", value) + frame[offset + 4 :]

    return change


def cut(frames: list[bytes]) -> None:
    """The header of a frame that holds the bytes as they are, and eight of them."""
    frames[1] = struct.pack("<BBBBiii", 2, 1, 0x82, 2, 1536, 1536, 1552) + b"12345678"


@pytest.mark.parametrize(
    "change",
    [set_field(12, 2**31 - 1), set_field(16, 10**9), set_field(4, 2**30), set_field(8, 7), cut],
)
@pytest.mark.parametrize("in_commit", [False, True])
def test_a_chunk_that_lies_is_named_by_verify_and_refused_by_readers(fresh, change, in_commit):
    change_shard(fresh, PATH, 4, change, in_commit)
    named = rf"{SITE}: shard 4 \(.*/{PATH}/c/4/0\): chunk 1 is damaged: (its|it holds)"
    if in_commit:
        with pytest.raises(DamagedStoreError, match=named):
            ActivationStore.open(fresh.url).read(SITE, 4 * 64, 5 * 64)
        assert [problem for problem in verify_store(fresh.url).problems if "chunk 1" in problem]
    report = verify_store(fresh.url)
    assert len(report.problems) == 1
    assert report.problems[0].startswith(f"{SITE}: shard 4 (")
    assert report.damaged == {1}


@pytest.mark.parametrize("codec", list(PRESETS))
def test_a_sound_chunk_of_other_values_is_found_by_the_sums(tmp_path, codec):
    made = make_store(tmp_path / "acts", codec=codec)
    layout = layout_of(made, PATH)

    def change(frames: list[bytes]) -> None:
        values = layout.empty(CHUNK)
        layout.codec.decode(np.frombuffer(with_crc(frames[0]), np.uint8), values)
        values.view(np.uint8)[3, 4] ^= 1
        frames[0] = layout.codec.encode(values)[:-4].tobytes()

    change_shard(made, PATH, 4, change, in_commit=False)
    (problem,) = verify_store(made.url).problems
    assert "it is another shard" in problem or "committed are" in problem
    change_shard(made, PATH, 4, lambda _frames: None)
    report = verify_store(made.url)
    assert report.problems == [
        f"{SITE}: bucket 1: its rows do not add up to the sums in its commit record"
    ]
    assert report.damaged == {1}


def test_a_value_that_is_not_finite_is_reported(fresh):
    layout = layout_of(fresh, PATH)

    def change(frames: list[bytes]) -> None:
        values = layout.empty(CHUNK)
        layout.codec.decode(np.frombuffer(with_crc(frames[0]), np.uint8), values)
        values[3, 4] = 0x7FC0
        frames[0] = layout.codec.encode(values)[:-4].tobytes()

    change_shard(fresh, PATH, 4, change)
    assert verify_store(fresh.url).problems == [f"{SITE}: bucket 1: a value is not finite"]


def test_chunks_that_changed_places_are_found_by_the_checksum_of_the_shard(fresh):
    change_shard(fresh, PATH, 4, lambda frames: frames.reverse(), in_commit=False)
    problems = verify_store(fresh.url).problems
    assert any(problem.startswith(f"{SITE}: shard 4 (") for problem in problems)


INDICES = {
    "behind the end": [(0, 100), (10**9, 100)],
    "negative": [(0, 100), (2**64 - 5, 100)],
    "longer than a chunk": [(0, 2**62), (2**62, 100)],
    "the same twice": [(0, 100), (0, 100)],
    "a gap": [(0, 100), (101, 99)],
    "the first missing": [(MISSING, MISSING), (0, 200)],
    "half missing": [(0, 200), (MISSING, 0)],
    "nothing": [(MISSING, MISSING), (MISSING, MISSING)],
    "out of order": [(100, 100), (0, 100)],
    "not to the end": [(0, 100), (100, 50)],
}


@pytest.mark.parametrize("places", INDICES.values(), ids=INDICES)
def test_an_index_that_lies_is_refused(fresh, places):
    index = np.array(places, dtype="<u8").tobytes()
    write_object(fresh, PATH, 4, bytes(200) + with_crc(index), in_commit=True)
    named = rf"{SITE}: shard 4 \(.*\): (the index is damaged|chunk 0 is not in its index|it has 0)"
    with pytest.raises(DamagedStoreError, match=named):
        ActivationStore.open(fresh.url).read(SITE, 4 * 64, 5 * 64)
    (problem,) = verify_store(fresh.url).problems
    assert problem.startswith(f"{SITE}: shard 4 (")


@pytest.mark.parametrize("n_bytes", [0, 3, 20, 35])
def test_an_object_too_short_for_its_index_is_refused(fresh, n_bytes):
    write_object(fresh, PATH, 4, bytes(n_bytes), in_commit=True)
    named = (
        rf"^commit of bucket 1: shard 4 of sites/{SITE} must have 36 to .* got {n_bytes} \(in .*\)$"
    )
    with pytest.raises(DamagedStoreError, match=named):
        ActivationStore.open(fresh.url)
    (problem,) = verify_store(fresh.url).problems
    assert problem.startswith("commit of bucket 1: shard 4")
