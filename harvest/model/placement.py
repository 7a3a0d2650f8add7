"""Placement: on which devices a model is, and which of its parts are compiled.

Owns the checks of `device_map` and attention, and the use of `torch.compile`. `machine` finds the
device, `loading` loads the weights.
"""

import importlib.util
from collections.abc import Iterable
from typing import Any

import torch

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""How accelerate spreads layers over several devices."""


def check_device_map(device_map: str, device: str) -> None:
    """Raises ValueError if a device map cannot be used."""
    if device_map not in DEVICE_MAPS:
        raise ValueError(f"device_map must be one of {', '.join(DEVICE_MAPS)}, got {device_map!r}")
    if device != "auto":
        raise ValueError(
            f"device must be auto beside device_map {device_map}, got {device!r}; "
            "pass one of the two"
        )
    if importlib.util.find_spec("accelerate") is None:
        raise ValueError(
            f"device_map {device_map} needs the package accelerate; pip install accelerate"
        )


def check_attention(attention: str, device: torch.device, dtype: str) -> None:
    """Raises ValueError if FlashAttention is asked for where it does not run.

    Asked here, because transformers would fetch a kernel from the hub where the package is missing.
    """
    if attention != "flash_attention_2":
        return
    if device.type != "cuda" or dtype != "bfloat16":
        raise ValueError(
            f"attention flash_attention_2 must run in bfloat16 on cuda, got {dtype} on "
            f"{device.type}; pass attention eager"
        )
    if importlib.util.find_spec("flash_attn") is None:
        raise ValueError(
            "attention flash_attention_2 needs the package flash-attn; pip install flash-attn, or "
            "pass attention eager"
        )


def spread_device(model: Any, device_map: str) -> torch.device:
    """The device that a spread model's token ids go to.

    Raises:
        ValueError: a part is on no device, or the parts are on devices of several types.
    """
    places = {str(p.device): name for name, p in model.named_parameters()}
    types = {place.partition(":")[0] for place in places}
    if "meta" in types or len(types) > 1:
        found = ", ".join(f"{name} on {place}" for place, name in sorted(places.items()))
        raise ValueError(
            f"device_map {device_map} must find room for all layers on devices of one type, got "
            f"{found.replace('meta', 'no device')}; use more or larger devices"
        )
    return model.get_input_embeddings().weight.device


def compile_layers(layers: Any, modules: Iterable[str]) -> None:
    """Compiles these modules of every decoder layer (`Family.compiled`), in place.

    Only the modules' `forward` is compiled: hooks, which read the sites, run outside it. Shapes are
    static, so that the result of a batch never depends on the batches before it.
    """
    for layer in layers:
        for name in modules:
            module = layer.get_submodule(name)
            module.forward = torch.compile(module.forward, dynamic=False)
