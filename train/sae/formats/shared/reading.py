"""What the readers share: JSON documents, tensor files, and the checks of one against the other.

Names and shapes are checked against what is declared before a number is read, so that a wrong file
costs no memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from .....foreign import Document, validated
from .....foreign import read_document as parse_document
from .....store.place.local import LocalFiles
from ...config import SAEConfig
from ...files import NAMES, check_tensors, check_values
from ...tensor_file import read_tensors, stand_ins

Tensors = dict[str, Tensor]

_MAX_DOCUMENT_BYTES = 1 << 24

DocumentT = TypeVar("DocumentT", bound=Document)


@dataclass(frozen=True)
class TensorsFile:
    """A tensor file whose header has been read, but not its numbers."""

    path: Path
    shapes: Tensors
    """Stand-ins without memory (torch's `meta` device), by the names in the file."""
    load: Callable[[], Tensors]


def read_document(kind: type[DocumentT], path: Path) -> DocumentT:
    """A JSON file of an SAE's folder.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no file, no JSON, or does not hold what it must; one line naming it.
    """
    _check_there(path)
    size = path.stat().st_size
    if size > _MAX_DOCUMENT_BYTES:
        raise ValueError(f"{path} must be a config of a few kilobytes, got {size:,} bytes")
    return parse_document(kind, path.read_bytes(), str(path))


def _check_there(path: Path) -> None:
    """Raises an error in one line unless there is a regular file: reading a pipe would block."""
    if path.is_file():
        return
    if path.exists():
        raise ValueError(f"{path} must be a regular file, got a folder, pipe or device; remove it")
    raise FileNotFoundError(f"{path} does not exist; the SAE's folder is not complete")


def open_safetensors(path: Path) -> TensorsFile:
    """The tensors of a safetensors file; ValueError or FileNotFoundError in one line."""
    _check_there(path)
    real = path.resolve()  # the hub's cache is made of links, which a store may not have
    place = LocalFiles(real.parent)

    def explained(read: Callable[[], Tensors]) -> Tensors:
        try:
            return read()
        except ValueError as error:
            raise ValueError(f"{path} must be a safetensors file: {error}") from error

    return TensorsFile(
        path,
        explained(lambda: stand_ins(place, real.name)),
        lambda: explained(lambda: read_tensors(place, real.name)[1]),
    )


def renamed(file: TensorsFile, names: dict[str, str]) -> TensorsFile:
    """The file with this project's names for its tensors. An unknown tensor is refused: it might
    change what the SAE computes."""

    def ours(tensors: Tensors) -> Tensors:
        return {names.get(name, name): tensor for name, tensor in tensors.items()}

    unknown = sorted(set(ours(file.shapes)) - set(NAMES))
    if unknown:
        shown = ", ".join(unknown[:5])
        raise ValueError(f"{file.path} holds tensors that no SAE of its kind has: {shown[:200]}")
    if len(ours(file.shapes)) < len(file.shapes):
        raise ValueError(f"{file.path} must hold each tensor once, got {sorted(file.shapes)}")
    return TensorsFile(file.path, ours(file.shapes), lambda: ours(file.load()))


def without_scaling_factor(file: TensorsFile) -> TensorsFile:
    """The file without `scaling_factor`, which SAELens wrote for a while. It must be 1: other
    values change the SAE."""
    name = "scaling_factor"
    if name not in file.shapes:
        return file

    def load() -> Tensors:
        tensors = file.load()
        factor = tensors.pop(name)
        if not torch.allclose(factor, torch.ones_like(factor)):  # SAELens's own test
            raise ValueError(
                f"{file.path}: {name} must be 1 everywhere, got other values: this SAE was "
                "fine-tuned and its factors are not folded; multiply W_dec's rows by them first"
            )
        return tensors

    shapes = {key: shape for key, shape in file.shapes.items() if key != name}
    return TensorsFile(file.path, shapes, load)


def sizes(file: TensorsFile) -> dict[str, int]:
    """d_in, d_sae and d_out as the tensors have them.

    Raises:
        ValueError: there are no such matrices.
    """
    W_enc, W_dec = file.shapes.get("W_enc"), file.shapes.get("W_dec")
    if W_enc is None or W_dec is None or W_enc.ndim != 2 or W_dec.ndim != 2:
        shapes = {name: tuple(t.shape) for name, t in file.shapes.items()}
        raise ValueError(
            f"{file.path} must hold the matrices W_enc and W_dec of one layer, got {shapes}"
        )
    (d_in, d_sae), d_out = W_enc.shape, W_dec.shape[1]
    if W_dec.shape[1] == d_sae != W_dec.shape[0]:
        d_out = W_dec.shape[0]  # transposed: `check_tensors` says so, here and below
    bias = file.shapes.get("theta", file.shapes.get("b_enc"))
    if bias is not None and bias.ndim == 1 and len(bias) == d_in != d_sae:
        d_in, d_sae = d_sae, d_in
        d_out = W_dec.shape[1 if len(W_dec) == len(bias) else 0]
    return {"d_in": d_in, "d_sae": d_sae, "d_out": d_out}


def shown(value: Any) -> str:
    """A value as one part of an error's line."""
    return repr(value[:60] if isinstance(value, str) else value)


def agreed(where: str, name: str, declared: Any, found: Any) -> None:
    """Raises ValueError if a declared value differs from what the SAE's other files say."""
    if declared is not None and found is not None and declared != found:
        raise ValueError(
            f"{where}: {name} must be {str(found)[:60]}, as the rest of the SAE's files has it, "
            f"got {shown(declared)}; the file is damaged, or of another SAE"
        )


def config_of(file: TensorsFile, where: str, **facts: Any) -> SAEConfig:
    """A config for a foreign file: sizes from its tensors, the rest as far as known."""
    return validated(SAEConfig, sizes(file) | facts, where)


def complete(file: TensorsFile, config: SAEConfig, where: str) -> tuple[SAEConfig, Tensors]:
    """Config and tensors of an SAE.

    Raises:
        ValueError: the tensors are not those of one SAE of the config's shape, or an SAE that is
            no transcoder has a skip connection or an output of another width.
    """
    check_tensors(file.shapes, config, str(file.path))
    if not config.is_transcoder and ("W_skip" in file.shapes or config.d_out != config.d_in):
        what = "W_skip" if "W_skip" in file.shapes else f"d_out {config.d_out}"
        raise ValueError(
            f"{where} must be a transcoder to have {what} (d_in is {config.d_in}), got an SAE "
            "of one site; the file is damaged, or its target is missing"
        )
    tensors = {name: tensor.float() for name, tensor in file.load().items()}
    check_values(tensors, str(file.path))
    return config, tensors
