"""The gain of the norm before the MLP: from transcoders at `transcoder_in` to `mlp_in`.

transcoder_in is the gainless vector x, mlp_in is y = x ⊙ (1 + w) with the norm's weight w. So

    x @ W_enc = y @ (diag(1/(1 + w)) W_enc),    x @ W_skip = y @ (diag(1/(1 + w)) W_skip):

the same transcoder where Gemma Scope 2's transcoders read.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..foreign import Document, one_line, read_document
from .sae import SAE

_SMALLEST = 1e-4
"""Below this, 1/(1 + w) would make numbers of rounding errors."""


class _Index(Document):
    weight_map: dict[str, str]


def with_gain(sae: SAE, model: Path) -> SAE:
    """The transcoder as it reads `mlp_in`; computed in float64.

    Raises:
        ValueError: the SAE does not read transcoder_in, the model's folder does not hold the norm,
            or a channel's gain is so small that nothing comes through it.
    """
    kind, _, layer = (sae.config.site or "").partition(".")
    if kind != "transcoder_in":
        raise ValueError(
            f"model has an effect only on transcoders that read transcoder_in, got "
            f"{sae.config.site}; leave it out"
        )
    gain = 1 + read_norm(model, int(layer))
    if len(gain) != sae.config.d_in:
        raise ValueError(
            f"model {model} must have the SAE's width, {sae.config.d_in}, got {len(gain)}"
        )
    small = torch.nonzero(gain.abs() < _SMALLEST).flatten().tolist()
    if small:
        raise ValueError(
            f"gain of layer {layer}'s pre_feedforward_layernorm must not vanish, got "
            f"{float(gain[small[0]]):.2g} at channel {small[0]}: mlp_in does not show that "
            "channel; export as sae-lens, which keeps transcoder_in"
        )
    tensors = sae.tensors()
    for name in tensors.keys() & {"W_enc", "W_skip"}:
        tensors[name] = (tensors[name].double() / gain[:, None]).to(tensors[name].dtype)
    return SAE(sae.config.model_copy(update={"site": f"mlp_in.{layer}"}), **tensors)


def read_norm(model: Path, layer: int) -> Float[Tensor, " d_model"]:
    """w of a layer's norm before the MLP, float64, from a model folder's safetensors."""
    from safetensors import SafetensorError, safe_open

    if not model.is_dir():
        raise FileNotFoundError(f"model {model} must be a folder with the model's safetensors")
    wanted = f"model.layers.{layer}.pre_feedforward_layernorm.weight"
    index = model / "model.safetensors.index.json"
    name = "model.safetensors"
    if index.is_file():
        weight_map = read_document(_Index, index.read_bytes(), str(index)).weight_map
        name = weight_map.get(wanted, "")
        if not name or Path(name).name != name:
            raise ValueError(f"{index} must say where {wanted} is, got {name or 'nothing'}")
    path = model / name
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(wanted).double()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} must hold {wanted}: {one_line(error)}") from error
