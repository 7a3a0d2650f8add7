"""What the pages on whole runs tell the reader to type: it is parsed, and run as it stands.

A page's blocks are worked off in a folder of their own. A `toml` block whose first line is a
comment with a file name is written there first; `sh` and `python` blocks are then run, in the
page's order, unless their first line says what they need (`# needs a GPU`).
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from scopeworks.pipelines.cli import app

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "run.md", *sorted((DOCS / "tutorials").glob("*.md"))]
NAMES = [page.relative_to(DOCS).as_posix() for page in PAGES]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w.-]+\.toml)\b")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")
MINUTES = 10


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    text: str

    @property
    def is_runnable(self) -> bool:
        """Whether a machine with two cores and no network can run it."""
        return self.language in ("sh", "python") and not self.text.startswith("# needs ")

    def commands(self) -> list[list[str]]:
        """Arguments of each `scopeworks` command in it."""
        if self.language != "sh":
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        words = [shlex.split(line, comments=True) for line in lines]
        after = [one[one.index("scopeworks") + 1 :] for one in words if "scopeworks" in one]
        return [_until_shell(one) for one in after]


def _until_shell(words: list[str]) -> list[str]:
    """A command's own words, without what the shell does with it."""
    ends = [i for i, word in enumerate(words) if word in ("||", "&&", "|", ";", ">", "&")]
    return words[: min(ends, default=len(words))]


def blocks_of(page: Path) -> list[Block]:
    """A page's fenced blocks in their order."""
    return [Block(*found) for found in BLOCK.findall(page.read_text(encoding="utf-8"))]


def parse(words: list[str]) -> None:
    """Parses a command as the program would, to its options; runs nothing."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]  # pyright: ignore[reportAttributeAccessIssue]
    if words != ["--help"]:
        command.make_context("scopeworks", words)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_are_parsed(page: Path):
    commands = [words for block in blocks_of(page) for words in block.commands()]
    assert commands
    for words in commands:
        parse(words)


def test_commands_that_are_not_there_are_found():
    with pytest.raises(Exception, match="No such option: --unitl"):
        parse(["run", "suite.toml", "--unitl", "train"])
    with pytest.raises(KeyError, match="runn"):
        parse(["runn", "suite.toml"])


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files(page: Path):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_do_what_the_page_says(page: Path, tmp_path: Path):
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": path}
    blocks = blocks_of(page)
    for block in blocks:
        if block.language == "toml" and (name := FILE.match(block.text)):
            (tmp_path / name[1]).write_text(block.text, encoding="utf-8")
    for block in (block for block in blocks if block.is_runnable):
        program = ["sh", "-e", "-c"] if block.language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*program, block.text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60 * MINUTES,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
