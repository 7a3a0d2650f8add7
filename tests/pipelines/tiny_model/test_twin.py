"""The shipped twin: a plain model folder that has learnt the form of an answer."""

import json
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scopeworks.harvest.model.vocabulary import tokenizer_fingerprint
from scopeworks.pipelines.tiny_model import twin
from scopeworks.pipelines.tiny_model.questions import Turn, stdlib_questions

FOLDER = Path(str(files("scopeworks.pipelines") / "tiny_gemma2_it"))
BASE = FOLDER.with_name("tiny_gemma2")


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(
        FOLDER, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def asked():
    """Every seventh held-out question with an answer, so that both kinds are among them."""
    return [one for one in stdlib_questions(held_out=True) if one.answer][::7]


def test_folder_is_small_enough_to_ship_and_differs_in_weights_alone(tokenizer):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 6e6
    base = AutoTokenizer.from_pretrained(BASE)
    assert tokenizer_fingerprint(tokenizer) == tokenizer_fingerprint(base)
    assert tokenizer.chat_template == base.chat_template
    own, other = (json.loads((folder / "config.json").read_text()) for folder in (FOLDER, BASE))
    assert own == other


def test_card_states_what_the_weights_do(model, tokenizer, asked):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    stated = {
        name: float(re.search(rf"{name}[^|]*\| \**([\d.]+)", card).group(1))  # pyright: ignore[reportOptionalMemberAccess]
        for name in ("answer loss", "before fine-tuning")
    }
    data = twin.conversations(tokenizer, asked, 256)
    # Another Python version has other questions: near, not equal.
    assert twin.answer_loss(model, data, 0) == pytest.approx(stated["answer loss"], abs=0.4)
    assert stated["answer loss"] < stated["before fine-tuning"] - 1


def test_twin_answers_in_the_form_that_is_asked_for_and_ends_its_turn(model, tokenizer, asked):
    said = {one: twin.answered(model, tokenizer, one) for one in asked[:24]}
    assert sum(text.endswith("<end_of_turn>") for text in said.values()) >= 20
    like_a_signature = [re.match(r"`\w+\(", text) is not None for text in said.values()]
    wanted = [one.asked.startswith("Write the signature") for one in said]
    assert 6 <= sum(wanted) <= 18
    assert sum(a == b for a, b in zip(like_a_signature, wanted, strict=True)) >= 20


def test_plain_generation_stops_at_the_end_of_the_turn(model, tokenizer):
    turn = [{"role": "user", "content": "What does `shutil.copyfile(src, dst)` do?"}]
    ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt")
    made = model.generate(**ids, do_sample=False, max_new_tokens=80)
    assert made[0, -1] == tokenizer.convert_tokens_to_ids("<end_of_turn>")


def test_loss_is_that_of_the_answer_and_the_end_of_the_turn(model, tokenizer):
    (one,) = twin.conversations(tokenizer, [Turn("What does `f(x)` do?", "Return x.")], 256)
    assert tokenizer.decode(one.ids[one.start :]) == "Return x.<end_of_turn>"
    assert tokenizer.decode(one.ids[: one.start]).endswith("<start_of_turn>model\n")
    ids = torch.from_numpy(one.ids)[None]
    with torch.no_grad():
        log_p = model(input_ids=ids).logits.log_softmax(-1)[0]
    wanted = [-float(log_p[t - 1, ids[0, t]]) for t in range(one.start, ids.shape[1])]
    longer = twin.Conversation(np.concatenate([one.ids, one.ids[1:]]), one.start)
    padded_ids, labels = twin.padded([one, longer], 0)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        losses = twin.answer_losses(model, padded_ids[:1], labels[:1])
    # With bfloat16 units the loss is computed in bfloat16.
    assert losses.tolist() == pytest.approx(wanted, abs=0.05)
    assert (padded_ids.shape, int((labels[0] != twin.IGNORED).sum())) == (labels.shape, len(wanted))


def test_every_conversation_is_in_an_epoch_once():
    data = [twin.Conversation(np.zeros(n, np.int64), 1) for n in [3, 9, 4, 8, 2] * 20]
    batches = twin.epoch(data, 8, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(100))
    assert max(map(len, batches)) == 8


def test_few_updates_lower_the_loss_of_what_is_learnt(tokenizer):
    model = twin._loaded(BASE)
    asked = [Turn(f"What does `f{i}(x)` do?", "Return the item.") for i in range(16)]
    data = twin.conversations(tokenizer, asked, 256)
    before = twin.answer_loss(model, data, 0)
    twin.fine_tune(
        model, data, replace(twin.RECIPE, batch_sequences=8, n_steps=6, warmup_steps=1), 0
    )
    assert twin.answer_loss(model, data, 0) < before - 0.5
