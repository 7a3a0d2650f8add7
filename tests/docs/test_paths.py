"""Every path that a page or the Makefile names exists: what has moved is named by its new place."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "extend.md"]
TOP = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - {"build", "dist"}
CODE = re.compile(r"`([\w./-]+)`")
QUICK = re.compile(r"^QUICK := (.*?)\n\n", re.MULTILINE | re.DOTALL)


def paths_in(text: str) -> set[str]:
    """What stands between backticks and begins with an entry of the repository's root; NAME is a
    name that the reader chooses."""
    words = {word for word in CODE.findall(text) if "/" in word and "NAME" not in word}
    return {word for word in words if word.split("/")[0] in TOP}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_of_a_page_exist(page: Path):
    paths = paths_in(page.read_text(encoding="utf-8"))
    assert paths
    assert {path for path in paths if not (ROOT / path).exists()} == set()


def test_a_path_that_is_not_there_is_found():
    paths = paths_in("`store/nothing.py`, `tests/docs/`, `make test`, `a/b.py`, `store.read`")
    assert paths == {"store/nothing.py", "tests/docs/"}
    assert not (ROOT / "store/nothing.py").exists()


def test_quick_tests_are_tests():
    (found,) = QUICK.findall((ROOT / "Makefile").read_text(encoding="utf-8"))
    paths = found.replace("\\\n", " ").split()
    assert len(paths) == len(set(paths)) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert all(path.startswith("tests/") for path in paths)
