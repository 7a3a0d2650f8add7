"""Small Gemma 2 models with random weights, of shapes unlike the shipped one, and a byte tokenizer
for them.
"""

from typing import Any

import torch

SHAPES = {
    # name: (d_model, heads, kv heads, head_dim, layers, sliding window)
    "odd_heads": (36, 3, 1, 20, 3, 5),
    "one_layer": (35, 5, 5, 6, 1, 64),
    "grouped": (32, 4, 2, 16, 4, 3),
}
VOCABULARY = 300


def build_model(name: str, seed: int = 0) -> Any:
    """A random Gemma 2 whose norm gains and head outputs are far from trivial."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    d_model, heads, kv_heads, head_dim, layers, window = SHAPES[name]
    torch.manual_seed(seed)
    config = Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=d_model,
        intermediate_size=3 * d_model,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        query_pre_attn_scalar=head_dim + 1,
        sliding_window=window,
        max_position_embeddings=64,
        attn_logit_softcapping=4.0,
    )
    config._attn_implementation = "eager"
    model = Gemma2ForCausalLM(config).eval().requires_grad_(False)
    for parameter_name, p in model.named_parameters():
        p.normal_(std=0.3 if "norm" in parameter_name else p.shape[-1] ** -0.5)
    return model


def build_tokenizer():
    """Byte-level tokens with Gemma's special ids: pad 0, eos 1, bos 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<eos>", "<bos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )


def train_tokenizer(text: str) -> Any:
    """Byte-level BPE of 600 tokens, with tokens of several characters and runs of spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<pad>", "<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )
