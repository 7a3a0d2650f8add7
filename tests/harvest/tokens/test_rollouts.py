"""Answers that a model samples: what is drawn, where it is put, and that it can be made again."""

import itertools
import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from scopeworks.harvest.model.loading import load_model
from scopeworks.harvest.settings import RolloutSettings
from scopeworks.harvest.text.documents import TextDocument
from scopeworks.harvest.tokens import rollouts as rollouts_module
from scopeworks.harvest.tokens.chat import ChatTemplate
from scopeworks.harvest.tokens.rollouts import sample, sample_rollouts
from scopeworks.store import TokenStore

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}user: {{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}model:{% endif %}"
)
PROMPTS = ["one", "two words", "def f(x):", "some more words than the others", "five"]


@pytest.fixture
def chat_model_dir(model_dir, tmp_path):
    """The random model with a chat template, whose turns end in EOS."""
    folder = shutil.copytree(model_dir, tmp_path / "chat")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def prompts(tmp_path):
    """A file with five prompts."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"text": prompt}) + "\n" for prompt in PROMPTS))
    return path


@pytest.fixture
def settings(chat_model_dir, prompts, tmp_path):
    """Five conversations of at most 60 tokens, 12 of them sampled."""
    return RolloutSettings(
        model=str(chat_model_dir), text=[str(prompts)], out=str(tmp_path / "out"), n=5,
        new_tokens=12, context=60, seed=3, dtype="float32", device="cpu",
    )  # fmt: skip


def written(settings) -> tuple[np.ndarray, np.ndarray]:
    store = TokenStore.open(settings.out)
    return np.asarray(store.sequences("held_out")[:]), np.asarray(store.sequences("parts")[:])


def changed(settings, **changes):
    return RolloutSettings.model_validate(settings.model_dump() | changes)


def plainly_sampled(model, prompt, uniform, stops) -> list[int]:
    """One token after the other, each by a forward pass over all before it."""
    ids = list(prompt)
    for u in uniform:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double()
        passed = itertools.accumulate(torch.softmax(logits, -1).tolist())
        ids.append(next(token for token, share in enumerate(passed) if share > u))
        if ids[-1] in stops:
            break
    return ids[len(prompt) :]


@torch.no_grad()
def test_sampled_tokens_are_those_of_passes_without_a_cache(model_dir):
    lm = load_model(model_dir, "float32", "cpu")
    rng = np.random.default_rng(0)
    turns, uniform = rng.integers(3, 200, (4, 7)), rng.random((4, 9))
    plain = [plainly_sampled(lm.model, a, b, set()) for a, b in zip(turns, uniform, strict=True)]
    found = sample(lm.model, torch.from_numpy(turns), torch.from_numpy(uniform), set())
    assert found == plain
    stops = {plain[1][3], plain[2][0]}
    cut = sample(lm.model, torch.from_numpy(turns), torch.from_numpy(uniform), stops)
    for whole, short in zip(plain, cut, strict=True):
        ends = [i + 1 for i, token in enumerate(whole) if token in stops]
        assert short == whole[: min(ends, default=len(whole))]


@torch.no_grad()
def test_tokens_are_drawn_as_often_as_they_are_likely(model_dir):
    lm = load_model(model_dir, "float32", "cpu")
    n, turn = 4000, torch.tensor([[2, 40, 50]])
    for temperature in (1.0, 0.5):
        uniform = (torch.arange(n, dtype=torch.float64)[:, None] + 0.5) / n
        logits = lm.model(input_ids=turn).logits[0, -1].double() / temperature
        found = sample(lm.model, turn.expand(n, 3), uniform, set(), temperature)
        counts = np.bincount([one for (one,) in found], minlength=len(logits))
        # An even grid of n numbers misses an interval's share by less than one of them.
        assert np.abs(counts - n * logits.softmax(-1).numpy()).max() < 1.01


def test_conversation_is_template_rollout_and_padding(settings, chat_model_dir):
    report = sample_rollouts(settings)
    ids, parts = written(settings)
    tokenizer: Any = load_model(chat_model_dir, "float32", "cpu").tokenizer
    template = ChatTemplate(tokenizer)
    turns = template.token_ids([TextDocument("p", prompt) for prompt in PROMPTS])
    left = [turn.tolist() for turn in turns if isinstance(turn, np.ndarray)]
    n_sampled = 0
    for sequence, part in zip(ids, parts, strict=True):
        n_prompt, n_new = int(np.flatnonzero(part == 2)[0]), int((part == 2).sum())
        turn = sequence[:n_prompt].tolist()
        left.remove(turn)
        prefix = len(template.prefix)
        wanted = [0] * prefix + [1] * (n_prompt - prefix) + [2] * n_new
        assert part.tolist() == wanted + [0] * (ids.shape[1] - len(wanted))
        assert not sequence[n_prompt + n_new :].any()
        assert n_new == 12 or sequence[n_prompt + n_new - 1] == 1
        n_sampled += n_new
    assert left == []
    assert (parts == 2).any(0)[-1]  # as long as the longest
    assert (report.n, report.n_tokens) == (5, n_sampled)
    assert TokenStore.open(settings.out).provenance["masked_prefix"] == len(template.prefix)


def test_same_settings_give_the_same_conversations_at_any_batch(settings, tmp_path):
    sample_rollouts(settings)
    again = changed(settings, out=str(tmp_path / "again"), batch=1)
    sample_rollouts(again)
    for one, other in zip(written(settings), written(again), strict=True):
        assert one.tolist() == other.tolist()
    other = changed(settings, out=str(tmp_path / "other"), seed=4)
    sample_rollouts(other)
    assert sorted(written(other)[0].tolist()) != sorted(written(settings)[0].tolist())


def test_prompts_are_answered_again_where_more_are_asked_for(settings):
    sample_rollouts(changed(settings, n=10))
    ids, parts = written(settings)
    twice = [np.where(parts[i] == 2, 0, ids[i]).tolist() for i in range(10)]
    assert twice[:5] == twice[5:]
    assert ids[:5].tolist() != ids[5:].tolist()


def test_store_that_is_there_is_kept_or_refused(settings):
    assert not sample_rollouts(settings).already_done
    assert sample_rollouts(settings).already_done
    with pytest.raises(ValueError, match=r"made otherwise: .*seed.*; choose another place"):
        sample_rollouts(changed(settings, seed=9))


def test_the_precision_that_decides_the_tokens_is_recorded(settings, monkeypatch):
    automatic = changed(settings, dtype="auto")
    monkeypatch.setattr("scopeworks.harvest.model.loading.good_dtype", lambda _device: "bfloat16")
    sample_rollouts(automatic)
    recorded = TokenStore.open(settings.out).provenance["settings"]
    assert recorded["dtype"] == "bfloat16"
    assert sample_rollouts(changed(settings, dtype="bfloat16")).already_done
    with pytest.raises(ValueError, match=r"made otherwise: .*dtype.*bfloat16.*float32"):
        sample_rollouts(settings)
    monkeypatch.setattr("scopeworks.harvest.model.loading.good_dtype", lambda _device: "float32")
    with pytest.raises(ValueError, match=r"made otherwise: .*dtype"):
        sample_rollouts(automatic)


def test_a_store_of_before_that_says_auto_is_kept(settings, monkeypatch):
    new = rollouts_module._provenance

    def of_before(*given):
        found = new(*given)
        return found | {"settings": found["settings"] | {"dtype": "auto"}}

    with monkeypatch.context() as patch:
        patch.setattr(rollouts_module, "_provenance", of_before)
        sample_rollouts(settings)
    assert sample_rollouts(settings).already_done


@pytest.mark.parametrize("kind", ["file", "full"])
def test_a_place_that_cannot_be_written_is_said_before_anything_is_sampled(
    settings, tmp_path, monkeypatch, kind
):
    out = tmp_path / "taken"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    monkeypatch.setattr(rollouts_module, "sample", None)
    with pytest.raises((ValueError, OSError), match="taken"):
        sample_rollouts(changed(settings, out=str(out)))


def test_prompts_without_room_for_an_answer_are_left_out(settings, tmp_path):
    report = sample_rollouts(changed(settings, context=20, out=str(tmp_path / "a")))
    assert report.read.skipped["too long"] > 0
    with pytest.raises(ValueError, match=r"must hold a prompt that fits into 4 tokens .*got none"):
        sample_rollouts(changed(settings, context=4, out=str(tmp_path / "b")))
    assert not (tmp_path / "b").exists()


def test_model_without_a_chat_template_is_refused(settings, model_dir):
    with pytest.raises(ValueError, match="must have a tokenizer with a chat template"):
        sample_rollouts(changed(settings, model=str(model_dir)))
