"""The interface of a family of language models.

Owns `Family` and the types of config.json's entries that families share. A family is data and light
functions: neither this file nor a family's imports torch or transformers at its top, so that
`train` can take names from it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from ....foreign import Document

Size = Annotated[int, Field(ge=1, le=2**22)]
Id = Annotated[int, Field(ge=0, lt=2**22)]
Scale = Annotated[float, Field(gt=0, le=1e15)]

MOST_LAYERS = 512

INSIDE_A_LARGER_MODEL = {
    r"^(?:model\.)?language_model\.lm_head\.": "lm_head.",
    r"^(?:model\.)?language_model\.(?:model\.)?": "model.",
}
"""Names of a decoder's weights in the files of a model that also sees images -> names in the causal
model. Versions of transformers have three spellings. Names of a plain causal model do not match."""


@dataclass(frozen=True)
class SiteModule:
    """Where a kind of site is in a decoder layer, how wide it is, and what others call it."""

    module: str
    """Path of the module below the layer; "" is the layer itself."""
    side: Literal["input", "output", "gainless"]
    """The module's first input, its output, or, of an RMSNorm (`weight`, `eps`), the normalised
    vector before the gain."""
    width: Callable[[Any], int]
    """Numbers per token, by transformers' configuration."""
    lens: str | None = None
    """TransformerLens's hook, `{}` for the layer; None if it has no hook for this tensor."""
    hugging_face: str | None = None
    """Module path and `input` or `output`, as Hugging Face's releases write it; None if there is no
    such name."""
    in_report: bool = True
    """Whether the pattern `*` includes it."""
    to_stream: tuple[str, ...] | None = None
    """Modules of the layer between the tensor and the residual stream to which it is added: linear
    ones, and RMSNorms, of which only the gain counts. Empty if it is added, or read, as it is; None
    if the way is not linear."""


@dataclass(frozen=True)
class Family:
    """All that is particular to a family of decoders. To add one: a file, and a row in `FAMILIES`.

    transformers' model must be a causal one with `model.layers` inside. Each layer is called with
    the residual stream and returns it. Its configuration must have transformers' usual names
    (`hidden_size`, `num_hidden_layers`, `vocab_size`, `max_position_embeddings`).
    """

    title: str
    """For people, such as "Gemma 2"."""
    model_types: tuple[str, ...]
    """`model_type` of its models, in config.json and in transformers' configuration."""
    classes: Callable[[], tuple[Any, Any]]
    """Imports transformers' classes: of the configuration, and of the causal model."""
    entries: type[Document]
    """The entries of config.json that decide what the model computes, with bounds; transformers is
    given these and no others."""
    decides: tuple[str, ...]
    """Entries of transformers' configuration that change activations without changing a weight's
    shape, in the order in which the fingerprint takes them."""
    attention: tuple[str, ...]
    """Implementations of attention in transformers that compute what the model was trained with;
    `auto` is the first."""
    why_attention: str
    """What is wrong with the other implementations, for an error's line."""
    sites: Mapping[str, SiteModule]
    """Kind of site -> where it is, in the order in which a layer computes them."""
    compiled: tuple[str, ...]
    """Modules of a layer with no site inside, which `--compile` compiles."""
    final_norm: str
    """The decoder's module between the last layer and the unembedding."""
    gain: Callable[[Any], Any]
    """What its RMSNorms multiply by, as a function of their `weight`."""
    sequence_bytes: Callable[[Any, int, str, str], int]
    """(configuration, context, dtype, attention) -> bytes that the forward pass of one sequence
    takes beside the weights, at its peak."""
    flops_per_token: Callable[[Any, int, int, str], float]
    """(configuration, context, layer, kind) -> multiplications and additions of one token's forward
    pass up to this site; without the unembedding."""
    soft_cap: str | None = None
    """Entry of the configuration with the logits' soft-cap c, c · tanh(logits / c), if there is
    one."""
    nested: str | None = None
    """Entry of config.json that holds the language model's entries, in files of a larger model of
    which it is a part."""
    renamed_weights: Mapping[str, str] = field(default_factory=lambda: dict(INSIDE_A_LARGER_MODEL))
    """Regular expression of names in the weights' files -> its replacement in the names of
    transformers' causal model, for models that are a part of a larger one."""
    ignored_weights: str = r".*rotary_emb\.inv_freq"
    """Regular expression of names that are not loaded. By default the frequencies of rotary
    embeddings: older checkpoints hold them, and transformers computes them itself."""
    released: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Hub id -> the shape in its config.json, so that a model can be planned for before it is
    downloaded. Its `tuned` twin has the same shape."""
    tuned: Mapping[str, str] = field(default_factory=dict)
    """Hub id of a base model -> hub id of the instruction-tuned model made from it."""

    def as_loaded(self, name: str) -> str:
        """A weight's name in transformers' causal model, from its name in the files."""
        for pattern, ours in self.renamed_weights.items():
            name = re.sub(pattern, ours, name)
        return name

    def shape_of(self, model: str) -> Mapping[str, Any] | None:
        """Entries of the configuration of a released model, by its hub id; None for others."""
        bases = {tuned: base for base, tuned in self.tuned.items()}
        return self.released.get(bases.get(model, model))

    def place(self, kind: str) -> SiteModule:
        """Where a kind of site is.

        Raises:
            ValueError: the family has no such kind.
        """
        if kind not in self.sites:
            raise ValueError(
                f"site {kind} does not exist in a {self.title}; its kinds are "
                f"{', '.join(self.sites)}"
            )
        return self.sites[kind]
