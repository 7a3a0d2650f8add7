"""Text to token store, end to end."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scopeworks.harvest.tokens.encoding as module
from scopeworks.harvest.model.loading import load_tokenizer
from scopeworks.harvest.text.documents import TextDocument, is_held_out
from scopeworks.harvest.tokens import run as tokenize_module
from scopeworks.harvest.tokens.chat import ChatTemplate
from scopeworks.harvest.tokens.encoding import token_ids, unknown_share
from scopeworks.harvest.tokens.packing import Turns
from scopeworks.harvest.tokens.run import TokenizeSettings, tokenize_text
from scopeworks.harvest.tokens.text_parts import owned_parts
from scopeworks.store import TokenStore
from scopeworks.tests.reference.gemma_models import train_tokenizer


@pytest.fixture
def text_dir(tmp_path):
    """Forty documents, some of which the hash holds out at a share of 0.3."""
    folder = tmp_path / "text"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i:02}.txt").write_text(f"This is document {i}. " * (3 + i))
    return folder


def settings(model_dir, text_dir, out, **changes) -> TokenizeSettings:
    values = {"context": 32, "held_out": 0.3, "seed": 5} | changes
    return TokenizeSettings(model=str(model_dir), text=[str(text_dir)], out=str(out), **values)


def documents(text_dir, held_out: bool) -> list[str]:
    texts = [path.read_text() for path in sorted(text_dir.iterdir())]
    return [text for text in texts if is_held_out(text, 0.3) == held_out]


def packed(model_dir, texts: list[str], in_order: bool = False) -> list[list[int]]:
    """The sequences of some documents, packed by hand; sorted unless wanted in order."""
    tokenizer, _ = load_tokenizer(model_dir)
    stream: list[int] = []
    for text in texts:
        stream += [1] * bool(stream) + tokenizer(text, add_special_tokens=False)["input_ids"]
    sequences = [[2, *stream[i : i + 31]] for i in range(0, len(stream) - 30, 31)]
    return sequences if in_order else sorted(sequences)


def stored(url, split: str) -> list[list[int]]:
    """A split's sequences, sorted."""
    return sorted(np.asarray(TokenStore.open(url).sequences(split)).tolist())


def test_tokenize_packs_every_split_from_its_own_documents(model_dir, text_dir, tmp_path):
    tokenize_text(settings(model_dir, text_dir, tmp_path / "tokens"))
    store = TokenStore.open(tmp_path / "tokens")
    assert (store.context, store.bos, store.eos, store.pad) == (32, 2, 1, 0)
    assert set(store.splits) == {"train", "held_out"}
    for split in store.splits:
        expected = packed(model_dir, documents(text_dir, split == "held_out"))
        assert stored(tmp_path / "tokens", split) == expected
    train = np.asarray(store.sequences("train")).tolist()
    assert train != packed(model_dir, documents(text_dir, False), in_order=True)  # permuted


def test_tokenize_same_settings_same_store_other_seed_other_order(model_dir, text_dir, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        tokenize_text(settings(model_dir, text_dir, tmp_path / name, seed=seed))
    a, b, c = (TokenStore.open(tmp_path / name) for name in "abc")
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert a.splits == c.splits


def test_tokenize_writes_its_settings_beside_the_store(model_dir, text_dir, tmp_path):
    tokenize_text(settings(model_dir, text_dir, tmp_path / "tokens"))
    written = json.loads((tmp_path / "tokens.tokenize.json").read_text())
    assert (written["context"], written["seed"], written["text_field"]) == (32, 5, "text")


def test_tokenize_keeps_a_store_that_is_complete_and_refuses_to_change_it(
    model_dir, text_dir, tmp_path
):
    out = tmp_path / "tokens"
    first = tokenize_text(settings(model_dir, text_dir, out))
    again = tokenize_text(settings(model_dir, text_dir, out))
    assert again.already_done
    assert again.sequences == first.sequences
    with pytest.raises(ValueError, match=r"was made otherwise: seed: 5 → 6; choose another place"):
        tokenize_text(settings(model_dir, text_dir, out, seed=6))
    (text_dir / "00.txt").write_text("Something else, of another length.")
    with pytest.raises(ValueError, match="was made otherwise: files"):
        tokenize_text(settings(model_dir, text_dir, out))


def test_tokenize_refuses_a_seed_that_no_shuffle_takes(model_dir, text_dir, tmp_path):
    with pytest.raises(ValueError, match=r"seed must be less than 9223372036854775808"):
        settings(model_dir, text_dir, tmp_path / "tokens", seed=2**63)


def test_tokenize_refuses_a_folder_that_holds_something_else(model_dir, text_dir):
    files = str(text_dir / "*.txt")
    with pytest.raises(ValueError, match=r"must be empty, but it holds 00\.txt"):
        tokenize_text(settings(model_dir, files, text_dir))


def test_a_url_is_not_inside_the_text_folder(model_dir, text_dir, monkeypatch):
    monkeypatch.chdir(text_dir)
    assert tokenize_text(settings(model_dir, ".", "memory://tokens/apart")).sequences["train"] > 0


def test_tokenize_refuses_an_output_that_it_would_read(model_dir, text_dir):
    with pytest.raises(ValueError, match="out must be outside the text folder"):
        tokenize_text(settings(model_dir, text_dir, text_dir / "tokens"))


def test_tokenize_stops_at_the_token_budget(model_dir, text_dir, tmp_path):
    report = tokenize_text(settings(model_dir, text_dir, tmp_path / "tokens", tokens=640))
    assert 20 <= report.sequences["train"] < 60


def test_tokenize_refuses_text_that_fills_no_sequence(model_dir, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("short")
    with pytest.raises(ValueError, match="must fill at least one training sequence of 64 tokens"):
        tokenize_text(settings(model_dir, path, tmp_path / "tokens", context=64, held_out=0.0))


def test_tokenize_refuses_text_of_no_bytes(model_dir, tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    message = r"at least one training sequence of 32 tokens, got 0 .* skipped 1 empty"
    with pytest.raises(ValueError, match=message):
        tokenize_text(settings(model_dir, tmp_path / "empty.txt", tmp_path / "tokens"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["line.txt", "line.jsonl"])
def test_one_line_of_100_megabytes_is_tokenized_in_bounded_memory(model_dir, tmp_path, name):
    """Text, its bytes and its ids (4 bytes each, here one a character) are about a gigabyte; the
    tokenizer's own structures would be ten for all at once."""
    text = "x1 " * (100 * 2**20 // 3)
    (tmp_path / name).write_text(text if name == "line.txt" else json.dumps({"text": text}))
    wanted = settings(model_dir, tmp_path / name, tmp_path / "tokens", held_out=0.0, context=64)
    code = (
        "import resource, sys\n"
        "from scopeworks.harvest.tokens.run import TokenizeSettings, tokenize_text\n"
        "tokenize_text(TokenizeSettings.model_validate_json(sys.argv[1]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\n"
    )
    command = [sys.executable, "-c", code, wanted.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = int(done.stdout)
    print(f"{name}: peak {peak / 2**30:.2f} GiB")
    assert TokenStore.open(tmp_path / "tokens").splits["train"] == len(text) // 63
    assert peak < 3 * 2**30


def test_tokenize_refuses_a_context_longer_than_the_models(model_dir, text_dir, tmp_path):
    with pytest.raises(ValueError, match="context must be at most 64"):
        tokenize_text(settings(model_dir, text_dir, tmp_path / "tokens", context=65))
    assert not (tmp_path / "tokens").exists()


def test_tokenize_writes_held_out_text_also_by_subset(model_dir, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"text": f"row {i} " * 20, "set": f"Set {i % 2}"} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = tokenize_text(settings(model_dir, path, tmp_path / "tokens", subset_field="set"))
    assert set(report.sequences) == {"train", "held_out", "held_out.Set_0", "held_out.Set_1"}
    for k in range(2):
        texts = [row["text"] for row in rows[k::2] if is_held_out(row["text"], 0.3)]
        assert stored(tmp_path / "tokens", f"held_out.Set_{k}") == packed(model_dir, texts)


def test_a_subset_whose_name_is_a_text_is_refused(model_dir, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "row", "set": "a long name " * 20}) + "\n")
    wanted = settings(model_dir, path, tmp_path / "t", subset_field="set", held_out=0.999999)
    with pytest.raises(ValueError, match=r"subset_field must give names of at most 191 char"):
        tokenize_text(wanted)


@pytest.fixture
def chat_model_dir(model_dir, tmp_path):
    """The model with a chat template in the manner of Gemma's."""
    folder = shutil.copytree(model_dir, tmp_path / "chat")
    (folder / "chat_template.jinja").write_text(
        "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}]"
        "{{ message['content'] }}[end]{% endfor %}{% if add_generation_prompt %}[model]{% endif %}"
    )
    return folder


def test_chat_packing_wraps_documents_as_the_template_does(chat_model_dir, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("some words")
    changes = {"packing": "chat", "context": 40, "held_out": 0.0}
    tokenize_text(settings(chat_model_dir, path, tmp_path / "tokens", **changes))
    tokenizer: Any = load_tokenizer(chat_model_dir)[0]
    turn = [{"role": "user", "content": "some words"}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    (sequence,) = stored(tmp_path / "tokens", "train")
    assert sequence == ids + [0] * (40 - len(ids))
    masked = TokenStore.open(tmp_path / "tokens").provenance["masked_prefix"]
    assert tokenizer.decode(sequence[:masked]) == "<bos>[user]"


TRIMMING = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' + "
    "(message['content'] | trim) + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""As Gemma 2's own."""


def tokenizer_across_words() -> Any:
    """A tokenizer whose tokens join anything, the turns' signs and the text too."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<pad>", "<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    turn = "<start_of_turn>user\nimport re<end_of_turn>\n<start_of_turn>model\n"
    tokenizer.train_from_iterator([turn] * 9, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )


@pytest.fixture(params=["special", "spelt out", "across words"])
def chat_tokenizer(request):
    """A tokenizer that has special tokens for turns, spells them, or joins them with the text."""
    from tokenizers import decoders

    if request.param == "across words":
        tokenizer = tokenizer_across_words()
    else:
        tokenizer = train_tokenizer(Path(module.__file__).read_text(encoding="utf-8"))
    if request.param == "special":
        turns = ["<start_of_turn>", "<end_of_turn>"]
        tokenizer.add_special_tokens({"additional_special_tokens": turns})
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    tokenizer.chat_template = TRIMMING
    return tokenizer


TEXTS = ["plain", "  def f(x):\n  return x\n", "\n\nimport re\n", "ends in a space \t", "a\u2003"]


@pytest.mark.parametrize("text", TEXTS)
def test_chat_ids_are_those_of_the_template(chat_tokenizer, text):
    turn = [{"role": "user", "content": text}]
    tokenizer = chat_tokenizer
    shown = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    own = tokenizer(shown, add_special_tokens=False)["input_ids"]
    (ids,) = ChatTemplate(tokenizer).token_ids([TextDocument("a", text)])
    assert np.asarray(ids).tolist() == own


def test_chat_ids_keep_special_tokens_of_a_text_as_text(chat_tokenizer):
    (ids,) = ChatTemplate(chat_tokenizer).token_ids([TextDocument("a", "x <bos><end_of_turn> y ")])
    assert "user\nx <bos><end_of_turn> y<end_of_turn>" in chat_tokenizer.decode(ids)
    assert np.asarray(ids).tolist().count(chat_tokenizer.bos_token_id) == 1


def test_a_turn_that_its_template_is_joined_with_is_kept_whole():
    tokenizer = tokenizer_across_words()
    tokenizer.chat_template = TRIMMING
    chat = ChatTemplate(tokenizer)
    texts = ["import re", "import re" * 20]
    short, long = map(np.asarray, chat.token_ids([TextDocument("a", text) for text in texts]))
    assert short.tolist()[: len(chat.prefix)] != chat.prefix  # the case that is meant
    context = len(chat.prefix) + len(chat.suffix) + 4
    packed = Turns(context, chat.prefix, chat.suffix, pad=0).add([short, long]).tolist()
    assert packed[0] == [*short.tolist(), *[0] * (context - len(short))]
    shown = "".join(
        tokenizer.decode(one[len(chat.prefix) : -len(chat.suffix)])
        for one in ([t for t in row if t] for row in packed[1:])
    )
    assert len(packed) > 3
    assert shown.replace(" ", "").count("import") == 20


def test_a_document_that_the_template_refuses_is_named(chat_model_dir, tmp_path):
    (chat_model_dir / "chat_template.jinja").write_text(
        "{% if 'bad' in messages[0]['content'] %}{{ raise_exception('No bad words.') }}{% endif %}"
        "{{ bos_token }}[user]{{ messages[0]['content'] }}[end]"
    )
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "good"}\n{"text": "so bad"}\n{"text": "fine"}\n')
    changes = {"packing": "chat", "context": 40, "held_out": 0.0}
    message = r"rows\.jsonl:2 is refused by the chat template: TemplateError: No bad words"
    with pytest.raises(ValueError, match=message):
        tokenize_text(settings(chat_model_dir, path, tmp_path / "a", **changes))
    report = tokenize_text(settings(chat_model_dir, path, tmp_path / "b", skip_bad=True, **changes))
    assert report.read.skipped == {"refused by the chat template": 1}
    assert (report.read.documents, report.read.characters) == (2, len("goodfine"))
    assert report.sequences == {"train": 2}


def test_a_template_that_fails_at_once_is_one_line(chat_model_dir, text_dir, tmp_path):
    (chat_model_dir / "chat_template.jinja").write_text("{{ raise_exception('never') }}")
    with pytest.raises(ValueError, match="chat template cannot be used: TemplateError: never"):
        tokenize_text(settings(chat_model_dir, text_dir, tmp_path / "tokens", packing="chat"))


def test_another_chat_template_makes_another_store(chat_model_dir, text_dir, tmp_path):
    wanted = settings(chat_model_dir, text_dir, tmp_path / "tokens", packing="chat", context=64)
    tokenize_text(wanted)
    assert tokenize_text(wanted).already_done
    (chat_model_dir / "chat_template.jinja").write_text(
        "{{ bos_token }}<{{ messages[0]['content'] }}>"
    )
    with pytest.raises(ValueError, match="was made otherwise: chat_template"):
        tokenize_text(wanted)


def narrow_tokenizer() -> Any:
    """One that has tokens for a few letters, and one unknown token for a run of others."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<eos>", "<bos>", "<unk>", *"abcdefgh "]
    vocabulary = {name: i for i, name in enumerate(names)}
    model = models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True)
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="<unk>", **special)


def test_text_that_the_tokenizer_does_not_know_is_named(model_dir, tmp_path, monkeypatch):
    """Half of the characters, but a tenth of the tokens; a stray sign is let through."""
    tokenizer, config = narrow_tokenizer(), load_tokenizer(model_dir)[1]
    monkeypatch.setattr(tokenize_module, "load_tokenizer", lambda _model: (tokenizer, config))
    path = tmp_path / "rows.jsonl"
    texts = ["abc def" * 9 + "x", "abcdefgh" + "あいうえおかきく", "bad cafe " * 9]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    wanted = settings(model_dir, path, tmp_path / "tokens", held_out=0.0)
    message = r"rows\.jsonl:2 must be known to the tokenizer of .*grouped, got 50% of its charac"
    with pytest.raises(ValueError, match=message):
        tokenize_text(wanted)
    report = tokenize_text(wanted.model_copy(update={"skip_bad": True}))
    assert report.read.skipped == {"unknown to the tokenizer": 1}
    assert unknown_share(tokenizer, "<unk>", np.array([3, 4, 4, 3], np.uint32)) == 1.0


def test_text_that_was_held_out_as_a_whole_says_so(model_dir, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a few words"}\n' * 9)
    share = 0.999999
    message = r"got 0 tokens beside \d+ held out; lower --held-out, split the text into more docu"
    with pytest.raises(ValueError, match=message):
        tokenize_text(settings(model_dir, path, tmp_path / "tokens", held_out=share))


def test_one_document_says_that_nothing_is_held_out(model_dir, text_dir, tmp_path, capsys):
    path = tmp_path / "one.txt"
    path.write_text(max(documents(text_dir, held_out=False), key=len))
    tokenize_text(settings(model_dir, path, tmp_path / "one"))
    warning = "warning: held_out 0.3 of 1 document is 0 tokens, which fill no sequence"
    assert capsys.readouterr().err.startswith(warning)
    tokenize_text(settings(model_dir, path, tmp_path / "none_asked", held_out=0.0))
    tokenize_text(settings(model_dir, text_dir, tmp_path / "many"))
    assert "warning" not in capsys.readouterr().err


def test_a_bucket_of_text_does_not_hold_the_output(model_dir):
    for out in ("memory://text/run", "memory://text/"):
        with pytest.raises(ValueError, match="out must be outside the text folder memory://text"):
            tokenize_text(settings(model_dir, "memory://text/", out))


def test_document_packing_starts_every_document_anew(model_dir, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "abc"}\n{"text": "defgh"}\n')
    changes = {"packing": "document", "context": 4, "held_out": 0.0}
    tokenize_text(settings(model_dir, path, tmp_path / "tokens", **changes))
    tokenizer, _ = load_tokenizer(model_dir)
    texts = [tokenizer.decode(ids) for ids in stored(tmp_path / "tokens", "train")]
    assert sorted(texts) == ["<bos>abc", "<bos>def", "<bos>gh<pad>"]


def test_chat_packing_refuses_a_model_without_a_chat_template(model_dir, text_dir, tmp_path):
    with pytest.raises(ValueError, match="pass an instruction-tuned model"):
        tokenize_text(settings(model_dir, text_dir, tmp_path / "tokens", packing="chat"))


def test_token_ids_spell_special_tokens_out(model_dir):
    tokenizer, _ = load_tokenizer(model_dir)
    (ids,) = token_ids(tokenizer, ["a <eos> b"])
    assert not {0, 1, 2} & set(ids.tolist())
    assert tokenizer.decode(ids) == "a <eos> b"
    assert tokenizer("<eos>", add_special_tokens=False)["input_ids"] == [1]  # as before the call


def test_token_ids_of_a_long_text_are_those_of_the_whole(monkeypatch):
    text = Path(module.__file__).read_text(encoding="utf-8")
    tokenizer = train_tokenizer(text)
    whole = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    monkeypatch.setattr(module, "_PIECE_CHARACTERS", 150)
    assert len(list(module._pieces(text))) > 10
    (ids,) = token_ids(tokenizer, [text])
    assert ids.tolist() == whole


def test_token_ids_of_one_endless_line_keep_every_character(model_dir, monkeypatch):
    monkeypatch.setattr("scopeworks.harvest.tokens.encoding._PIECE_CHARACTERS", 100)
    tokenizer, _ = load_tokenizer(model_dir)
    text = "x" * 1234
    assert tokenizer.decode(token_ids(tokenizer, [text])[0]) == text


def test_a_second_command_of_the_same_output_is_told_who_makes_it(model_dir, text_dir, tmp_path):
    asked = settings(model_dir, text_dir, tmp_path / "tokens")
    with (
        owned_parts(asked),
        pytest.raises(ValueError, match=r"one run at a time, .* which process \d+ .* begin when"),
    ):
        tokenize_text(asked)
    assert not Path(asked.out).exists()
    tokenize_text(asked)
    assert not Path(f"{asked.out}.parts").exists()
