"""Files of a model that are not what their names say, or bring code of their own."""

import json
import os

import pytest

from scopeworks.harvest.model.loading import load_model, load_tokenizer

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12\n"
NOT_JSON = {
    "empty": b"",
    "nested": b'{"a":' * 50_000,
    "infinite": b'{"a": Infinity}',
    "no_text": b"\xff\xfe\xff",
}


@pytest.fixture(autouse=True)
def no_questions(monkeypatch):
    """Nobody is at the terminal."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("transformers asks a question"))


def edit(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.model",
        "chat_template.jinja",
    ],
)
def test_load_model_names_a_git_lfs_pointer(damaged, file):
    (damaged / file).write_text(LFS)
    with pytest.raises(ValueError, match=rf"{file} must be the file itself.*run `git lfs pull`"):
        load_model(damaged)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_load_model_refuses_a_pipe(damaged, file):
    (damaged / file).unlink()
    os.mkfifo(damaged / file)
    with pytest.raises(ValueError, match=rf"{file} must be a regular file, got a folder, pipe"):
        load_model(damaged)


@pytest.mark.parametrize("content", NOT_JSON)
@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
)
def test_load_tokenizer_refuses_a_document_that_is_no_json(damaged, file, content):
    (damaged / file).write_bytes(NOT_JSON[content])
    with pytest.raises(ValueError, match=rf"{file} is not valid JSON: .+"):
        load_tokenizer(damaged)


def test_load_tokenizer_refuses_a_document_larger_than_any(damaged):
    with (damaged / "added_tokens.json").open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(ValueError, match=r"added_tokens.json must have at most 268,435,456 bytes"):
        load_tokenizer(damaged)


@pytest.mark.parametrize(
    ("file", "entry"),
    [
        ("config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}),
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "own.Model"}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}),
        ("generation_config.json", {"custom_generate": "own/repository"}),
    ],
)
def test_load_model_never_runs_a_models_own_code(damaged, file, entry):
    (damaged / "own.py").write_text("raise SystemExit('code of the model was run')")
    edit(damaged / file, **entry)
    with pytest.raises(ValueError, match=rf"{file} must not name code of its own"):
        load_model(damaged)


def test_load_model_refuses_an_adapter(damaged):
    (damaged / "adapter_config.json").write_text('{"base_model_name_or_path": "google/gemma-2-2b"}')
    with pytest.raises(ValueError, match="must be a whole model, got an adapter"):
        load_model(damaged)


def test_load_model_says_that_a_name_is_no_hub_id():
    with pytest.raises(OSError, match="it is no folder here, and no hub id"):
        load_model("a model/of mine")
