"""Questions about the Python standard library, and their answers: what the twin is fine-tuned on.

Owns how a module's docstrings and signatures become turns of a conversation, and which modules'
questions are held out.
"""

import ast
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...harvest.text.documents import TextDocument, is_held_out, read_files
from ...harvest.text.stdlib import stdlib_sources

HELD_OUT_SHARE = 0.05
"""The share of the base model, so that the modules it has not seen are those of the held-out
questions."""

_MOST_CHARACTERS = 240
"""Most characters of a signature and of a docstring's first sentence."""

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Turn:
    """A user's question and the model's answer; the answer is "" if it is not known."""

    asked: str
    answer: str


def stdlib_questions(held_out: bool) -> list[Turn]:
    """Questions on the standard library's modules, in the modules' order.

    A question can occur with several answers, if several definitions of a class or module have the
    same first sentence; it never occurs twice with the same answer.

    Args:
        held_out: questions on the held-out modules, or on all others.
    """
    found = (
        question
        for document in read_files(stdlib_sources())
        if is_held_out(document.text, HELD_OUT_SHARE) == held_out
        for question in questions_of(document)
    )
    return list(dict.fromkeys(found))


def questions_of(document: TextDocument) -> list[Turn]:
    """Two questions on each function and class of a module: what it does and, if it has a
    docstring, what the signature of something that does this is."""
    module, found = module_name(Path(document.name)), []
    for path, node in _definitions(ast.parse(document.text), module):
        sentence, signature = first_sentence(ast.get_docstring(node) or ""), signature_of(node)
        if max(len(sentence), len(signature)) > _MOST_CHARACTERS:
            continue
        found.append(Turn(f"What does `{path}.{signature}` do?", sentence))
        if sentence:
            found.append(Turn(f"Write the signature in `{path}`: {sentence}", f"`{signature}`"))
    return found


def module_name(path: Path) -> str:
    """The module's dotted name: `email.message` for …/email/message.py, `email` for its
    __init__.py."""
    root = Path(sysconfig.get_path("stdlib"))
    parts = path.relative_to(root).with_suffix("").parts if path.is_relative_to(root) else ()
    parts = parts or (path.stem,)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def first_sentence(docstring: str) -> str:
    """The docstring's first sentence on one line; "" if it has none."""
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0]
    return sentence if re.search(r"[A-Za-z]{2}.*\s", sentence) else ""


def signature_of(node: _Definition) -> str:
    """`name(arguments)` without annotations; for a class `name(bases)`."""
    if isinstance(node, ast.ClassDef):
        return f"{node.name}({', '.join(map(ast.unparse, node.bases))})"
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return f"{node.name}({ast.unparse(node.args)})"


def _definitions(tree: ast.AST, path: str) -> Iterator[tuple[str, _Definition]]:
    """(dotted path of the parent, definition) of all functions and classes, in the text's order."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _Definition):
            yield path, node
            yield from _definitions(node, f"{path}.{node.name}")
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions(node, path)
