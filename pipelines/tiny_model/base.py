"""Makes the tiny Gemma 2 that ships: `python -m scopeworks.pipelines.tiny_model --out DIR`.

Owns the model's shape, its tokenizer, its training and its model card. The result is a plain
`Gemma2ForCausalLM` folder with everything Gemma 2 has (grouped-query attention, alternating sliding
window, both soft-caps, pre- and post-norms), small enough to ship and good enough that its
activations have structure.
"""

import json
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

from ...harvest.text.documents import is_held_out, read_files
from ...harvest.text.stdlib import stdlib_sources
from ...machine import has_bfloat16_units
from ...store.place.files import write_file

HELD_OUT_SHARE = 0.05
SPECIAL_TOKENS = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
PAD, EOS, BOS = 0, 1, 2
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Recipe:
    """How the shipped model was trained; its model card shows these figures."""

    vocab_size: int = 4096
    context: int = 256
    batch_sequences: int = 16
    n_steps: int = 3200
    warmup_steps: int = 200
    peak_lr: float = 3e-3
    weight_decay: float = 0.1
    seed: int = 0


def model_config(recipe: Recipe) -> Gemma2Config:
    """The configuration of a Gemma 2 with six layers.

    n_heads · head_dim = 160 ≠ d_model = 128, as in the real sizes.
    """
    return Gemma2Config(
        vocab_size=recipe.vocab_size,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=40,
        query_pre_attn_scalar=40,
        max_position_embeddings=recipe.context,
        sliding_window=128,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        attn_implementation="eager",  # pyright: ignore[reportCallIssue]
    )


def train_tokenizer(texts: list[str], recipe: Recipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE that, like Gemma's tokenizer, puts BOS first and has turn markers."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        extra_special_tokens=["<start_of_turn>", "<end_of_turn>"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )


def token_stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """All documents as one int64 array, EOS after each, no BOS."""
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return np.concatenate([np.asarray([*ids, EOS], dtype=np.int64) for ids in encoded])


def windows(stream: np.ndarray, starts: np.ndarray, recipe: Recipe) -> Tensor:
    """Sequences [n, context + 1]: BOS, then `context` tokens; the last is only a target."""
    body = stream[starts[:, None] + np.arange(recipe.context)]
    bos = np.full((len(starts), 1), BOS, dtype=np.int64)
    return torch.from_numpy(np.concatenate([bos, body], axis=1))


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine to a hundredth of the peak."""
    if step < recipe.warmup_steps:
        return recipe.peak_lr * (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.n_steps - recipe.warmup_steps)
    return recipe.peak_lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def optimizer_for(model: Gemma2ForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay for matrices only: Gemma stores norm gains as an offset from 1."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    gains = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak_lr, betas=(0.9, 0.95), fused=True)


def train_model(stream: np.ndarray, recipe: Recipe, out: Path) -> Gemma2ForCausalLM:
    """Trains on random windows of the stream; leaves a usable snapshot in `out` every 500 steps."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    model = Gemma2ForCausalLM(model_config(recipe)).train()
    optimizer = optimizer_for(model, recipe)

    # The loss is compiled too: soft-cap and cross-entropy take a third of the time.
    @torch.compile
    def loss_of(ids: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16_units()):
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        return functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())

    started, mean_loss = time.monotonic(), 0.0
    for step in range(recipe.n_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        starts = rng.integers(0, len(stream) - recipe.context, recipe.batch_sequences)
        loss = loss_of(windows(stream, starts, recipe))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean_loss += (loss.item() - mean_loss) / min(step + 1, 100)
        if (step + 1) % 100 == 0:
            rate = (
                (step + 1) * recipe.batch_sequences * recipe.context / (time.monotonic() - started)
            )
            print(
                f"step {step + 1}/{recipe.n_steps} loss {mean_loss:.4f} {rate:.0f} tokens/s",
                flush=True,
            )
        if (step + 1) % 500 == 0:
            save_weights(model, out)
    return model.eval()


def save_weights(model: Gemma2ForCausalLM, out: Path) -> None:
    """Writes a bfloat16 copy beside `out`, then moves its files, so that `out` always holds a
    model."""
    aside = out.with_name(out.name + ".part")
    copy = Gemma2ForCausalLM(model.config)
    copy.bfloat16()
    copy.load_state_dict(model.state_dict())
    copy.save_pretrained(aside)
    for path in aside.iterdir():
        path.replace(out / path.name)
    aside.rmdir()


@torch.no_grad()
def held_out_loss(model: Gemma2ForCausalLM, stream: np.ndarray, recipe: Recipe) -> float:
    """Mean cross-entropy in nats per token over windows that do not overlap."""
    starts = np.arange(0, len(stream) - recipe.context, recipe.context)
    total = 0.0
    for part in np.array_split(starts, max(1, len(starts) // 16)):
        ids = windows(stream, part, recipe)
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()
        total += functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"
        ).item()
    return total / (len(starts) * recipe.context)


def ngram_losses(train: np.ndarray, held_out: np.ndarray, vocab_size: int) -> tuple[float, float]:
    """Held-out nats per token of a unigram model (add-one) and of a bigram model.

    The bigram model is smoothed with the unigram model p(b):
    p(b | a) = (count(a, b) + k·p(b)) / (count(a) + k) with k = 20.
    """
    unigram = (np.bincount(train, minlength=vocab_size) + 1.0) / (len(train) + vocab_size)
    pairs = np.zeros((vocab_size, vocab_size), dtype=np.float32)
    np.add.at(pairs, (train[:-1], train[1:]), 1.0)
    first, second = held_out[:-1], held_out[1:]
    k = 20.0
    bigram = (pairs[first, second] + k * unigram[second]) / (pairs.sum(axis=1)[first] + k)
    return float(-np.log(unigram[held_out]).mean()), float(-np.log(bigram).mean())


def model_card(recipe: Recipe, facts: dict[str, float]) -> str:
    """The README of the model folder."""
    return f"""---
license: apache-2.0
library_name: transformers
---
# tiny_gemma2

A real but tiny `Gemma2ForCausalLM` ({facts["n_parameters"]:,.0f} parameters, bfloat16) with which
scopeworks tests and demonstrates itself. Grouped-query attention (4 heads, 2 key-value heads,
head_dim 40), alternating sliding window (128), attention and logit soft-caps, pre- and post-norms;
6 layers, d_model 128, byte-level BPE of {recipe.vocab_size} tokens, context {recipe.context}.

Trained from random weights on the Python standard library's own sources (Python
{platform.python_version()}, tests left out), split by document: a document is held out if blake2b
of its text falls into the lowest {HELD_OUT_SHARE:.0%}.

| | |
|---|---|
| training tokens (distinct / seen) | {facts["train_tokens"]:,.0f} / {facts["seen_tokens"]:,.0f} |
| held-out tokens | {facts["held_out_tokens"]:,.0f} |
| **held-out loss, nats per token** | **{facts["held_out_loss"]:.3f}** |
| bigram baseline | {facts["bigram_loss"]:.3f} |
| unigram baseline | {facts["unigram_loss"]:.3f} |
| uniform | {math.log(recipe.vocab_size):.3f} |

Recipe: `{json.dumps(asdict(recipe))}`,
AdamW (0.9, 0.95), gradient norm clipped at 1, bfloat16 autocast, {facts["minutes"]:.0f} minutes on
{facts["threads"]:.0f} CPU thread(s). Remake it with

    python -m scopeworks.pipelines.tiny_model --out pipelines/tiny_gemma2

It knows Python's style and little else; use it to test tools, for nothing more.
"""


def main(
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of 4,096 tokens.")] = 3200,
) -> None:
    """Trains the tiny Gemma 2 on the standard library's sources; writes it with its card."""
    recipe = Recipe(n_steps=steps)
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    texts = [document.text for document in read_files(stdlib_sources()) if document.text.strip()]
    train_texts = [text for text in texts if not is_held_out(text, HELD_OUT_SHARE)]
    held_out_texts = [text for text in texts if is_held_out(text, HELD_OUT_SHARE)]
    tokenizer = train_tokenizer(train_texts, recipe)
    tokenizer.save_pretrained(out)
    train, held_out = token_stream(tokenizer, train_texts), token_stream(tokenizer, held_out_texts)
    print(
        f"{len(train_texts)} documents with {len(train)} tokens to train on, "
        f"{len(held_out_texts)} with {len(held_out)} held out"
    )

    model = train_model(train, recipe, out)
    save_weights(model, out)
    shipped = Gemma2ForCausalLM.from_pretrained(
        out, dtype=torch.float32, attn_implementation="eager"
    )
    unigram, bigram = ngram_losses(train, held_out, recipe.vocab_size)
    facts = {
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "train_tokens": len(train),
        "seen_tokens": recipe.n_steps * recipe.batch_sequences * recipe.context,
        "held_out_tokens": len(held_out),
        "held_out_loss": held_out_loss(shipped.eval(), held_out, recipe),
        "unigram_loss": unigram,
        "bigram_loss": bigram,
        "minutes": (time.monotonic() - started) / 60,
        "threads": torch.get_num_threads(),
    }
    write_file(out / "README.md", model_card(recipe, facts).encode())
    print(json.dumps(facts, indent=1))
