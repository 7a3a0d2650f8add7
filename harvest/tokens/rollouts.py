"""Rollouts: a model's own answers to prompts, as a token store of conversations.

Owns sampling, and which positions of a conversation are the user's prompt and which the model's
rollout. `chat` has the chat template; `evaluate` measures SAEs on the conversations.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...console import progress
from ...settings import differences
from ...store import TokenStore
from ...verbs import takes
from ..model.loading import LanguageModel, load_model
from ..model.vocabulary import check_context, tokenizer_fingerprint
from ..settings import RolloutSettings, everywhere, of_loaded
from ..settings_beside import write_settings
from ..text.documents import ReadReport, RowOptions, read_documents
from ..text.file_formats import Bad
from .chat import ChatTemplate, template_fingerprint
from .packing import sequence_order
from .splits import HELD_OUT, PART_NUMBERS, PARTS


@dataclass(frozen=True)
class Prompt:
    """A user's turn in the chat template, uint32 [n], and the number of its conversation."""

    number: int
    ids: np.ndarray


@dataclass
class RolloutReport:
    """What was read and sampled."""

    n: int = 0
    """Conversations."""
    ended: int = 0
    """Conversations that the model ended itself, by the end of its turn or EOS."""
    n_tokens: int = 0
    """Sampled tokens."""
    already_done: bool = False
    """Whether the store was there before, made by the same settings from the same prompts."""
    read: ReadReport = field(default_factory=ReadReport)

    place: str = ""
    """The token store's absolute path or URL."""

    def as_setting(self) -> str:
        """The token store's name in settings."""
        return self.place

    def __repr__(self) -> str:
        return f"RolloutReport({'; '.join(str(self).splitlines())})"

    def __str__(self) -> str:
        if self.already_done:
            return f"already complete by the same settings: {self.n:,} conversations"
        return (
            f"{self.read}\nwrote {self.n:,} conversations with {self.n_tokens:,} sampled tokens; "
            f"the model ended {self.ended:,} of them itself"
        )


@takes(RolloutSettings)
def sample_rollouts(settings: RolloutSettings, lm: LanguageModel | None = None) -> RolloutReport:
    """Samples the model's answers to prompts, and writes the conversations to a token store.

    Each sequence of the split `held_out` is a conversation: the prompt in the chat template, the
    sampled tokens up to the end of the turn, then PAD up to the longest conversation. The split
    `parts` says what each position is (`splits.PART_NUMBERS`). A conversation's random numbers
    depend on the seed and its own number alone, so equal settings give equal conversations on a
    machine. The dtype that the model was computed in is recorded, also if `dtype` was `auto`.

    Args:
        settings: see `RolloutSettings`.
        lm: the settings' model, loaded; given as `model` among settings by name.

    Raises:
        OSError: prompts, model or output cannot be read or written.
        ValueError: no prompt fits, or the output holds something else.
    """
    report = RolloutReport(place=everywhere(settings.out))
    if lm is None:
        lm = load_model(settings.model, settings.dtype, settings.device)
    else:
        settings = of_loaded(settings, lm)
    check_context(settings.context, lm.config, settings.model)
    template = ChatTemplate(lm.tokenizer)
    prompts = _chosen(_prompts(settings, template, report.read), settings)
    provenance = _provenance(settings, lm, len(template.prefix), prompts)
    if _already_done(settings, provenance):
        report.n, report.already_done = len(prompts), True
        return report
    special = {name: getattr(lm.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    place = settings.place(settings.out)
    # Created before anything is sampled, so that a place that cannot be written fails at once.
    TokenStore.create(place, context=settings.context, **special)
    ids, parts = _conversations(lm, template, prompts, settings, report)
    store = TokenStore.create(place, context=ids.shape[1], provenance=provenance, **special)
    store.write({HELD_OUT: ids, PARTS: parts})
    write_settings(place, "rollouts", settings)
    return report


@torch.no_grad()
def sample(
    model: Any,
    prompts: Int[Tensor, "batch seq"],
    uniform: Float[Tensor, "batch new"],
    stops: set[int],
    temperature: float = 1.0,
) -> list[list[int]]:
    """Samples an answer to each prompt: its tokens up to and with the first one in `stops`.

    Without a stop, an answer has as many tokens as there are uniform numbers for it. The token of a
    step is the first t with Σ_{i ≤ t} p_i > u, for p = softmax(logits / temperature) in float64 and
    the step's uniform number u.
    """
    found: list[list[int]] = [[] for _ in prompts]
    done, ids, cache = [False] * len(found), prompts, None
    for step in range(uniform.shape[1]):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        drawn = _drawn(out.logits[:, -1].double() / temperature, uniform[:, step, None])
        for row, token in enumerate(drawn.tolist()):
            if not done[row]:
                found[row].append(token)
                done[row] = token in stops
        if all(done):
            break
        ids, cache = drawn[:, None], out.past_key_values
    return found


def _drawn(
    logits: Float[Tensor, "batch vocabulary"], u: Float[Tensor, "batch 1"]
) -> Int[Tensor, " batch"]:
    """One token per row: the first whose cumulative probability exceeds the row's number u."""
    cumulative = logits.softmax(-1).cumsum(-1)
    passed = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)
    return passed[:, 0].clamp(max=logits.shape[1] - 1)


def _prompts(
    settings: RolloutSettings, template: ChatTemplate, report: ReadReport
) -> list[np.ndarray]:
    """All prompts in the template that leave space for an answer; others are counted."""
    options = RowOptions(settings.text_field, storage=settings.storage_options)
    documents = list(read_documents(settings.text, options, report))
    found = []
    for document, ids in zip(documents, template.token_ids(documents), strict=True):
        if isinstance(ids, Bad):
            report.refuse(ids, False, document)
        elif len(ids) >= settings.context:
            report.skipped["too long"] += 1
        else:
            found.append(ids)
    if not found:
        raise ValueError(
            f"text must hold a prompt that fits into {settings.context} tokens with its chat "
            f"template, got none ({report}); pass more text or a larger --context"
        )
    return found


def _chosen(prompts: list[np.ndarray], settings: RolloutSettings) -> list[Prompt]:
    """The first `n` prompts in an order by the seed; from the start again if there are fewer."""
    order = sequence_order(len(prompts), settings.seed, HELD_OUT)
    n = settings.n
    return [Prompt(number, prompts[order[number % len(order)]]) for number in range(n)]


def _conversations(
    lm: LanguageModel,
    template: ChatTemplate,
    prompts: list[Prompt],
    settings: RolloutSettings,
    report: RolloutReport,
) -> tuple[np.ndarray, np.ndarray]:
    """(token ids, parts), both uint32 [n, tokens of the longest], in the prompts' order."""
    tokenizer: Any = lm.tokenizer
    parts, longest = np.zeros((len(prompts), settings.context), dtype=np.uint32), 0
    ids = np.full_like(parts, tokenizer.pad_token_id)
    stops = {tokenizer.eos_token_id, template.end_of_turn}
    with progress("rollouts", len(prompts), "conversations") as bar:
        for batch in _batches(prompts, settings.batch):
            start = len(batch[0].ids)
            new = min(settings.new_tokens, settings.context - start)
            turns = torch.from_numpy(np.stack([one.ids for one in batch]).astype(np.int64))
            uniform = np.stack([_uniform(settings.seed, one.number, new) for one in batch])
            numbers = torch.from_numpy(uniform).to(lm.device)
            found = sample(lm.model, turns.to(lm.device), numbers, stops, settings.temperature)
            for one, tokens in zip(batch, found, strict=True):
                stop = start + len(tokens)
                ids[one.number, :stop] = [*one.ids, *tokens]
                parts[one.number, len(template.prefix) : start] = PART_NUMBERS["prompt"]
                parts[one.number, start:stop] = PART_NUMBERS["rollout"]
                longest = max(longest, stop)
                report.ended += tokens[-1] in stops
                report.n_tokens += len(tokens)
            bar.advance(len(batch))
    report.n = len(prompts)
    return ids[:, :longest], parts[:, :longest]


def _batches(prompts: list[Prompt], size: int) -> Iterator[list[Prompt]]:
    """Prompts of one length together, so that none is padded."""
    by_length = defaultdict(list)
    for one in prompts:
        by_length[len(one.ids)].append(one)
    for _, same in sorted(by_length.items()):
        for start in range(0, len(same), size):
            yield same[start : start + size]


def _uniform(seed: int, number: int, n: int) -> np.ndarray:
    """A conversation's random numbers, float64 in [0, 1)."""
    return np.random.default_rng([seed, number]).random(n)


def _provenance(
    settings: RolloutSettings, lm: LanguageModel, prefix: int, prompts: list[Prompt]
) -> dict[str, Any]:
    """What decides the tokens."""
    text = b"".join(one.ids.astype("<u4").tobytes() + b"\n" for one in prompts)
    free = {"out", "text", "device", "batch", "model"}
    return {
        "settings": settings.model_dump(mode="json", exclude=free) | {"dtype": lm.dtype},
        "tokenizer": tokenizer_fingerprint(lm.tokenizer),
        "chat_template": template_fingerprint(lm.tokenizer),
        "model": lm.fingerprint,
        "prompts": hashlib.blake2b(text, digest_size=8).hexdigest(),
        "masked_prefix": prefix,
    }


def _already_done(settings: RolloutSettings, provenance: dict[str, Any]) -> bool:
    """Whether this very store is there already.

    Raises:
        ValueError: a store of another provenance is there.
    """
    try:
        store = TokenStore.open(settings.place(settings.out))
    except FileNotFoundError:
        return False
    there, wanted = _flat(store.provenance), _flat(provenance)
    if there.get("dtype") == "auto":  # an earlier version recorded no more
        wanted["dtype"] = "auto"
    changed = differences(there, wanted)
    if changed:
        raise ValueError(
            f"token store {settings.out} is complete and was made otherwise: {'; '.join(changed)}; "
            "choose another place or the old settings"
        )
    return True


def _flat(provenance: dict[str, Any]) -> dict[str, Any]:
    """A provenance as one dictionary, without the level `settings`."""
    rest = {name: value for name, value in provenance.items() if name != "settings"}
    return rest | provenance.get("settings", {})
