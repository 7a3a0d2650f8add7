"""The static page's files: complete, alone, and without a way from data to markup."""

import re
from pathlib import Path

import pytest

from scopeworks.evaluate.latents.explorer.static_page import (
    EXPLANATIONS,
    STATIC,
    page_files,
    place_page,
)

SCRIPTS = sorted(STATIC.rglob("*.js"))


def test_every_file_that_the_page_names_is_among_its_files():
    files = page_files()
    named = re.findall(r'(?:src|href)="([^"#:]+)"', files["index.html"].decode())
    assert {"app/main.js", "app/style.css", "served.js"} <= set(named) <= set(files)
    assert {name for name in files if name.startswith("app/")} <= set(named)


def test_placed_files_are_the_same_bytes(tmp_path: Path):
    place_page(tmp_path)
    found = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert found == page_files()


def test_explanations_that_are_there_stay(tmp_path: Path):
    place_page(tmp_path)
    (tmp_path / EXPLANATIONS).write_text('scopeworks.explanations({"1": {"text": "digits"}});')
    place_page(tmp_path)
    assert "digits" in (tmp_path / EXPLANATIONS).read_text()


def test_the_page_forbids_other_hosts_and_foreign_scripts():
    html = page_files()["index.html"].decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    assert "unsafe" not in policy[1] and "http" not in policy[1] and "*" not in policy[1]
    assert not re.search(r"<script(?! src)|<style| style=| on\w+=", html)


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.name for path in SCRIPTS])
def test_scripts_make_no_markup_and_name_no_host(path: Path):
    text = path.read_text(encoding="utf-8")
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    assert not re.search(ways, text)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
