"""The configuration of a model: config.json, checked before transformers reads it.

Owns the way from the file to transformers' configuration. Only the entries that the model's family
names are passed on: some others make transformers hang (10^9 labels) or fetch code (attention
kernels of the hub). The family has the entries' types and bounds; `weights` compares the weights
with the configuration.
"""

from pathlib import Path
from typing import Any

from ...foreign import validated
from .families import family_named
from .files import explained, read_json


def read_config(folder: Path, name: str) -> Any:
    """The configuration of a language model, as transformers has it.

    Raises:
        ValueError: the model's family is not supported, or an entry is not valid in it.
    """
    path = folder / "config.json"
    document = read_json(path)
    family = family_named(document.get("model_type"), name)
    if document.get("quantization_config"):
        raise ValueError(
            f"{path} must not name a quantization_config, got one; pass the model's bfloat16 or "
            "float32 weights"
        )
    where = str(path)
    if family.nested is not None and family.nested in document:
        document, where = document[family.nested], f"{path}, {family.nested}"
    checked = validated(family.entries, document, where).model_fields_set
    if document.get("model_type", family.model_types[0]) not in family.model_types:
        raise ValueError(
            f"{where}: model_type must be {' or '.join(family.model_types)}, "
            f"got {str(document['model_type'])[:60]!r}; pass a plain {family.title}"
        )
    with explained(name):
        kind, _ = family.classes()
        return kind(**{name: document[name] for name in checked})
