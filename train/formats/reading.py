"""What every format's reader needs: documents and tensors from disk, checked against each other.

Owns the rule that a file is what it declares: what a config says and what the tensors are must
agree, both ways, or the file is refused in one line.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from ...foreign import one_line, read_document
from ...store.local import LocalFiles
from ..sae_config import SAEConfig
from ..sae_files import check_tensors
from ..tensor_file import read_tensors

Tensors = dict[str, Tensor]
NAMES = ("W_enc", "b_enc", "W_dec", "b_dec", "theta", "W_skip")
"""This project's names; every SAE has all of them but W_skip."""

ModelT = TypeVar("ModelT", bound=BaseModel)


def read_config(kind: type[ModelT], path: Path) -> ModelT:
    """A JSON file of an SAE's folder as `kind`, or one line about what is wrong with it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; the SAE's folder is not complete")
    return read_document(kind, path.read_bytes(), str(path))


def read_safetensors(path: Path) -> Tensors:
    """The tensors of a safetensors file, as float32 on the CPU."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; the SAE's folder is not complete")
    try:
        _, tensors = read_tensors(LocalFiles(path.parent), path.name)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path} must be a whole safetensors file: {one_line(error)}") from error
    for name, tensor in tensors.items():
        if not torch.is_floating_point(tensor):
            raise ValueError(f"{path}: {name} must be floating point, got {tensor.dtype}")
    return {name: tensor.float() for name, tensor in tensors.items()}


def renamed(tensors: Tensors, names: Mapping[str, str], path: Path) -> Tensors:
    """Tensors under this project's names; an unknown one might change the SAE, so it is refused."""
    found = {names.get(name, name): tensor for name, tensor in tensors.items()}
    if unknown := sorted(set(found) - set(NAMES)):
        raise ValueError(f"{path} holds tensors that no JumpReLU SAE has: {', '.join(unknown)}")
    if len(found) < len(tensors):
        raise ValueError(f"{path} holds a tensor under two names, got {sorted(tensors)}")
    return found


def config_from_shapes(tensors: Tensors, path: Path, **facts: Any) -> SAEConfig:
    """A config for a foreign file: sizes from its tensors, the rest as far as known."""
    W_enc, W_dec = tensors.get("W_enc"), tensors.get("W_dec")
    if W_enc is None or W_dec is None or W_enc.ndim != 2 or W_dec.ndim != 2:
        raise ValueError(
            f"{path} must hold the matrices W_enc and W_dec of one layer, got "
            f"{ {name: tuple(t.shape) for name, t in tensors.items()} }"
        )
    _refuse_transposed(tensors, path)
    (d_in, d_sae), d_out = W_enc.shape, W_dec.shape[1]
    other = d_in != d_out or "W_skip" in tensors
    facts["transcoder"] = facts.get("transcoder", False) or other
    try:
        return SAEConfig(d_in=d_in, d_sae=d_sae, d_out=d_out, **facts)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{path}: {first['loc'][0]}: {first['msg']}") from error


def check_declared(path: Path, config: SAEConfig, **declared: Any) -> None:
    """Refuses a file whose config says another size than its tensors have; None says nothing."""
    for name, said in declared.items():
        if said is not None and said != getattr(config, name):
            raise ValueError(
                f"{path}: {name} must be that of the tensors, {getattr(config, name)}, got {said}; "
                "config and weights are of different SAEs"
            )


def check_skip(path: Path, tensors: Tensors, declared: bool, how: str) -> None:
    """Refuses a declared skip connection without its tensor, and the tensor without the word."""
    if declared != ("W_skip" in tensors):
        there = "is there" if "W_skip" in tensors else "is missing"
        raise ValueError(
            f"{path}: the skip connection's tensor must be there if and only if {how}, but it "
            f"{there}; config and weights are of different SAEs"
        )


def check_read(
    path: Path, config: SAEConfig, tensors: Tensors
) -> tuple[SAEConfig, dict[str, Tensor]]:
    """What a reader gave, if it is a whole SAE of finite numbers.

    Raises:
        ValueError: naming the file and the tensor.
    """
    if unknown := sorted(set(tensors) - set(NAMES)):
        raise ValueError(f"{path} holds tensors that no JumpReLU SAE has: {', '.join(unknown)}")
    try:
        check_tensors(tensors, config)
        check_finite(tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return config, tensors


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError for NaN or infinity among an SAE's numbers."""
    for name, tensor in tensors.items():
        # The sum of |x| overflows in float32 only where a number is absurd already.
        if not bool(torch.isfinite(tensor.abs().sum(dtype=torch.float64))):
            n = int((~torch.isfinite(tensor)).sum())
            raise ValueError(
                f"{name} must be finite, got {n:,} NaN or infinite numbers of {tensor.numel():,}; "
                "its training diverged or the file is damaged"
            )


def _refuse_transposed(tensors: Tensors, path: Path) -> None:
    """Matrices the other way round: the biases tell."""
    for name, bias in (("W_enc", "b_enc"), ("W_dec", "b_dec")):
        if bias not in tensors or tensors[bias].ndim != 1:
            continue
        (rows, columns), n = tensors[name].shape, tensors[bias].shape[0]
        if rows == n != columns:
            wanted = "[d_in, d_sae]" if name == "W_enc" else "[d_sae, d_out]"
            raise ValueError(
                f"{path}: {name} must be {wanted}, got {[rows, columns]} beside {bias} of {n}; "
                "it is transposed"
            )
