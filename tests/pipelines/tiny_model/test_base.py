"""The shipped Gemma 2 is a real one, small enough, and better than counting words."""

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scopeworks.pipelines.tiny_model import base as tiny_model

FOLDER = Path(str(files("scopeworks.pipelines") / "tiny_gemma2"))


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(
        FOLDER, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


def test_model_has_every_part_of_gemma_2(model):
    config = model.config
    assert type(model).__name__ == "Gemma2ForCausalLM"
    assert config.num_attention_heads > config.num_key_value_heads > 1
    assert config.num_attention_heads * config.head_dim != config.hidden_size
    assert config.attn_logit_softcapping == 50
    assert config.final_logit_softcapping == 30
    assert set(config.layer_types) == {"sliding_attention", "full_attention"}
    assert config.sliding_window < config.max_position_embeddings


def test_weights_are_small_enough_to_ship():
    assert (FOLDER / "model.safetensors").stat().st_size <= 6e6


def test_tokenizer_round_trips_and_puts_bos_first(tokenizer):
    text = "def f(x):\n    return {'é': x ** 2}  # 数\n"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id == 2
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 0)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_chat_template_wraps_turns(tokenizer):
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<bos><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n"


def test_model_card_states_what_the_weights_do(model, tokenizer):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    stated = {
        name: float(re.search(rf"{name}[^|]*\| \**([\d.]+)", card).group(1))  # pyright: ignore[reportOptionalMemberAccess]
        for name in ("held-out loss", "bigram baseline", "unigram baseline")
    }
    assert stated["held-out loss"] < stated["bigram baseline"] < stated["unigram baseline"]
    texts = [
        document.text
        for document in tiny_model.read_files(tiny_model.stdlib_sources())
        if tiny_model.is_held_out(document.text, tiny_model.HELD_OUT_SHARE)
    ]
    recipe = tiny_model.Recipe()
    stream = tiny_model.token_stream(tokenizer, texts)[: 64 * recipe.context + 1]
    loss = tiny_model.held_out_loss(model, stream, recipe)
    # Another Python version has other held-out documents: near, not equal.
    assert loss == pytest.approx(stated["held-out loss"], abs=0.6)
    assert loss < stated["bigram baseline"]


def test_ngram_losses_equal_their_definition():
    train = np.array([0, 1, 0, 1, 2, 0])
    held_out = np.array([0, 1, 1])
    unigram, bigram = tiny_model.ngram_losses(train, held_out, vocab_size=3)
    p = np.array([4, 3, 2]) / 9
    assert unigram == pytest.approx(-np.log(p[held_out]).mean())
    conditional = [(2 + 20 * p[1]) / (2 + 20), (0 + 20 * p[1]) / (2 + 20)]
    assert bigram == pytest.approx(-np.log(conditional).mean(), rel=1e-6)


def test_learning_rate_warms_up_peaks_and_falls():
    recipe = tiny_model.Recipe(n_steps=1000, warmup_steps=100, peak_lr=1.0)
    rates = [tiny_model.learning_rate(step, recipe) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[100] == pytest.approx(1.0)
    assert rates[-1] < 0.011


def test_windows_are_bos_and_consecutive_tokens():
    recipe = tiny_model.Recipe(context=4)
    made = tiny_model.windows(np.arange(100, 120), np.array([0, 7]), recipe)
    assert made.tolist() == [[2, 100, 101, 102, 103], [2, 107, 108, 109, 110]]
