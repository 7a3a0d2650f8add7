"""Tokenizers that are not those of their files, or of the model."""

import json

import pytest

from scopeworks.harvest.model.loading import load_tokenizer

TRUNCATION = {"max_length": 2, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}


def edit(folder, change) -> None:
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))


def test_load_tokenizer_refuses_a_folder_without_one(damaged):
    (damaged / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold its tokenizer \(tokenizer.json or"):
        load_tokenizer(damaged)


def test_load_tokenizer_refuses_a_vocabulary_far_smaller_than_the_models(damaged):
    edit(damaged, lambda state: state["model"].update(vocab={}))
    with pytest.raises(ValueError, match="must have about the model's 300 tokens, got 3"):
        load_tokenizer(damaged)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("normalizer", {"type": "Lowercase"}),
        ("pre_tokenizer", None),
        ("truncation", TRUNCATION),
    ],
)
def test_load_tokenizer_refuses_one_that_loses_text(damaged, entry, value):
    edit(damaged, lambda state: state.update({entry: value}))
    with pytest.raises(ValueError, match=r"must give 'The 3 quick .* back, got"):
        load_tokenizer(damaged)


def test_load_tokenizer_refuses_one_that_transformers_has_built_anew(damaged):
    # Without its tokenizer_config.json, transformers takes it for Gemma's own kind.
    (damaged / "tokenizer_config.json").unlink()
    edit(damaged, lambda state: state["model"]["vocab"].update({"<unk>": 259, "▁": 260}))
    with pytest.raises(ValueError, match="must give 'The 3 quick"):
        load_tokenizer(damaged)


def test_load_tokenizer_refuses_another_than_that_of_its_file(damaged, monkeypatch):
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(damaged)
    edit(damaged, lambda state: state["model"]["vocab"].update({"T": 40, state_at(state, 40): 57}))
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: other)
    with pytest.raises(ValueError, match=r"must be that of .*tokenizer\.json, got another one"):
        load_tokenizer(damaged)


def state_at(state, number: int) -> str:
    """The token of an id."""
    return next(token for token, i in state["model"]["vocab"].items() if i == number)


def test_load_tokenizer_refuses_dropout(damaged):
    edit(damaged, lambda state: state["model"].update(dropout=0.1))
    with pytest.raises(ValueError, match="the same ids every time, got one with dropout"):
        load_tokenizer(damaged)


@pytest.mark.parametrize(
    ("entry", "value"),
    [("model", {}), ("added_tokens", 5), ("decoder", 5), ("version", "9"), ("post_processor", [1])],
)
def test_load_tokenizer_refuses_a_damaged_one_in_one_line(damaged, entry, value):
    edit(damaged, lambda state: state.update({entry: value}))
    with pytest.raises(ValueError, match="cannot be loaded: ") as raised:
        load_tokenizer(damaged)
    assert "\n" not in str(raised.value)
