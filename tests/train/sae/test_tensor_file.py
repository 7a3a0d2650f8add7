"""safetensors one tensor at a time: the library reads what is written here, and the other way."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from scopeworks.store.place.local import LocalFiles
from scopeworks.train.sae import tensor_file
from scopeworks.train.sae.tensor_file import file_parts, read_metadata, read_tensors, stand_ins


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


def file_with_header(path: Path, header: object, n_bytes: int = 16) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(n_bytes))


def entry(shape: object, start: object, stop: object, dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


HEADERS = {
    "no object": ([1], "its header must be a JSON object"),
    "no JSON": (b"{", "its header is not valid JSON"),
    "no UTF-8": (b'{"a\xff": 1}', "its header is not valid JSON"),
    "a name twice": (b'{"a": 1, "a": 2}', "key 'a' is given twice"),
    "deep": (b"[" * 100_000, "its header is not valid JSON: it is nested too deeply"),
    "10^30 of nothing": ({"a": entry([0, 10**30], 0, 0)}, r"shape\.1: "),
    "Infinity": (b'{"a": Infinity}', "Infinity is no JSON number"),
    "entry": ({"a": 3}, "its header does not hold what it must: tensors.a"),
    "metadata": ({"__metadata__": {"a": 1}}, "its header does not hold what it must: metadata.a: "),
    "dtype": ({"a": entry([4], 0, 16, "F8_E4M3")}, "dtype: .*got 'F8_E4M3'"),
    "negative": ({"a": entry([-4], 0, 16)}, r"shape\.0: .*got -4"),
    "10^18": ({"a": entry([10**18], 0, 4 * 10**18)}, r"shape\.0: .*got 10{18}"),
    "products": ({"a": entry([2**40, 2**40], 0, 16)}, r"must not take 16 bytes"),
    "bool": ({"a": entry([True], 0, 4)}, r"shape\.0: .*got True"),
    "float": ({"a": entry([4], 0.0, 16)}, r"data_offsets\.0: .*got 0\.0"),
    "dimensions": ({"a": entry([1] * 1000, 0, 4)}, "shape: .*at most 8"),
    "behind the end": ({"a": entry([8], 0, 32)}, "its tensors must end with its"),
    "reversed": ({"a": entry([4], 16, 0)}, "must not take -16 bytes"),
    "overlap": (
        {"a": entry([4], 0, 16), "b": entry([2], 8, 16)},
        "b must begin where the tensor before it ends, at byte 16",
    ),
    "hole": ({"a": entry([3], 4, 16)}, "a must begin where the tensor before it ends, at byte 0"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_header_that_lies_is_an_error(tmp_path: Path, case: str):
    header, text = HEADERS[case]
    file_with_header(tmp_path / "f", header)
    for read in (read_tensors, read_metadata, stand_ins):
        with pytest.raises(ValueError, match=text) as caught:
            read(LocalFiles(tmp_path), "f")
        assert "\n" not in str(caught.value)


def test_huge_header_is_not_read(tmp_path: Path):
    with (tmp_path / "f").open("wb") as file:
        file.write((1 << 33).to_bytes(8, "little"))
        file.truncate(1 << 34)
    with pytest.raises(ValueError, match="its header must lie within its 17179869184 bytes"):
        read_tensors(LocalFiles(tmp_path), "f")


def test_stand_ins_have_shapes_and_no_memory(tmp_path: Path, tensors: dict[str, Tensor]):
    LocalFiles(tmp_path).write("f", file_parts(tensors))
    found = stand_ins(LocalFiles(tmp_path), "f")
    assert {name: (t.shape, t.dtype) for name, t in found.items()} == {
        name: (t.shape, t.dtype) for name, t in tensors.items()
    }
    assert all(t.is_meta for t in found.values())


def test_only_the_named_tensors_are_read(tmp_path: Path, tensors: dict[str, Tensor]):
    LocalFiles(tmp_path).write("f", file_parts(tensors))
    _, found = read_tensors(LocalFiles(tmp_path), "f", names=["n", "b"])
    assert same(found, {name: tensors[name] for name in ("b", "n")})
