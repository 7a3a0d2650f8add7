"""Loading a Gemma 2 and refusing everything else in one line."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scopeworks.harvest.model.hooks import capture, forward_until, replace
from scopeworks.harvest.model.loading import (
    check_context,
    load_model,
    load_tokenizer,
)
from scopeworks.harvest.model.sites import Site
from scopeworks.harvest.model.vocabulary import tokenizer_fingerprint
from scopeworks.harvest.settings import RolloutSettings, of_loaded
from scopeworks.tests.reference.gemma_models import build_model


def edit_config(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_load_model_gives_the_saved_weights_ready_to_run(model_dir, input_ids):
    loaded = load_model(model_dir, dtype="float32", device="cpu")
    assert torch.equal(
        loaded.model(input_ids=input_ids).logits, build_model("grouped")(input_ids=input_ids).logits
    )
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.model.config._attn_implementation == "eager"
    assert (loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id) == (2, 1)


def test_hooks_take_a_loaded_model_as_it_is(model_dir, input_ids):
    loaded = load_model(model_dir, dtype="float32", device="cpu")
    x = forward_until(loaded, input_ids, [Site("resid_post", 1)])["resid_post.1"]
    assert torch.equal(
        x, loaded.model.model(input_ids=input_ids, output_hidden_states=True).hidden_states[2]
    )


def test_fingerprint_tells_models_apart_but_not_dtypes(model_dir, other_model_dir):
    fingerprint = load_model(model_dir, dtype="float32", device="cpu").fingerprint
    assert load_model(model_dir, dtype="bfloat16", device="cpu").fingerprint == fingerprint
    assert load_model(other_model_dir, device="cpu").fingerprint != fingerprint


def test_fingerprint_sees_what_changes_activations_without_changing_weights(damaged):
    before = load_model(damaged, device="cpu").fingerprint
    edit_config(damaged, sliding_window=9)
    assert load_model(damaged, device="cpu").fingerprint != before


def test_tokenizer_fingerprint_ignores_calls_and_sees_the_vocabulary(model_dir, damaged):
    tokenizer, _ = load_tokenizer(model_dir)
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=2)
    assert tokenizer_fingerprint(tokenizer) == before
    path = damaged / "tokenizer.json"
    state = json.loads(path.read_text())
    vocabulary = state["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(state))
    assert tokenizer_fingerprint(load_tokenizer(damaged)[0]) != before


def test_load_model_refuses_a_path_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; pass a folder"):
        load_model(tmp_path / "nowhere")


def test_load_model_refuses_a_folder_without_a_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold a config"):
        load_model(tmp_path)


def test_load_model_refuses_a_file(model_dir):
    with pytest.raises(NotADirectoryError, match="pass the folder it is in"):
        load_model(model_dir / "config.json")


def test_load_model_refuses_another_family_by_name(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match=r"must be a Gemma 2.*, got .* with model_type 'llama'"):
        load_model(tmp_path)


def test_load_model_refuses_missing_weights(damaged):
    weights = load_file(damaged / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"none or another shape for model\.layers\.2\.mlp\.up"):
        load_model(damaged)


def test_load_model_refuses_a_folder_without_weights(damaged):
    (damaged / "model.safetensors").unlink()
    with pytest.raises(OSError, match="the folder is incomplete or damaged"):
        load_model(damaged)


def test_load_model_refuses_weights_that_are_cut_off(damaged):
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(OSError, match="its weights are damaged"):
        load_model(damaged)


def test_load_model_refuses_a_tokenizer_of_another_model(damaged):
    edit_config(damaged, eos_token_id=7)
    with pytest.raises(ValueError, match="must agree on the eos token, got 1 and 7"):
        load_model(damaged)


def test_load_model_refuses_more_tokens_than_embeddings(damaged):
    edit_config(damaged, vocab_size=100)
    with pytest.raises(ValueError, match="at most the model's 100 tokens, got ids up to 258"):
        load_model(damaged)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "float16"}, "dtype must be one of auto, bfloat16, float32"),
        ({"attention": "sdpa"}, "others leave out the soft-cap"),
        ({"attention": "flash_attention_2", "device": "cpu"}, "must run in bfloat16 on cuda"),
        ({"device": "tpu9"}, "device must be auto, cpu or a device"),
    ],
)
def test_load_model_refuses_arguments_it_has_no_use_for(model_dir, wrong, message):
    with pytest.raises(ValueError, match=message):
        load_model(model_dir, **wrong)


def test_load_model_says_what_to_do_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="check the network, or pass a local folder"):
        load_model("google/gemma-2-2b")


@contextmanager
def hub_answering(status: int, code: str) -> Iterator[str]:
    """Address of a hub that refuses every file with one status and error code."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

        do_GET = do_HEAD = answer

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "GatedRepo", "it is gated: accept its licence on its hub page, then run `hf auth"),
        (404, "RepoNotFound", "the hub has no such model, or it is private: check it"),
    ],
)
def test_load_model_says_why_the_hub_refuses_it(monkeypatch, tmp_path, status, code, message):
    with hub_answering(status, code) as hub:
        template = f"{hub}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(OSError, match=f"model google/gemma-2-2b cannot be loaded: {message}"):
            load_model("google/gemma-2-2b")


def test_check_context_refuses_sequences_longer_than_the_model_takes(model_dir):
    _, config = load_tokenizer(model_dir)
    check_context(64, config, "m")
    with pytest.raises(ValueError, match="context must be at most 64 for model m, got 65"):
        check_context(65, config, "m")


def test_called_model_gives_the_logits_of_texts_and_ids(model_dir):
    lm = load_model(model_dir, dtype="float32", device="cpu")
    ids = lm.ids("Now is the winter")
    assert ids.dtype == torch.int64 and ids[0, 0] == lm.tokenizer.bos_token_id
    wanted = lm.model(input_ids=ids).logits
    as_stored = ids[0].numpy().astype("uint32")
    for given in ("Now is the winter", ids, ids[0], ids.tolist(), ids.numpy(), as_stored):
        assert torch.equal(lm(given), wanted)
    assert "".join(lm.tokens(ids)[1:]) == "Now is the winter"
    assert lm.tokens(ids) == lm.tokens("Now is the winter")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, r"whole numbers \[seq\] or \[batch, seq\] with all rows of one length, got torch"),
        ([], r"ids must be a text, or .* got torch.float32 \[1, 0\]"),
        ([[1, 2], [3]], r"all rows of one length, got list \(expected sequence"),
        ([1.5], "ids must be a text, or whole numbers .* got torch.float32"),
        (None, "ids must be a text, or whole numbers .* got NoneType"),
        ([10**6], "ids must be in 0 … [0-9]+, the vocabulary of .*, got 1000000 … 1000000"),
        ([-1], "ids must be in 0 … [0-9]+, the vocabulary of .*, got -1 … -1"),
        ([2] * 100_000, "ids must be at most [0-9]+ tokens, the context of .* got 100,000"),
    ],
)
def test_what_is_no_text_and_no_ids_is_refused_in_one_line(model_dir, given, message: str):
    lm = load_model(model_dir, dtype="float32", device="cpu")
    with pytest.raises(ValueError, match=message) as caught:
        lm(given)
    assert "\n" not in str(caught.value)


def test_generate_writes_and_can_be_steered(model_dir):
    lm = load_model(model_dir, dtype="float32", device="cpu")
    plain = lm.generate("Now is", 8)
    assert plain == lm.generate(lm.ids("Now is"), 8)
    assert lm.generate("Now is", 8, 2.0, seed=1) == lm.generate("Now is", 8, 2.0, seed=1)
    seen = []

    def pushed(x):
        seen.append(list(x.shape[:2]))
        return torch.ones_like(x)

    with replace(lm, "resid_post.2", pushed):
        steered = lm.generate("Now is", 8)
    assert steered != plain
    assert seen[0] == [1, lm.ids("Now is").shape[1]] and seen[1] == [1, 1]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"new_tokens": 0}, "new_tokens must be a whole number from 1 on, got 0"),
        ({"new_tokens": "5"}, "new_tokens must be a whole number from 1 on, got '5'"),
        ({"seed": "5"}, "seed must be a whole number from 0 on, got '5'"),
        ({"temperature": -0.5}, "temperature must be finite and at least 0, got -0.5"),
        ({"temperature": float("inf")}, "temperature must be finite and at least 0, got inf"),
        ({"temperature": "1"}, "temperature must be a number, got '1'"),
    ]
    for wrong, text in cases:
        with pytest.raises(ValueError, match=f"^{text}$"):
            lm.generate("Now is", **wrong)
    with pytest.raises(ValueError, match="text must be one sequence, got 2"):
        lm.generate([[2, 3], [2, 4]])
    with pytest.raises(ValueError, match=r"^context must be at most 64 for .*; take fewer tokens$"):
        lm.generate("Now is", 64)


def test_logits_need_gradients_only_where_a_replacement_does(model_dir):
    lm = load_model(model_dir, dtype="float32", device="cpu")
    with capture(lm, "resid_post.1") as captured:
        assert not lm("Now is").requires_grad
    assert not captured["resid_post.1"].requires_grad
    push = torch.zeros(lm.config.hidden_size, requires_grad=True)
    with replace(lm, "resid_post.1", lambda x: x + push):
        lm("Now is")[0, -1, 5].backward()
    assert push.grad is not None and push.grad.abs().sum() > 0


def test_decode_gives_the_text_back(model_dir):
    lm = load_model(model_dir, dtype="float32", device="cpu")
    ids = lm.ids("Now is")
    assert lm.decode(ids) == f"{lm.tokenizer.bos_token}Now is"
    assert lm.decode(ids[0, 1:].tolist()) == "Now is" == "".join(lm.tokens(ids)[1:])
    with pytest.raises(ValueError, match="text must be one sequence, got 2"):
        lm.decode([[2, 3], [2, 4]])


def test_a_loaded_models_repr_is_one_short_line(model_dir):
    text = repr(load_model(model_dir, dtype="float32", device="cpu"))
    assert "d_model 32, vocabulary " in text and ", context " in text and "float32 on cpu)" in text
    assert text.startswith("LanguageModel(") and "Gemma 2" in text and len(text) < 160


def test_a_model_that_changed_since_it_was_loaded_has_no_name(model_dir, monkeypatch):
    monkeypatch.chdir(model_dir.parent)
    lm = load_model(model_dir.name, dtype="float32", device="cpu")
    monkeypatch.chdir(model_dir)
    assert lm.as_setting() == str(model_dir)
    lm.model.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    message = r"^model must have the weights it was loaded with \(\w+\), got others .*; save model"
    with pytest.raises(ValueError, match=message):
        lm.as_setting()
    settings = RolloutSettings(model="name", text="prompts.jsonl", out="tokens")
    with pytest.raises(ValueError, match=message):
        of_loaded(settings, lm)


def test_a_model_whose_files_were_written_again_has_no_name(damaged):
    lm = load_model(damaged, dtype=torch.float32, device="cpu")
    (damaged / "notes.md").write_text("no part of the model")
    assert lm.as_setting() == str(damaged) and lm.dtype == "float32"
    weights = load_file(damaged / "model.safetensors")
    save_file(weights, damaged / "model.safetensors", {"format": "pt", "other": "x"})
    with pytest.raises(ValueError, match=r"^model must be the one in .*, whose files were written"):
        lm.as_setting()


def test_load_model_refuses_what_is_no_name_in_one_line(model_dir):
    model = load_model(model_dir, dtype="float32", device="cpu").model
    with pytest.raises(
        ValueError, match=r"^model must be a folder or a hub id, got Gemma\w+; save"
    ):
        load_model(model)
