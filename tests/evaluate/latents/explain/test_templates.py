"""Prompts a person may change."""

from pathlib import Path

import pytest

from scopeworks.evaluate.latents.explain.templates import check_folder, template

OURS = Path(__file__).parent


def read(folder: Path, text: str):
    (folder / "p.txt").write_text(text)
    return template("p.txt", OURS, folder, ["text"])


def test_gaps_are_filled_once_and_what_fills_them_is_left_alone(tmp_path):
    found = read(tmp_path, "=== system\nBe {brief}.\n=== user\n{text} [{n}] {other}\n")
    filled = found.filled(text="{n} \\1", n="3")
    assert filled == (("system", "Be {brief}."), ("user", "{n} \\1 [3] {other}"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{text}", "must be messages, each under a line"),
        ("=== system\n{text}", "one of them the user's"),
        ("=== user\nhello", r"must have the gap \{text\}"),
        ("", "must be messages"),
    ],
)
def test_what_is_no_prompt_is_refused(tmp_path, text, match):
    with pytest.raises(ValueError, match=match):
        read(tmp_path, text)


def test_folders_without_prompts_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must hold one of p\.txt, q\.txt, got none"):
        check_folder(tmp_path, ["p.txt", "q.txt"])
    with pytest.raises(FileNotFoundError, match="prompts must be a folder"):
        template("p.txt", OURS, tmp_path / "none", [])
    (tmp_path / "p.txt").write_bytes(b"=== user\n\xff")
    with pytest.raises(ValueError, match="must be UTF-8"):
        template("p.txt", OURS, tmp_path, [])
