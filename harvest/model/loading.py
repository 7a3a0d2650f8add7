"""The language model: loading one, and telling two models apart.

`files`, `config`, `vocabulary` and `weights` check what is loaded, before and after. `families` has
what is particular to one kind of model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...arguments import dtype_name, number, whole
from ...machine import find_device, good_dtype
from .config import read_config
from .families import Family, family_of
from .files import checked_name, explained, model_folder, model_stamp
from .placement import check_attention, check_device_map, compile_layers, spread_device
from .vocabulary import Ids, check_context, checked_ids, load_checked_tokenizer
from .weights import check_loading, check_weights, loaded_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, repr=False)
class LanguageModel:
    """A loaded model in evaluation mode, its tokenizer, and what to record of it.

    lm = load_model("google/gemma-2-2b")
    logits = lm("The capital of France is")
    """

    model: Any
    """transformers' causal model, such as `Gemma2ForCausalLM`."""
    tokenizer: "PreTrainedTokenizerBase"
    name: str
    """The hub id or folder it was loaded from."""
    fingerprint: str
    """16 hex digits that identify weights and shape, whatever dtype the weights were loaded in."""
    device: torch.device
    """Where token ids go: the whole model's device, unless a device map has spread it."""
    dtype: str
    """Of weights and computation: bfloat16 or float32."""
    attention: str
    """transformers' name of the implementation of attention."""
    compiled: bool = False
    """Whether norms and MLPs are compiled with torch.compile."""
    place: str | None = None
    """The absolute path of its folder; None for a hub id or a name that ships."""
    stamp: Any = field(default=None, compare=False)
    """`model_stamp` of that folder, from before it was loaded."""

    @property
    def config(self) -> Any:
        """transformers' configuration."""
        return self.model.config

    @property
    def n_bytes(self) -> int:
        """Bytes of its weights, each counted once."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def as_setting(self) -> str:
        """What settings record of it: its name, a folder's as an absolute path.

        Raises:
            ValueError: its weights, or the files in its folder, have changed since it was loaded.
        """
        self.check_unchanged()
        if self.place is not None and model_stamp(Path(self.place)) != self.stamp:
            raise ValueError(
                f"model must be the one in {self.place}, whose files were written again or removed "
                "since; load it again"
            )
        return self.place or self.name

    def check_unchanged(self) -> None:
        """Raises ValueError if the weights are no longer those of `fingerprint`."""
        if (now := loaded_fingerprint(self.model)) != self.fingerprint:
            raise ValueError(
                f"model must have the weights it was loaded with ({self.fingerprint}), got others "
                f"({now}); save model and tokenizer with save_pretrained and load that folder"
            )

    def __repr__(self) -> str:
        config, name = self.config, "/".join(Path(self.name).parts[-2:])
        return (
            f"LanguageModel({name}: {family_of(config).title}, {config.num_hidden_layers} layers, "
            f"d_model {config.hidden_size:,}, vocabulary {config.vocab_size:,}, context "
            f"{config.max_position_embeddings:,}, {self.dtype} on {self.device})"
        )

    def __call__(self, ids: Ids) -> Float[Tensor, "batch seq vocabulary"]:
        """The logits of every position; hooks of `capture` and `replace` see this forward pass.

        The weights need no gradients, so neither do the logits, with or without `torch.no_grad`.
        Where a `replace` puts in a tensor that needs gradients, they flow through the rest of the
        model to that tensor, as hooks that are trained want it.

        Args:
            ids: a text or token ids, as the method `ids` takes them.

        Raises:
            ValueError: these are not token ids of this model.
        """
        return self.model(input_ids=self.ids(ids), use_cache=False).logits

    def ids(self, text: Ids) -> Int[Tensor, "batch seq"]:
        """Token ids on the model's device, int64.

        Args:
            text: a text, before which BOS is put; or token ids, taken as they are: a list, array or
                tensor, [seq] or [batch, seq].

        Raises:
            ValueError: it is none of these, an id is outside the vocabulary, or there are more ids
                than the model's context takes.
        """
        ids = checked_ids(text, self.tokenizer, self.config, self.name)
        return ids.to(self.device)

    def tokens(self, text: Ids) -> list[str]:
        """The tokens of one sequence as text, one string a position; BOS is among them."""
        return [str(self.tokenizer.decode([token])) for token in self._one(text)[0].tolist()]

    def decode(self, ids: Ids) -> str:
        """The text of one sequence of token ids, with special tokens; errors as `ids`."""
        return str(self.tokenizer.decode(self._one(ids)[0].tolist()))

    def generate(
        self, text: Ids, new_tokens: int = 32, temperature: float = 0.0, seed: int = 0
    ) -> str:
        """What the model writes after a text, by transformers' `generate`; the text is not
        repeated. A `replace` around the call steers it.

        Args:
            text: as `ids` takes it, one sequence.
            new_tokens: the most tokens to write; EOS ends the answer earlier.
            temperature: what logits are divided by; 0 takes the most probable token.
            seed: of what is drawn; without effect at temperature 0.

        Raises:
            ValueError: these are not token ids of this model, there are several sequences, or the
                new tokens do not fit in its context.
        """
        ids = self._one(text)
        new_tokens, seed = whole("new_tokens", new_tokens, 1), whole("seed", seed)
        if not 0 <= number("temperature", temperature) < float("inf"):
            raise ValueError(f"temperature must be finite and at least 0, got {temperature}")
        check_context(ids.shape[1] + new_tokens, self.config, self.name)
        drawn = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        how = drawn if temperature else {"do_sample": False}
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), quiet():
            torch.manual_seed(seed)
            written = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new_tokens,
                pad_token_id=self.tokenizer.pad_token_id,
                **how,
            )
        return str(self.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))

    def _one(self, text: Ids) -> Int[Tensor, "1 seq"]:
        """The ids of a single sequence."""
        if len(ids := self.ids(text)) != 1:
            raise ValueError(f"text must be one sequence, got {len(ids)}; pass one after the other")
        return ids


def load_model(
    model: str | Path,
    dtype: str | torch.dtype = "auto",
    device: str = "auto",
    attention: str = "auto",
    *,
    device_map: str | None = None,
    compile: bool = False,
    check: Callable[[Any, Any], None] | None = None,
) -> LanguageModel:
    """Loads a language model and its tokenizer from a local folder or a hub id.

        lm = load_model("google/gemma-2-2b")

    Args:
        model: folder or hub id; `tiny_gemma2` and `tiny_gemma2_it` come with the package.
        dtype: of weights and computation: bfloat16, in which Gemma was trained, or float32; auto
            takes the one that suits the device.
        device: cpu, cuda, cuda:1, …; auto takes cuda where there is one.
        attention: one of `Family.attention`; auto takes the first.
        device_map: how accelerate spreads the layers over devices (`placement.DEVICE_MAPS`).
        compile: compile norms and MLPs with torch.compile; results may differ in their last bits.
        check: called with tokenizer and configuration before the weights are fetched and read; it
            may raise.

    Raises:
        ValueError: the model's family is not supported, its weights are incomplete, or an argument
            has a value that it cannot have.
        OSError: there is no such folder or hub model, or it cannot be reached.
    """
    name = checked_name(model)
    place = Path(name).absolute() if Path(name).is_dir() else None
    found = None if place is None else model_stamp(place)
    if device_map is not None:
        check_device_map(device_map, device)
    target = find_device(device)
    kind = good_dtype(target.type) if dtype == "auto" else dtype_name(dtype)
    if kind not in _DTYPES:
        raise ValueError(f"dtype must be one of auto, {', '.join(_DTYPES)}, got {kind!r}")
    tokenizer, config = load_tokenizer(name)
    family = family_of(config)
    attention = _chosen_attention(family, attention)
    check_attention(attention, target, kind)
    if check is not None:
        check(tokenizer, config)
    lm = _loaded(name, config, kind, attention, device_map)
    target = spread_device(lm, device_map) if device_map is not None else target
    with explained(name):  # which may be larger than the device's memory
        lm = (lm if device_map is not None else lm.to(target)).eval().requires_grad_(False)
    digest = loaded_fingerprint(lm)
    if compile:
        compile_layers(lm.model.layers, family.compiled)
    known = (lm, tokenizer, name, digest, target, kind, attention, compile)
    return LanguageModel(*known, None if place is None else str(place), found)


def load_tokenizer(model: str | Path) -> tuple["PreTrainedTokenizerBase", Any]:
    """The tokenizer and configuration of a model without its weights; errors as `load_model`."""
    name = checked_name(model)
    folder = model_folder(name)
    config = read_config(folder, name)
    with quiet():
        return load_checked_tokenizer(folder, name, config), config


def _chosen_attention(family: Family, attention: str) -> str:
    """The implementation of attention, `auto` resolved.

    Raises:
        ValueError: it does not compute what the family's models were trained with.
    """
    if attention == "auto":
        return family.attention[0]
    if attention not in family.attention:
        raise ValueError(
            f"attention must be one of auto, {', '.join(family.attention)}, got {attention!r}; "
            f"{family.why_attention}"
        )
    return attention


def _loaded(name: str, config: Any, dtype: str, attention: str, device_map: str | None) -> Any:
    """transformers' model with exactly the weights of its files."""
    family = family_of(config)
    _, causal = family.classes()
    more: dict[str, Any] = {} if device_map is None else {"device_map": device_map}
    if family.renamed_weights:
        more["key_mapping"] = dict(family.renamed_weights)
    folder = model_folder(name, weights=True)
    with quiet():
        check_weights(folder, name, config)
        with explained(name):
            lm, info = causal.from_pretrained(
                folder,
                config=config,
                dtype=_DTYPES[dtype],
                attn_implementation=attention,
                output_loading_info=True,
                local_files_only=True,
                **more,
            )
    check_loading(name, lm, info)
    return lm


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' own progress bars and warnings out of our log lines.

    One of the warnings is a table of all weights that are left out on purpose; `check_loading`
    checks that no others are left out.
    """
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
