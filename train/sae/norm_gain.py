"""Reads the gain of the norm before an MLP from a language model's files, and folds it in.

Reads one small tensor and never loads the model. The model's family knows the norm's name and how
its weights give the gain.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ...foreign import Document, one_line
from ...harvest.model.families import family_named
from ...store.place.local import LocalFiles
from .formats.shared.reading import read_document
from .tensor_file import read_tensors, stand_ins

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SMALLEST_GAIN = 1e-4  # bfloat16 weights near -1 give 0 or more than 0.001


class _Config(Document):
    model_type: str


class _Index(Document):
    weight_map: dict[str, Annotated[str, Field(pattern=r"^[^/\\]+\.safetensors$", max_length=255)]]


def norm_gain(model: str, layer: int) -> tuple[str, Float[Tensor, " d_model"]]:
    """Name of the norm at `transcoder_in` in the layer, and what it multiplies by, float64.

    Args:
        model: a local folder, or an id on the hub.
        layer: counted from 0.

    Raises:
        OSError: there is no such model, or a file of it is missing.
        ValueError: it is of no family with such a norm, has no such layer, or a file is damaged.
    """
    family = family_named(read_document(_Config, _file(model, "config.json")).model_type, model)
    norm = f"model.layers.{layer}.{family.place('transcoder_in').module}"

    def is_norm(own: str) -> bool:
        loaded = family.as_loaded(own)
        return f"{norm}.weight" in (loaded, f"model.{loaded}")  # or the decoder saved alone

    path = _file_with(model, is_norm, norm).resolve()  # the hub's cache is made of links
    place = LocalFiles(path.parent)
    try:
        found = [name for name in stand_ins(place, path.name) if is_norm(name)]
        tensors = read_tensors(place, path.name, names=found)[1]
    except ValueError as error:
        raise ValueError(f"{path} must be a safetensors file: {error}") from error
    if len(found) != 1 or tensors[found[0]].ndim != 1:
        raise ValueError(f"model {model} must have one vector {norm}.weight, got none in {path}")
    gain = family.gain(tensors[found[0]].double())
    if not torch.isfinite(gain).all():
        raise ValueError(f"{found[0]} of model {model} must be finite, got NaN or infinity")
    return norm, gain


def _file_with(model: str, is_norm: Callable[[str], bool], norm: str) -> Path:
    """The weights file that has the norm's tensor."""
    if Path(model).is_dir() and (Path(model) / _WHOLE).is_file():
        return Path(model) / _WHOLE
    try:
        index = read_document(_Index, _file(model, _INDEX))
    except FileNotFoundError:  # a small model is in one file
        return _file(model, _WHOLE)
    for name in filter(is_norm, index.weight_map):
        return _file(model, index.weight_map[name])
    raise ValueError(f"model {model} must have the tensor {norm}.weight, got an index without it")


def _file(model: str, name: str) -> Path:
    """A file of the model on this machine; downloaded if the model is a hub id."""
    if Path(model).is_dir():
        if not (Path(model) / name).is_file():
            raise FileNotFoundError(f"model {model} must hold {name}, which is not there")
        return Path(model) / name
    import huggingface_hub  # not needed for a folder
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        return Path(huggingface_hub.hf_hub_download(model, name))
    except EntryNotFoundError as error:
        raise FileNotFoundError(f"model {model} on the hub has no {name}") from error
    except (OSError, HFValidationError, HfHubHTTPError) as error:
        raise OSError(
            f"model {model} must be a folder or an id on the hub, got: {one_line(error)}"
        ) from error


def with_gain(
    tensors: dict[str, Tensor], gain: Float[Tensor, " d_in"], where: str
) -> dict[str, Tensor]:
    """The same transcoder on x · gain instead of x: W_enc' = diag(1/gain) W_enc, and W_skip' alike.

    Args:
        tensors: of a folded transcoder that reads the vector x before its norm's gain.
        gain: what that norm multiplies by.
        where: the norm's name, for errors.

    Raises:
        ValueError: a channel's gain is 0 or nearly 0: then x cannot be recovered from x · gain.
    """
    gain = gain.double()
    tiny = ~(gain.abs() >= _SMALLEST_GAIN)
    if tiny.any():
        channel = int(tiny.nonzero()[0])
        raise ValueError(
            f"gain of {where} must not be near 0, got {float(gain[channel]):.3g} in channel "
            f"{channel}: what the transcoder reads there is lost behind it; export as sae-lens"
        )
    inverse = (1 / gain)[:, None]
    names = [name for name in ("W_enc", "W_skip") if name in tensors]
    return tensors | {name: (tensors[name].double() * inverse).float() for name in names}
