"""Makes the tiny Gemma 2's instruction-tuned twin.

    python -m scopeworks.pipelines.tiny_model.twin --out DIR

Owns the fine-tuning and its model card; `questions` makes the questions. The twin has the base
model's shape and tokenizer, and has learnt to answer a user's turn and to end its own.
"""

import json
import platform
import time
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, Gemma2ForCausalLM, GenerationConfig

from ...harvest.text.file_formats import Bad, TextDocument
from ...harvest.tokens.chat import ChatTemplate
from ...machine import has_bfloat16_units
from ...store.place.files import write_file
from .base import EOS, Recipe, learning_rate, optimizer_for, save_weights
from .questions import Turn, stdlib_questions

END_OF_TURN = "<end_of_turn>"
IGNORED = -100
"""Label of a position that does not count in the loss."""


RECIPE = Recipe(batch_sequences=32, n_steps=800, warmup_steps=50, peak_lr=1e-3)
"""How the shipped twin was fine-tuned; the figures end up in its model card."""


@dataclass(frozen=True)
class Conversation:
    """Token ids of one conversation; the model answers from `start` on."""

    ids: np.ndarray
    start: int


def conversations(tokenizer: Any, questions: list[Turn], context: int) -> list[Conversation]:
    """The questions, in the chat template, with their answers.

    Conversations of more than `context` tokens are left out.
    """
    template, found = ChatTemplate(tokenizer), []
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    asked = template.token_ids([TextDocument("question", one.asked) for one in questions])
    answers = tokenizer([one.answer for one in questions], add_special_tokens=False)["input_ids"]
    for turn, answer in zip(asked, answers, strict=True):
        if isinstance(turn, Bad) or len(turn) + len(answer) + 1 > context:
            continue
        ids = np.concatenate([turn.astype(np.int64), [*answer, end]])
        found.append(Conversation(ids, len(turn)))
    return found


def padded(batch: list[Conversation], pad: int) -> tuple[Tensor, Tensor]:
    """(ids, labels), both [batch, longest].

    A label is the next token if that belongs to an answer, and `IGNORED` otherwise.
    """
    longest = max(len(one.ids) for one in batch)
    ids, labels = np.full((2, len(batch), longest), [[[pad]], [[IGNORED]]])
    for row, one in enumerate(batch):
        ids[row, : len(one.ids)] = one.ids
        labels[row, one.start - 1 : len(one.ids) - 1] = one.ids[one.start :]
    return torch.from_numpy(ids), torch.from_numpy(labels)


def answer_losses(model: Gemma2ForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats of every answer token; logits are computed for these only.

    Padding is at the end, where causal attention does not see it.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16_units()):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[labels != IGNORED]).float()
    cap = model.config.final_logit_softcapping
    assert cap is not None
    logits = cap * torch.tanh(logits / cap)
    return functional.cross_entropy(logits, labels[labels != IGNORED], reduction="none")


def fine_tune(model: Gemma2ForCausalLM, data: list[Conversation], recipe: Recipe, pad: int) -> None:
    """Trains on the answers, in batches of similar length; each epoch is shuffled again."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    optimizer: Any = optimizer_for(model.train(), recipe)
    batches: list[np.ndarray] = []
    for step in range(recipe.n_steps):
        batches = batches or epoch(data, recipe.batch_sequences, rng)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        ids, labels = padded([data[i] for i in batches.pop()], pad)
        loss = answer_losses(model, ids, labels).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{recipe.n_steps} loss {loss.item():.4f}", flush=True)
    model.eval()


def epoch(data: list[Conversation], size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches of all conversations, as arrays of their indices.

    Conversations are shuffled, then sorted by length in blocks of 16 batches. Then all batches are
    shuffled.
    """
    order = rng.permutation(len(data))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), 16 * size):
        block = order[start : start + 16 * size]
        block = block[np.argsort([len(data[i].ids) for i in block], kind="stable")]
        batches += [block[i : i + size] for i in range(0, len(block), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


@torch.no_grad()
def answer_loss(model: Gemma2ForCausalLM, data: list[Conversation], pad: int) -> float:
    """Mean cross-entropy in nats per token of the answers, including the end of the turn."""
    total, n = 0.0, 0
    order = sorted(data, key=lambda one: len(one.ids))
    for start in range(0, len(order), 32):
        losses = answer_losses(model, *padded(order[start : start + 32], pad))
        total, n = total + float(losses.double().sum()), n + len(losses)
    return total / n


def model_card(recipe: Recipe, facts: dict[str, float], examples: str) -> str:
    """The README of the model folder."""
    return f"""---
license: apache-2.0
library_name: transformers
---
# tiny_gemma2_it

The instruction-tuned twin of `tiny_gemma2`, of the same shape and tokenizer, with which scopeworks
shows what becomes of SAEs when their model is fine-tuned. It was fine-tuned on
{facts["train_conversations"]:,.0f} questions about the standard library of Python
{platform.python_version()}: what a function or class does, answered by the first sentence of its
docstring; or, given that sentence, how its signature is written. Conversations are in the
tokenizer's chat template, the loss is that of the answer's tokens and of the end of the turn.
Questions about modules that `tiny_gemma2` has not seen are held out.

| held-out questions | {facts["held_out_conversations"]:,.0f} |
|---|---|
| **answer loss, nats per token** | **{facts["loss"]:.3f}** |
| before fine-tuning | {facts["loss_before"]:.3f} |

What it answers to held-out questions, always with the likeliest token:

{examples}
Recipe: `{json.dumps(asdict(recipe))}`,
AdamW (0.9, 0.95), gradient norm clipped at 1, {facts["minutes"]:.0f} minutes on
{facts["threads"]:.0f} CPU thread(s) of a busy machine. Remake it with

    python -m scopeworks.pipelines.tiny_model.twin --out pipelines/tiny_gemma2_it

It knows the form of an answer and few answers; use it to test tools, for nothing more.
"""


@torch.no_grad()
def answered(model: Any, tokenizer: Any, question: Turn) -> str:
    """The model's likeliest answer, special tokens shown."""
    (turn,) = ChatTemplate(tokenizer).token_ids([TextDocument("question", question.asked)])
    ids = torch.from_numpy(np.asarray(turn).astype(np.int64))[None]
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=48,
        do_sample=False,
        eos_token_id=end,
    )
    return tokenizer.decode(made[0, ids.shape[1] :])


def main(
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    steps: Annotated[int, typer.Option(min=1, help="Updates of 32 conversations.")] = 800,
    base: Annotated[Path | None, typer.Option(help="Model to start from; tiny_gemma2.")] = None,
) -> None:
    """Fine-tunes the tiny Gemma 2 on questions about the standard library; writes it with its
    card."""
    started, recipe = time.monotonic(), replace(RECIPE, n_steps=steps)
    folder = base or Path(str(files("scopeworks.pipelines") / "tiny_gemma2"))
    out.mkdir(parents=True, exist_ok=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = _loaded(folder)
    learnt, asked = (
        [one for one in stdlib_questions(held_out) if one.answer] for held_out in (False, True)
    )
    train = conversations(tokenizer, learnt, recipe.context)
    held_out = conversations(tokenizer, asked, recipe.context)
    print(f"{len(train)} conversations to train on, {len(held_out)} held out", flush=True)
    pad = tokenizer.pad_token_id
    facts: dict[str, float] = {
        "train_conversations": len(train),
        "held_out_conversations": len(held_out),
        "loss_before": answer_loss(model, held_out, pad),
    }
    fine_tune(model, train, recipe, pad)
    save_weights(model, out)
    write_generation_config(model.config, tokenizer, out)
    copy_tokenizer(folder, out)
    shipped = _loaded(out)
    facts |= {
        "loss": answer_loss(shipped, held_out, pad),
        "minutes": (time.monotonic() - started) / 60,
        "threads": torch.get_num_threads(),
    }
    picked = np.random.default_rng(recipe.seed).choice(len(asked), 6, replace=False)
    shown = [
        f"    {asked[i].asked}\n    → {answered(shipped, tokenizer, asked[i])}\n" for i in picked
    ]
    write_file(out / "README.md", model_card(recipe, facts, "\n".join(shown)).encode())
    print(json.dumps(facts, indent=1))


def write_generation_config(config: Any, tokenizer: Any, out: Path) -> None:
    """Writes what ends a text that the twin generates: EOS or the end of its turn."""
    generation = GenerationConfig.from_model_config(config)
    generation.eos_token_id = [EOS, tokenizer.convert_tokens_to_ids(END_OF_TURN)]
    generation.save_pretrained(out)


def copy_tokenizer(base: Path, out: Path) -> None:
    """Copies the base model's tokenizer, with the vocabulary on one line: a smaller file."""
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        write_file(out / name, (base / name).read_bytes())
    definition = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    text = json.dumps(definition, ensure_ascii=False, separators=(",", ":"))
    write_file(out / "tokenizer.json", text.encode())


def _loaded(folder: Path) -> Gemma2ForCausalLM:
    return Gemma2ForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


if __name__ == "__main__":
    typer.run(main)
