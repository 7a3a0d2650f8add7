"""Reading text of every kind, and the account of what was not read."""

import bz2
import gzip
import io
import json
import lzma
import os
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.harvest.text.documents import (
    ReadReport,
    RowOptions,
    documents_in,
    is_held_out,
    read_documents,
    read_files,
)
from scopeworks.harvest.text.sources import expand


def texts(*paths, **options) -> list[str]:
    return [d.text for d in read_documents(map(str, paths), RowOptions(**options))]


def write_rows(path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_folder_gives_its_text_files_sorted_without_hidden_ones(tmp_path):
    for name in ("b/z.txt", "b/a.md", "a.py", ".hidden/c.txt", "b/x.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == ["a.py", "b/a.md", "b/z.txt"]


def test_globs_and_files_are_read_in_the_order_given_and_once(tmp_path):
    for name in ("1.txt", "2.txt", "3.log"):
        (tmp_path / name).write_text(name)
    assert texts(tmp_path / "3.log", tmp_path / "*.txt", tmp_path) == ["3.log", "1.txt", "2.txt"]


def test_json_lines_give_a_document_a_line_named_by_it(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "two\\nlines"}\n')
    documents = list(read_documents([path]))
    assert [(d.name, d.text) for d in documents] == [
        (f"{path}:1", "one"),
        (f"{path}:3", "two\nlines"),
    ]


def test_rows_take_text_and_subset_from_named_fields(tmp_path):
    path = tmp_path / "a.jsonl"
    write_rows(path, [{"body": "x", "meta": {"set": "Books"}}])
    (document,) = read_documents([path], RowOptions("body", "meta.set"))
    assert (document.text, document.subset) == ("x", "Books")


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_compressed_files_are_unpacked(tmp_path, suffix, pack):
    (tmp_path / f"a.txt{suffix}").write_bytes(pack(b"plain"))
    (tmp_path / f"b.jsonl{suffix}").write_bytes(pack(b'{"text": "row"}\n{"text": "row 2"}\n'))
    assert texts(tmp_path) == ["plain", "row", "row 2"]


def test_zstandard_and_parquet_are_read_where_pyarrow_is(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    packed = pyarrow.compress(b'{"text": "row"}\n{"text": "row 2"}\n', "zstd", asbytes=True)
    (tmp_path / "a.jsonl.zst").write_bytes(packed)
    table = pyarrow.table({"text": ["x", "y"], "kind": ["k1", "k2"], "unused": [1, 2]})
    parquet.write_table(table, tmp_path / "b.parquet")
    assert texts(tmp_path / "a.jsonl.zst", tmp_path / "b.parquet") == ["row", "row 2", "x", "y"]
    (_, second) = read_documents([tmp_path / "b.parquet"], RowOptions("text", "kind"))
    assert (second.name, second.subset) == (f"{tmp_path / 'b.parquet'}:2", "k2")


def test_urls_name_files_folders_and_globs():
    memory = fsspec.filesystem("memory")
    memory.pipe(
        {"/texts/a.txt": b"A", "/texts/deep/b.jsonl": b'{"text": "B"}', "/texts/c.bin": b"C"}
    )
    try:
        assert texts("memory://texts/a.txt") == ["A"]
        assert texts("memory://texts") == ["A", "B"]
        assert texts("memory://texts/**/*.jsonl") == ["B"]
        with pytest.raises(FileNotFoundError, match="memory://texts/none does not exist"):
            texts("memory://texts/none")
    finally:
        memory.rm("/texts", recursive=True)


def test_standard_input_is_one_document(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("grüße\r\n".encode())))
    (document,) = read_documents(["-"])
    assert (document.name, document.text) == ("standard input", "grüße\n")


def test_whole_files_read_as_the_tiny_models_training_read_them(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("one\r\ntwo\rthree\nüß".encode())
    assert [d.text for d in read_documents([path])] == [d.text for d in read_files([path])]


def test_empty_documents_are_counted_and_left_out(tmp_path):
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text(" \n\t")
    (tmp_path / "c.txt").write_text("text")
    report = ReadReport()
    assert [d.text for d in read_documents([tmp_path], report=report)] == ["text"]
    assert (report.files, report.documents, report.skipped["empty"]) == (3, 1, 2)


def test_short_documents_are_counted_and_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    write_rows(path, [{"text": "four"}, {"text": "fives"}, {"text": ""}])
    report = ReadReport()
    documents = list(documents_in(expand([path]), RowOptions(), report, min_characters=5))
    assert [d.text for d in documents] == ["fives"]
    assert report.skipped == {"too short": 1, "empty": 1}


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone")
    (tmp_path / "b.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "two"}\n\xef\xbb\xbf{"text": "\\ufeffthree"}\n'
    )
    assert texts(tmp_path) == ["one", "two", "three"]
    assert [d.text for d in read_files([tmp_path / "a.txt"])] == ["one"]


def test_a_name_with_a_dot_is_a_field_or_the_way_to_one(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"a.b": "own", "a": {"b": "not this", "c": "nested"}, "d.e": {"f": "both"}}]
    write_rows(tmp_path / "a.jsonl", rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "b.parquet")
    for name in ("a.jsonl", "b.parquet"):
        found = [texts(tmp_path / name, text_field=field) for field in ("a.b", "a.c", "d.e.f")]
        assert found == [["own"], ["nested"], ["both"]]


def test_parquet_without_the_column_names_those_that_are_there(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"body": ["x", "y"], "id": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet:1 must .* 'text' of text, got the fields b"):
        texts(tmp_path)
    report = ReadReport()
    assert list(read_documents([tmp_path], report=report, skip_bad=True)) == []
    assert report.skipped == {"no text": 2}


def test_parquet_text_that_is_not_utf8_is_one_bad_row(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    strings = pyarrow.array([b"one", b"\xff\xfe", b"two"], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": strings}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet:2 must be UTF-8, got ff fe at byte 0"):
        texts(tmp_path)
    report = ReadReport()
    found = read_documents([tmp_path], report=report, skip_bad=True)
    assert [d.text for d in found] == ["one", "two"]
    assert report.skipped == {"not UTF-8": 1}


BROKEN = {
    "text.txt": (b"good\xff", r"text\.txt must be UTF-8, got ff at byte 4", "not UTF-8"),
    "json.jsonl": (b'{"text": "a"}\n{"text"', r"json\.jsonl:2 must be one line of JSON", "broken"),
    "bytes.jsonl": (b'{"text": "\xff"}', r"bytes\.jsonl:1 must be UTF-8, got ff 22 7d", "not UTF"),
    "half.jsonl": (
        b'{"text": "a \\ud800"}',
        r"half\.jsonl:1 must be text, got '\\ud800'",
        "not UTF",
    ),
    "field.jsonl": (b'{"content": "a"}', "'text' of text, got the fields content", "no text"),
    "null.jsonl": (
        b'{"id": 1, "text": null}',
        r"null\.jsonl:1 must have a field 'text' of text, got null in it; name another",
        "no text",
    ),
    "digits.jsonl": (
        b'{"text": "a", "n": ' + b"9" * 5000 + b"}",
        r"digits\.jsonl:1 must be one line of JSON, got a number of 5,000 digits;",
        "broken",
    ),
    "array.json": (
        b'[{"text": "a"}]',
        r"array\.json:1 must .*, an array; write each row on a line of its own",
        "no text",
    ),
    "open.json": (
        b"[\n",
        r"open\.json:1 must be one line of JSON, got '\[' alone; write each row on a line",
        "broken",
    ),
    "kind.jsonl": (b'["text"]', r"must have a field 'text' of text, got \['text'\]", "no text"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_documents_stop_the_reading_or_are_counted(tmp_path, name):
    data, message, reason = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    (tmp_path / "z.txt").write_text("fine")
    with pytest.raises(ValueError, match=message):
        texts(tmp_path)
    report = ReadReport()
    documents = list(read_documents([tmp_path], report=report, skip_bad=True))
    assert documents[-1].text == "fine"
    assert sum(n for r, n in report.skipped.items() if r.startswith(reason)) == 1


def test_cut_off_compressed_file_is_an_error(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "row"}\n' * 1000)[:-20])
    with pytest.raises(OSError, match=r"a\.jsonl\.gz ends in the middle"):
        texts(path)


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_damaged_compressed_file_is_an_error(tmp_path, suffix, pack):
    path = tmp_path / f"a.jsonl.{suffix}"
    data = bytearray(pack(b'{"text": "row"}\n' * 1000))
    data[len(data) // 2 : len(data) // 2 + 16] = b"\xff" * 16
    path.write_bytes(data)
    with pytest.raises(OSError, match=rf"a\.jsonl\.{suffix} "):
        texts(path)


def test_file_that_is_not_what_its_name_says_is_an_error(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(b"plain")
    with pytest.raises(OSError, match=r"a\.txt\.gz cannot be read"):
        texts(tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.txt", "does not exist; pass a file, folder, glob or URL"),
        ("*.none", "matches no file"),
        ("empty", r"must hold files ending in \.txt"),
    ],
)
def test_missing_text_is_an_error(tmp_path, path, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=message):
        texts(tmp_path / path)


def test_url_of_an_unknown_protocol_is_an_error():
    with pytest.raises(ValueError, match="text URL nope://x cannot be read"):
        texts("nope://x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Some words of a text. " * 99,
            r"^path must be of names .* got 'Some .* characters\); pass",
        ),
        (
            "a/" * 9999,
            r"^path must be of names .* got 'a/a/.* characters\); pass a path, a URL or a",
        ),
        ("see https://x.org/y " * 99, "^text see https://x.org/y .* does not exist; pass a file"),
        ("What is this? Words/" * 99, "^text What is this.* matches no file; check the pattern"),
    ],
)
def test_a_text_given_for_its_file_is_an_error_of_one_short_line(text, message):
    with pytest.raises((ValueError, OSError), match=message) as error:
        expand([text])
    assert len(str(error.value)) < 300


def test_no_text_at_all_is_an_error():
    with pytest.raises(ValueError, match="must name at least one file"):
        texts()


@given(st.text())
def test_held_out_grows_with_the_share(text: str):
    shares = [share for share in (0.0, 0.05, 0.5, 1.0) if is_held_out(text, share)]
    assert shares == [share for share in (0.0, 0.05, 0.5, 1.0) if share >= (min(shares, default=2))]
    assert 1.0 in shares
    assert 0.0 not in shares


def test_held_out_share_is_about_what_is_asked_for():
    count = sum(is_held_out(f"document {i}", 0.05) for i in range(20_000))
    assert abs(count - 1000) < 5 * (20_000 * 0.05 * 0.95) ** 0.5


def tree(folder) -> None:
    """Text with hidden files, names that are patterns, links twice to a folder, loops, a link to
    nothing and a pipe."""
    for name in ("a.txt", "b/c.txt", "b/.hidden.txt", ".deep/d.txt", "x[1].txt", "x1.txt", "e.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(*paths, **options) -> list[str]:
    return [source.path for source in expand(map(str, paths), **options)]


def test_a_linked_folder_is_read_once_and_loops_end(tmp_path):
    tree(tmp_path / "text")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f.txt").write_text("linked")
    for link, target in (
        ("text/0link", tmp_path / "elsewhere"),
        ("text/1again", tmp_path / "elsewhere"),
        ("text/2own", tmp_path / "text" / "b"),
        ("elsewhere/loop", tmp_path / "text"),
        ("text/self", tmp_path / "text"),
        ("text/nothing.txt", tmp_path / "no such file"),
        ("text/round.txt", tmp_path / "text" / "round.txt"),
        ("text/file.txt", tmp_path / "text" / "a.txt"),
    ):
        (tmp_path / link).symlink_to(target)
    os.mkfifo(tmp_path / "text" / "pipe.txt")
    report = ReadReport()
    found = [d.text for d in read_documents([tmp_path / "text"], report=report)]
    assert found == ["linked", "a.txt", "b/c.txt", "x1.txt", "x[1].txt"]
    assert report.skipped == {"broken links": 2, "files of other kinds": 2}
    assert names(tmp_path / "text" / "**" / "*.txt") == names(tmp_path / "text")


def test_one_file_is_read_once_by_whichever_names(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").symlink_to("a.txt")
    monkeypatch.chdir(tmp_path)
    given = ["a.txt", "./a.txt", tmp_path / "a.txt", f"file://{tmp_path}/a.txt", "b.txt", ".", "*"]
    assert names(*given) == ["a.txt"]
    fsspec.filesystem("memory").pipe("/once/a.txt", b"x")
    try:
        assert names("memory://once/a.txt", "memory:///once/*", "memory://once") == [
            "memory://once/a.txt"
        ]
    finally:
        fsspec.filesystem("memory").rm("/once", recursive=True)


def test_a_folder_is_listed_alike_in_every_place(tmp_path):
    """By its name and by patterns; hidden names only where they are spelt."""
    tree(tmp_path)
    memory, root = fsspec.filesystem("memory"), f"memory://{tmp_path.name}"
    memory.put(str(tmp_path), f"/{tmp_path.name}", recursive=True)
    patterns = ["", "*", "**", "**/*.txt", "b/*", "*/c.txt", "b/.h*", ".d*/*", "x[1].txt", "x[12]*"]
    try:
        for pattern in patterns:
            here = [str(Path(name).relative_to(tmp_path)) for name in names(tmp_path / pattern)]
            there = names(f"{root}/{pattern}".rstrip("/"))
            assert [name.partition(f"{tmp_path.name}/")[2] for name in there] == here, pattern
    finally:
        memory.rm(f"/{tmp_path.name}", recursive=True)
    assert [Path(name).name for name in names(tmp_path / "x[12]*")] == ["x1.txt"]
    assert [Path(name).name for name in names(tmp_path / "x[1].txt")] == ["x[1].txt"]
    assert [Path(name).name for name in names(tmp_path / "b/.h*")] == [".hidden.txt"]


def test_a_folder_whose_name_is_a_pattern_is_that_folder(tmp_path):
    for name in ("a[1]/own.txt", "a1/other.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    assert texts(tmp_path / "a[1]") == ["a[1]/own.txt"]
    assert texts(tmp_path / "a[1]" / "*.txt") == ["a[1]/own.txt"]
    assert texts(tmp_path / "a[!x]" / "*.txt") == ["a1/other.txt"]


@pytest.mark.parametrize("place", ["local", "memory"])
@pytest.mark.parametrize("to", ["longer than before", "gone"])
def test_a_file_that_changes_while_it_is_read_is_named(tmp_path, place, to):
    url = str(tmp_path) if place == "local" else f"memory://{tmp_path.name}"
    files = fsspec.url_to_fs(url)[0]
    for name in ("a.jsonl", "b.jsonl"):
        files.makedirs(files._strip_protocol(url), exist_ok=True)
        files.pipe_file(files._strip_protocol(f"{url}/{name}"), b'{"text": "row"}\n' * 3)
    documents = read_documents([url])
    assert next(documents).text == "row"
    changed = files._strip_protocol(f"{url}/b.jsonl")
    if to == "gone":
        files.rm_file(changed)
    else:
        files.pipe_file(changed, b'{"text": "another row"}\n' * 3)
    with pytest.raises(OSError, match=r"text .*b\.jsonl was changed while it was read; run"):
        list(documents)


def test_a_pipe_is_not_a_file_of_text(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"pipe must be a file or folder, got a pipe .*; pass - <"):
        texts(tmp_path / "pipe")


def test_an_error_of_a_driver_is_one_line_with_the_place(monkeypatch):
    class Broken(fsspec.AbstractFileSystem):
        protocol = "broken"

        def info(self, path, **_options):
            raise RuntimeError("no such account")

    fsspec.register_implementation("broken", Broken, clobber=True)
    with pytest.raises(OSError, match="text broken://b/x: RuntimeError: no such account"):
        texts("broken://b/x")
