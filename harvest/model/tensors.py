"""Single tensors of a model's files: the model itself is never loaded.

Owns the way from transformers' name of a tensor to its name in the files, and reading slices of it.
`weights` checks what the files hold.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...foreign import validated
from .families import family_of
from .files import explained, model_folder, read_json
from .weights import WeightsIndex, check_weights, fingerprint, sampled_places

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED, _PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

_READ_NUMBERS = 2**23
"""Values of a tensor that are read at once: 32 MiB in float32."""


class Tensors:
    """The weights of a model, read as they are asked for.

    Args:
        name: a local folder or a hub id, whose files are fetched if they are not here.
        config: transformers' configuration, as `load_tokenizer` gives it.

    Raises:
        OSError: there are no weights, or a file is damaged.
        ValueError: the weights are not those of the configuration.
    """

    def __init__(self, name: str, config: Any):
        self.name, self._config, self._family = name, config, family_of(config)
        folder = model_folder(name, weights=True)
        check_weights(folder, name, config)
        self._open = _opener(folder, name)
        self._own = {
            self._family.as_loaded(own): (own, path) for own, path in _named(folder).items()
        }
        if not any(known.startswith("model.") for known in self._own):  # the decoder saved alone
            self._own = {f"model.{known}": where for known, where in self._own.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._own

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows [start, stop) of a tensor, in float32.

        Args:
            name: the tensor's name in transformers' causal model.
            start, stop: rows, as in a slice.

        Raises:
            ValueError: the model has no such tensor.
            OSError: its file cannot be read.
        """
        if name not in self:
            raise ValueError(f"model {self.name} must have the tensor {name}, got none")
        own, path = self._own[name]
        with explained(self.name):
            return self._open(path, own)[start:stop].float()

    def fingerprint(self) -> str:
        """The loaded model's fingerprint (`LanguageModel.fingerprint`), without loading it: a
        part of one tensor is in memory at a time.

        Raises:
            OSError: a file cannot be read.
        """
        _, causal = self._family.classes()
        with explained(self.name), torch.device("meta"):
            parameters = dict(causal(self._config).named_parameters())
        if self._config.tie_word_embeddings:
            parameters.pop("lm_head.weight", None)
        return fingerprint(self._config, ((n, self._sample(n, p)) for n, p in parameters.items()))

    def _sample(self, name: str, like: Tensor) -> Tensor:
        """A tensor's values at `sampled_places`, read some rows at a time."""
        places = sampled_places(like.numel())
        width, found = like.numel() // len(like), []
        rows = max(1, _READ_NUMBERS // width)
        for start in range(0, len(like), rows):
            first, stop = (
                -(-start * width // places.step),
                -(-(start + rows) * width // places.step),
            )
            mine = torch.tensor(places[first:stop], dtype=torch.int64) - start * width
            if len(mine):
                found.append(self.read(name, start, start + rows).reshape(-1)[mine])
        return torch.cat(found)


def _named(folder: Path) -> dict[str, Path]:
    """Every tensor's name in the files, and its file."""
    for whole, index in ((_WHOLE, _INDEX), (_PICKLED, _PICKLED_INDEX)):
        if (folder / whole).is_file():
            return dict.fromkeys(_names(folder / whole), folder / whole)
        if (folder / index).is_file():
            known = validated(WeightsIndex, read_json(folder / index), str(folder / index))
            return {name: folder / file for name, file in known.weight_map.items()}
    raise AssertionError("check_weights has found the weights")


def _names(path: Path) -> list[str]:
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return list(_loaded(path))
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _opener(folder: Path, name: str) -> Callable[[Path, str], Any]:
    """A function of (file, name) that gives a tensor to slice; only the slice is read."""
    from safetensors import safe_open

    files: dict[Path, Any] = {}

    def opened(path: Path, own: str) -> Any:
        if path.suffix == ".safetensors":
            file = files.setdefault(path, None) or safe_open(path, framework="pt")
            files[path] = file
            return file.get_slice(own)
        files[path] = files.get(path) or _loaded(path)
        return files[path][own]

    return opened


def _loaded(path: Path) -> dict[str, Tensor]:
    """A PyTorch file, its tensors mapped from the disk."""
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
