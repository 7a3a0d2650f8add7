"""Prompts: plain text files with named gaps, which a user may copy and change.

Owns their form. A file has one message after the other, each below a line `=== system` or
`=== user`; a gap is a name in braces, `{examples}`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .asking.request import Messages

_HEADING = re.compile(r"^=== (system|user)[ \t]*\n", re.M)
_MOST_BYTES = 2**20


@dataclass(frozen=True)
class Template:
    """A prompt's messages with their gaps."""

    messages: Messages

    def filled(self, **gaps: str) -> Messages:
        """The messages with filled gaps; a gap inside of a filling text is not filled."""
        names = "|".join(gaps)
        return tuple(
            (role, re.sub(rf"\{{({names})\}}", lambda match: gaps[match[1]], text))
            for role, text in self.messages
        )


def template(name: str, ours: Path, own: Path | None, gaps: Sequence[str]) -> Template:
    """Reads a prompt.

    Args:
        name: name of the file, such as `explain.txt`.
        ours: folder of the prompts that come with the project.
        own: the user's folder; files that it lacks are taken from `ours`.
        gaps: names of the gaps that the text must have.

    Raises:
        ValueError, OSError: the file is not a prompt with these gaps; one line that names it.
    """
    if own is not None and not own.is_dir():
        raise FileNotFoundError(f"prompts must be a folder, got {own}, which is none")
    path = own / name if own is not None and (own / name).is_file() else ours / name
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"prompt {path} must have at most {_MOST_BYTES:,} bytes")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"prompt {path} must be UTF-8: {error}") from error
    before, *parts = _HEADING.split(text)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    messages = tuple((role, message.strip()) for role, message in pairs)
    if before.strip() or not any(role == "user" for role, _ in messages):
        raise ValueError(
            f"prompt {path} must be messages, each under a line '=== system' or '=== user', one "
            "of them the user's"
        )
    for gap in gaps:
        if not any(f"{{{gap}}}" in message for _, message in messages):
            raise ValueError(f"prompt {path} must have the gap {{{gap}}}, got none")
    return Template(messages)


def check_folder(own: Path | None, names: Sequence[str]) -> None:
    """Refuses a user's folder that has none of the prompts."""
    if own is not None and own.is_dir() and not any((own / name).is_file() for name in names):
        raise ValueError(f"prompts must hold one of {', '.join(names)}, got none in {own}")
