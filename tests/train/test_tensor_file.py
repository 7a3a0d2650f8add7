"""safetensors one tensor at a time: the library reads what is written here, and the other way."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from scopeworks.store.local import LocalFiles
from scopeworks.train import tensor_file
from scopeworks.train.tensor_file import file_parts, read_metadata, read_tensors


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    """Every kind a checkpoint has: a transposed one, a scalar, an empty one, several dtypes."""
    generator = torch.Generator().manual_seed(0)
    return {
        "b": torch.randn(3, 5, generator=generator),
        "a": torch.randn(5, 3, generator=generator).t(),
        "n": torch.tensor(7, dtype=torch.int64),
        "density": torch.tensor(0.5, dtype=torch.float64),
        "half": torch.randn(3, generator=generator).bfloat16(),
        "none": torch.empty(0, 4),
    }


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Whether names, dtypes and values agree."""
    return left.keys() == right.keys() and all(
        t.dtype == right[name].dtype and torch.equal(t, right[name]) for name, t in left.items()
    )


def test_the_library_reads_what_is_written(tmp_path: Path, tensors: dict[str, Tensor]):
    LocalFiles(tmp_path).write("f", file_parts(tensors, {"key": "välue"}))
    assert same(safetensors.torch.load_file(tmp_path / "f"), tensors)
    with safetensors.safe_open(tmp_path / "f", "pt") as file:
        assert file.metadata() == {"key": "välue"}


@pytest.mark.parametrize("block_bytes", [7, 1 << 26])
def test_what_the_library_writes_is_read(
    tmp_path: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, block_bytes: int
):
    monkeypatch.setattr(tensor_file, "_BLOCK_BYTES", block_bytes)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(contiguous, tmp_path / "f", {"key": "value"})
    metadata, found = read_tensors(LocalFiles(tmp_path), "f")
    assert metadata == read_metadata(LocalFiles(tmp_path), "f") == {"key": "value"}
    assert same(found, tensors)


def test_contiguous_tensors_are_not_copied(tensors: dict[str, Tensor]):
    tensors["b"][0, 0] = 1.0
    parts = list(file_parts({"b": tensors["b"]}))
    tensors["b"][0, 0] = 2.0
    assert torch.frombuffer(bytearray(parts[1]), dtype=torch.float32)[0] == 2.0


@pytest.mark.parametrize("size", [0, 5, 8, 40, -1])
def test_cut_off_file_is_an_error(tmp_path: Path, tensors: dict[str, Tensor], size: int):
    data = b"".join(file_parts(tensors))
    (tmp_path / "f").write_bytes(data[:size])
    with pytest.raises(ValueError, match=r"its header must lie|its tensors must end"):
        read_tensors(LocalFiles(tmp_path), "f")


def test_header_that_contradicts_itself_is_an_error(tmp_path: Path):
    data = b"".join(file_parts({"a": torch.zeros(4)}))
    (tmp_path / "f").write_bytes(data.replace(b'"shape":[4]', b'"shape":[9]'))
    with pytest.raises(ValueError, match=r"a of shape \[9\] must not take 16 bytes"):
        read_tensors(LocalFiles(tmp_path), "f")
