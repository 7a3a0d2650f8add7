"""The readout of a model: tokens that are never listed, and texts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from scopeworks.evaluate.latents.weights.readout import KINDS, Readout, read_readout
from scopeworks.harvest.model.tensors import Tensors
from scopeworks.tests.reference.gemma_models import build_model, build_tokenizer

MODEL = str(Path(__file__).parents[4] / "pipelines" / "tiny_gemma2")


def gemma_like() -> Any:
    """A tokenizer with Gemma's kinds of tokens: byte tokens, unused ones, text among the added."""
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", "<bos>", "<unused7>", "▁the", "a", "<0x41>", "<0xE2>", "é"]
    tokenizer = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False, special=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )


class _Config:
    vocab_size = 12


def kinds_of(tokenizer: Any, n: int = 12) -> list[str | None]:
    config = _Config()
    config.vocab_size = n
    readout = Readout("m", config, tokenizer, None)  # type: ignore[arg-type]
    return [None if kind < 0 else KINDS[kind] for kind in readout.kinds.tolist()]


def test_kinds_of_tokens_are_told_apart():
    assert kinds_of(gemma_like()) == [
        *["special"] * 3, "unused", None, None, "byte", "byte", None, None,
        *["beyond the tokenizer"] * 2,
    ]  # fmt: skip


def test_texts_of_byte_tokens_can_be_joined():
    readout = Readout("m", _Config(), gemma_like(), None)  # type: ignore[arg-type]
    assert readout.texts([4, 5, 6, 8, 9]) == [" the", "a", "A", "é", "\n\n"]
    assert readout.texts([7]) == [b"\xe2".decode("utf-8", "surrogateescape")]


def test_texts_of_a_byte_level_vocabulary_are_its_bytes():
    readout = Readout("m", _Config(), build_tokenizer(), None)  # type: ignore[arg-type]
    ids = readout.tokenizer("a “b", add_special_tokens=False)["input_ids"]
    texts = readout.texts(ids)
    assert len(texts) == 6
    whole = "".join(texts).encode("utf-8", "surrogateescape").decode()
    assert whole == "a “b"


@pytest.mark.parametrize("tied", [True, False])
def test_unembedding_and_gain_are_the_models(tmp_path: Path, tied: bool):
    model = build_model("grouped")
    model.config.tie_word_embeddings = tied
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(300, 32))
    model.save_pretrained(tmp_path)
    tensors = Tensors(str(tmp_path), model.config)
    readout = Readout("m", model.config, None, tensors)  # type: ignore[arg-type]
    torch.testing.assert_close(readout.unembedding(10, 20), model.lm_head.weight[10:20].detach())
    torch.testing.assert_close(readout.gain, 1 + model.model.norm.weight)


def test_readout_needs_a_model(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_readout(str(tmp_path / "none"))
    assert read_readout(MODEL).n_tokens == 4096
