"""Samples are read as they were written, or not at all."""

import zipfile

import numpy as np
import pytest

from scopeworks.evaluate.latents.samples.samples_file import read_samples, write_samples
from scopeworks.evaluate.latents.samples.settings import SampleSettings
from scopeworks.evaluate.latents.samples.twin import with_twin


@pytest.fixture(scope="module")
def both(cached):
    settings = SampleSettings(explain=10, test=10, silent=10)
    return with_twin(cached.sae, cached.store, cached.tokens, [0, 3], settings)


def test_what_is_read_is_what_was_written(both, tmp_path):
    path = tmp_path / "samples.npz"
    write_samples(path, both[0], both[1], {"seed": 0})
    read = read_samples(path, {"seed": 0})
    assert read is not None
    for wrote, found in zip(both, read, strict=True):
        assert found.rows == wrote.rows
        np.testing.assert_array_equal(found.f, wrote.f)
        np.testing.assert_array_equal(found.tokens, wrote.tokens)
        assert found.unigrams.top(1) == wrote.unigrams.top(1)


def test_samples_that_something_else_drew_are_none(both, tmp_path):
    path = tmp_path / "samples.npz"
    assert read_samples(path, {"seed": 0}) is None
    write_samples(path, both[0], both[1], {"seed": 0})
    assert read_samples(path, {"seed": 1}) is None


def test_the_same_samples_are_the_same_bytes(both, tmp_path):
    for name in ("a", "b"):
        write_samples(tmp_path / name, both[0], both[1], {"seed": 0})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("at", [0, 0.5, 0.99])
def test_damage_is_one_line(both, tmp_path, at):
    path = tmp_path / "samples.npz"
    write_samples(path, both[0], both[1], {"seed": 0})
    data = path.read_bytes()
    path.write_bytes(data[: int(at * len(data))])
    with pytest.raises(ValueError, match=r"samples\.npz must be the samples that"):
        read_samples(path, {"seed": 0})


def test_every_changed_bit_is_one_line_or_changes_nothing(both, tmp_path):
    path, rng = tmp_path / "samples.npz", np.random.default_rng(0)
    write_samples(path, both[0], both[1], {"seed": 0})
    data, refused = path.read_bytes(), 0
    for at in rng.integers(len(data), size=300):
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read = read_samples(path, {"seed": 0})
        except ValueError as error:
            assert "samples.npz must be the samples that" in str(error)
            refused += 1
        else:
            assert read is not None
            np.testing.assert_array_equal(read[0].f, both[0].f)
    assert refused > 200


def test_an_unknown_compression_is_one_line(both, tmp_path):
    path = tmp_path / "samples.npz"
    write_samples(path, both[0], both[1], {"seed": 0})
    with zipfile.ZipFile(path) as archive:
        at = archive.infolist()[0].header_offset
        central = archive.start_dir
    data = bytearray(path.read_bytes())
    for start in (at + 8, central + 10):
        data[start] ^= 64
    path.write_bytes(data)
    with pytest.raises(ValueError, match="remove it, and they are drawn again"):
        read_samples(path, {"seed": 0})
