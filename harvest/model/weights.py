"""A model's weights: names, shapes and dtypes, read from the files' headers, and what tells two
models apart.

Owns the comparison of the weight files with the configuration, before memory is taken for them:
transformers only warns about a tensor that is missing, and leaves it at random values.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ...foreign import Document, one_line, validated
from .families import Family, family_of
from .files import check_file, explained, read_json

if TYPE_CHECKING:
    from torch import Tensor

_SAMPLED = 4096
_FLOATS = ("F64", "F32", "F16", "BF16")
_SHOWN = 3

Header = tuple[tuple[int, ...], str]
"""Shape and dtype of a tensor, the dtype as safetensors names it."""


class WeightsIndex(Document):
    """The index of weights that are in several files."""

    metadata: dict[str, Any]
    weight_map: dict[str, Annotated[str, Field(pattern=r"^[^/\\]+$", max_length=255)]]


def check_weights(folder: Path, name: str, config: Any) -> None:
    """Raises if a folder's weights are not those of its configuration.

    Raises:
        OSError: there are none, or a file is damaged.
        ValueError: a tensor is missing, unknown, of another shape or of no floating-point dtype.
    """
    family = family_of(config)
    found = _named_as_loaded(_headers(folder, name), family)
    with explained(name):
        expected = _expected(config, family)
    if not any(tensor.startswith("model.") for tensor in found):  # the decoder saved alone
        expected = {tensor.removeprefix("model."): shape for tensor, shape in expected.items()}
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    wrong = sorted(
        tensor
        for tensor, shape in expected.items()
        if (tensor in found and found[tensor][0] != shape)
        or (tensor not in found and tensor not in tied)
    )
    if wrong:
        raise ValueError(
            f"model {name} must hold all weights of its config.json, got none or another shape for "
            f"{_shown(wrong)}; download the folder again"
        )
    if unknown := sorted(found.keys() - expected.keys()):
        raise ValueError(
            f"model {name} must hold no weights but those of its config.json, got also "
            f"{_shown(unknown)}; download the folder again, or correct config.json"
        )
    if others := sorted(f"{t} as {d}" for t, (_, d) in found.items() if d not in _FLOATS):
        raise ValueError(
            f"weights of model {name} must be bfloat16, float16 or float32, got {_shown(others)}; "
            "pass weights that are not quantised"
        )


def check_loading(name: str, lm: Any, info: Any) -> None:
    """Raises ValueError if transformers did not use exactly the weights there are."""
    missing = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    unused = sorted(map(str, [*info["unexpected_keys"], *info.get("error_msgs", ())]))
    ignored = family_of(lm.config).ignored_weights
    unused = [tensor for tensor in unused if not re.match(ignored, tensor)]
    if missing or unused:
        raise ValueError(
            f"model {name} must give all its weights to transformers and no others, got "
            f"{_shown(missing + unused)} left out; save it again with this version of transformers"
        )
    head, embedding = lm.get_output_embeddings().weight, lm.get_input_embeddings().weight
    if lm.config.tie_word_embeddings and head is not embedding and not head.equal(embedding):
        raise ValueError(
            f"model {name} must have one matrix for lm_head and embed_tokens, as its config.json "
            "says (tie_word_embeddings), got two in its weights; correct config.json"
        )


def fingerprint(config: Any, samples: "Iterable[tuple[str, Tensor]]") -> str:
    """Identifies a model: 16 hex digits over the shape and an even sample of every tensor's values,
    rounded to bfloat16.

    A sample, so that a 27B model need not be read twice; rounded, so that the load dtype does not
    matter.

    Args:
        config: transformers' configuration.
        samples: name and sampled values of each tensor, those at `sampled_places`, in the order of
            transformers' `named_parameters`.
    """
    import torch

    fields = family_of(config).decides
    shape = json.dumps([getattr(config, field) for field in fields], sort_keys=True)
    digest = hashlib.blake2b(shape.encode("utf-8"), digest_size=8)
    for name, sample in samples:
        bits = sample.to(torch.bfloat16).view(torch.int16).cpu()
        digest.update(name.encode("utf-8") + bits.numpy().tobytes())
    return digest.hexdigest()


def loaded_fingerprint(model: Any) -> str:
    """The `fingerprint` of the weights that a loaded model has now."""
    import torch

    def sample(tensor: "Tensor") -> "Tensor":
        flat = tensor.detach().reshape(-1)
        places = sampled_places(len(flat))
        return flat[torch.arange(places.start, places.stop, places.step, device=flat.device)]

    return fingerprint(model.config, ((name, sample(p)) for name, p in model.named_parameters()))


def sampled_places(n: int) -> range:
    """Which of a tensor's n values are sampled: up to about twice 4,096, evenly."""
    return range(0, n, max(1, n // _SAMPLED))


def _named_as_loaded(headers: dict[str, Header], family: Family) -> dict[str, Header]:
    """What is loaded, under transformers' own names."""
    ignored = re.compile(family.ignored_weights)
    return {family.as_loaded(t): header for t, header in headers.items() if not ignored.match(t)}


def _expected(config: Any, family: Family) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights that transformers' model has."""
    import torch

    _, causal = family.classes()
    with torch.device("meta"):
        model = causal(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _headers(folder: Path, name: str) -> dict[str, Header]:
    """Name -> shape and dtype of every tensor in the files that transformers would load."""
    for single, read in (("model.safetensors", _safetensors), ("pytorch_model.bin", _pickled)):
        path, index = folder / single, folder / f"{single}.index.json"
        if path.is_symlink() or path.exists():
            check_file(path)
            return read(path)
        if index.exists():
            check_file(index)
            return _indexed(index, read)
    raise FileNotFoundError(
        f"model {name} cannot be loaded: the folder is incomplete or damaged (no model.safetensors "
        "and no model.safetensors.index.json); download it again"
    )


def _indexed(index: Path, read: Any) -> dict[str, Header]:
    """The tensors of several files, which must be those that the index names."""
    declared = validated(WeightsIndex, read_json(index), str(index)).weight_map
    found: dict[str, Header] = {}
    for file in sorted(set(declared.values())):
        check_file(index.parent / file)
        tensors = read(index.parent / file)
        if wrong := sorted(t for t in tensors if declared.get(t) != file):
            raise ValueError(
                f"{index} must name every tensor of {file}, got {_shown(wrong)} in the file alone; "
                "download both again"
            )
        found |= tensors
    if absent := sorted(declared.keys() - found.keys()):
        raise ValueError(
            f"{index} must name tensors that its files hold, got {_shown(absent)} in none; "
            "download the model again"
        )
    return found


def _safetensors(path: Path) -> dict[str, Header]:
    """The tensors of a safetensors file, whose header the library checks."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            slices = {tensor: file.get_slice(tensor) for tensor in file.keys()}  # noqa: SIM118
            return {t: (tuple(s.get_shape()), s.get_dtype()) for t, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _pickled(path: Path) -> dict[str, Header]:
    """The tensors of a PyTorch file, without anything that a pickle could run."""
    import torch

    names = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16"}
    names[torch.bfloat16] = "BF16"
    try:
        loaded = torch.load(path, map_location="meta", mmap=True, weights_only=True)
    except Exception as error:  # pickle's, zip's and torch's errors have no common base
        raise _damaged(path, error, " or hold more than tensors") from error
    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in loaded.items()
    ):
        raise ValueError(
            f"{path} must hold named tensors alone, got something else; "
            "pass the model as safetensors"
        )
    return {t: (tuple(x.shape), names.get(x.dtype, str(x.dtype))) for t, x in loaded.items()}


def _damaged(path: Path, error: Exception, more: str = "") -> OSError:
    return OSError(
        f"{path} cannot be loaded: its weights are damaged{more} ({one_line(error)}); "
        "download it again, as safetensors if there is such a file"
    )


def _shown(names: list[str]) -> str:
    more = f" ({len(names)} in all)" * (len(names) > 1)
    return ", ".join(name[:120] for name in names[:_SHOWN]) + more
