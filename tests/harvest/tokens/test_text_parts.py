"""Parts of a text: how it is cut, and token ids that wait in files for a command run again."""

import json
import os
import struct
import zlib

import pytest

from scopeworks.harvest.text.documents import ReadReport
from scopeworks.harvest.text.text_file import TextFile, look_at
from scopeworks.harvest.tokens import run as tokenize_module
from scopeworks.harvest.tokens import text_parts as module
from scopeworks.harvest.tokens.part_files import TextPart, read_part, write_part
from scopeworks.harvest.tokens.run import TokenizeSettings, tokenize_text
from scopeworks.harvest.tokens.text_parts import cut, make_part, parts_location
from scopeworks.store import TokenStore
from scopeworks.store.place.locate import locate


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of a few files, batches of a few documents."""
    monkeypatch.setattr(module, "PART_BYTES", 2000)
    monkeypatch.setattr(module, "_BATCH_CHARACTERS", 700)


@pytest.fixture
def text_dir(tmp_path):
    """Thirty documents of 300 bytes and more, ten to a part; one file of rows, one empty."""
    folder = tmp_path / "text"
    folder.mkdir()
    for i in range(30):
        (folder / f"{i:02}.txt").write_text(f"This is document {i}. " * (9 + i // 3))
    rows = [json.dumps({"text": f"row {i} " * 9}) for i in range(60)]
    (folder / "zz.jsonl").write_text("\n".join([*rows, '{"no": 1}']))
    (folder / "empty.txt").write_text("")
    return folder


def settings(model_dir, text, out, **changes) -> TokenizeSettings:
    values = {"context": 32, "held_out": 0.3, "seed": 5, "skip_bad": True} | changes
    return TokenizeSettings(model=str(model_dir), text=[str(text)], out=str(out), **values)


def files(folder) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def source(name: str, size: int | None) -> TextFile:
    return TextFile(name, size, "state")


def test_neighbours_share_a_part_up_to_its_size_and_streams_stand_alone(model_dir, tmp_path):
    wanted = settings(model_dir, "a", tmp_path / "out")
    big = module.PART_BYTES
    sources = [
        source("a", big // 2),
        source("b", big // 2),
        source("c", 1),
        source("d", 3 * big),
        TextFile("-"),
        source("e", None),
        source("f", 1),
    ]
    parts = cut(sources, wanted, "tokenizer")
    assert [part.files for part in parts] == [
        ("a", "b"),
        ("c",),
        ("d",),
        ("-",),
        ("e",),
        ("f",),
    ]
    assert [bool(part.key) for part in parts] == [True, True, True, False, True, True]


def test_a_parts_key_tells_all_that_decides_its_ids(model_dir, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("abc")

    def key(tokenizer: str = "t", **changes) -> str:
        wanted = settings(model_dir, path, tmp_path / "out", **changes)
        (part,) = cut([look_at(str(path))], wanted, tokenizer)
        return part.key

    first = key()
    assert first == key() == key(seed=9, context=16, packing="document")
    os.utime(path, ns=(1, 1))  # written anew, as long as before
    keys = [first, key(), key("u"), key(tokens=9), key(held_out=0.1), key(text_field="b")]
    keys += [key(skip_bad=False), key(subset_field="s"), key(min_characters=3)]
    assert len(set(keys)) == len(keys)


def test_a_part_reads_back_as_it_was_made(model_dir, text_dir, tmp_path, small_parts):
    from scopeworks.harvest.model.loading import load_tokenizer

    wanted, (tokenizer, _) = (
        settings(model_dir, text_dir, tmp_path / "o"),
        load_tokenizer(model_dir),
    )
    path = str(text_dir / "zz.jsonl")
    (part,) = cut([look_at(path)], wanted, "t")
    location = parts_location(wanted)
    write_part(location, part, make_part(part, wanted, tokenizer))
    made, read = list(make_part(part, wanted, tokenizer)), list(read_part(location, part))
    assert len(read) == len(made) > 3
    total = ReadReport()
    for one, other in zip(made, read, strict=True):
        assert (one.splits, one.lengths, one.read) == (other.splits, other.lengths, other.read)
        assert one.ids.tolist() == other.ids.tolist()
        total.add(other.read)
    assert (total.files, total.documents, dict(total.skipped)) == (1, 60, {"no text": 1})


def test_a_damaged_part_is_named(model_dir, text_dir, tmp_path):
    from scopeworks.harvest.model.loading import load_tokenizer

    wanted, (tokenizer, _) = (
        settings(model_dir, text_dir, tmp_path / "o"),
        load_tokenizer(model_dir),
    )
    path = str(text_dir / "00.txt")
    (part,) = cut([look_at(path)], wanted, "t")
    write_part(parts_location(wanted), part, make_part(part, wanted, tokenizer))
    file = tmp_path / "o.parts" / part.key
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    for damaged in (data, data[:-3]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"part .*{part.key} is damaged .* remove it and run"):
            list(read_part(parts_location(wanted), part))


HEADER = {
    "splits": ["train"],
    "lengths": [2],
    "crc32": zlib.crc32(bytes(8)),
    "read": {"files": 1, "documents": 1, "characters": 9, "skipped": {}},
}


@pytest.mark.parametrize(
    ("header", "n_header", "n_ids", "named"),
    [
        (HEADER, 2**62, 2, "must end within its"),
        (HEADER, None, 2**62, "must end within its"),
        (HEADER | {"lengths": [3]}, None, 2, "its documents are not those"),
        (HEADER | {"lengths": [3, -1]}, None, 2, "lengths.1"),
        (HEADER | {"splits": []}, None, 2, "its documents are not those"),
        (HEADER | {"crc32": "0"}, None, 2, "crc32"),
        (HEADER | {"read": []}, None, 2, "read"),
        ([], None, 2, "header does not hold"),
        ({}, None, 2, "splits is missing"),
    ],
)
def test_a_part_that_contradicts_itself_is_refused(tmp_path, header, n_header, n_ids, named):
    part = TextPart((), "a" * 24)
    text = json.dumps(header).encode()
    lengths = struct.pack("<QQ", len(text) if n_header is None else n_header, n_ids)
    (tmp_path / part.key).write_bytes(lengths + text + bytes(8))
    with pytest.raises(ValueError, match=rf"part .*{part.key} is damaged \(.*{named}"):
        list(read_part(locate(tmp_path), part))


def test_tokenizing_by_parts_is_tokenizing_at_once(model_dir, text_dir, tmp_path, monkeypatch):
    whole = tokenize_text(settings(model_dir, text_dir, tmp_path / "whole"))
    monkeypatch.setattr(module, "PART_BYTES", 2000)
    cut_up = tokenize_text(settings(model_dir, text_dir, tmp_path / "cut"))
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert str(cut_up) == str(whole)
    assert whole.read.skipped == {"empty": 1, "no text": 1}
    assert (whole.read.files, whole.read.documents) == (32, 90)


@pytest.mark.parametrize("changes", [{}, {"tokens": 7000}])
def test_tokenizing_stopped_and_run_again_makes_only_the_parts_that_are_missing(
    model_dir, text_dir, tmp_path, monkeypatch, small_parts, changes
):
    expected = tokenize_text(settings(model_dir, text_dir, tmp_path / "whole", **changes))
    plain, made = tokenize_module.make_part, []

    def failing(part, *args):
        made.append(part.key)
        if len(made) == 4:
            raise KeyboardInterrupt
        yield from plain(part, *args)

    monkeypatch.setattr(tokenize_module, "make_part", failing)
    wanted = settings(model_dir, text_dir, tmp_path / "stopped", **changes)
    with pytest.raises(KeyboardInterrupt):
        tokenize_text(wanted)
    assert len(list((tmp_path / "stopped.parts").iterdir())) == 3
    report = tokenize_text(wanted)
    assert made[3] == made[4]
    assert len(made) == len(set(made)) + 1
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
    assert str(report) == str(expected)
    assert not (tmp_path / "stopped.parts").exists()


def test_mended_text_is_read_anew_after_a_broken_line(model_dir, text_dir, tmp_path, small_parts):
    broken = settings(model_dir, text_dir, tmp_path / "out", skip_bad=False)
    with pytest.raises(ValueError, match=r"zz\.jsonl:61 must have a field 'text'"):
        tokenize_text(broken)
    rows = (text_dir / "zz.jsonl").read_text().splitlines()
    (text_dir / "zz.jsonl").write_text("\n".join(rows[:-1]))
    assert tokenize_text(broken).read.documents == 90


def test_a_budget_reads_no_more_of_a_large_file_than_fills_it(
    model_dir, tmp_path, monkeypatch, small_parts
):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "some words of a row"}\n' * 2000)
    report = tokenize_text(settings(model_dir, path, tmp_path / "out", tokens=640, held_out=0.0))
    assert TokenStore.open(tmp_path / "out").splits["train"] * 32 >= 640
    assert report.read.documents < 100


@pytest.mark.parametrize("place", ["local", "memory"])
def test_only_parts_of_the_own_output_are_removed(model_dir, text_dir, tmp_path, place):
    """Also where its name, taken for a pattern, means the others'; and of a folder of that name
    nothing but parts."""
    folder = str(tmp_path) if place == "local" else f"memory://{tmp_path.name}"
    others = [f"{folder}/tok{i}.parts" for i in (1, 2)]
    for other in others:
        locate(other).write("0" * 24, [b"waits"])
    mine = locate(f"{folder}/tok[12].parts")
    mine.write("1" * 24, [b"of an earlier command"])
    mine.write("notes.txt", [b"not a part"])
    tokenize_text(settings(model_dir, text_dir, f"{folder}/tok[12]"))
    assert [locate(other).children() for other in others] == [["0" * 24]] * 2
    assert mine.children() == ["notes.txt"]
    assert TokenStore.open(f"{folder}/tok[12]").splits["train"] > 0


def test_what_a_killed_command_left_of_a_part_is_swept(model_dir, text_dir, tmp_path):
    """Of whichever part, and with the shards of a token store that was being written."""
    folder = tmp_path / "out.parts"
    folder.mkdir()
    (folder / f".{'0' * 24}.0123456789ab.partial").write_bytes(b"half")
    shard = tmp_path / "out" / "train" / "c" / "0"
    shard.mkdir(parents=True)
    (tmp_path / "out" / "unfinished.json").write_text("{}")
    (shard / ".0.0123456789ab.partial").write_bytes(b"half")
    tokenize_text(settings(model_dir, text_dir, tmp_path / "out"))
    assert not list(tmp_path.rglob("*.partial"))
    assert not folder.exists()
