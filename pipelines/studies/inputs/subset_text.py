"""Text by subset for a suite on Python's own sources: its held-out files by kind of text.

Owns the token store that the study of subsets reads then. Its subsets are docstrings, comments and
code of the files that the suite holds out. The suite's SAEs are measured on it; none is trained.
"""

import ast
import io
import itertools
import json
import tokenize as python_tokens

from ....harvest.settings import TokenizeSettings
from ....harvest.text.documents import is_held_out, read_files
from ....harvest.text.stdlib import STDLIB, stdlib_sources
from ....harvest.tokens.run import tokenize_text
from ....store import TokenStore
from ....store.place.files import write_file
from ...run.runner import run_suite
from ...suite.keys import key
from ...suite.outputs import Outputs
from ...suite.settings import SuiteFile

_HELD_OUT = 0.999
"""Share of the texts that are held out: nearly all."""


def subset_tokens(file: SuiteFile, study: str) -> tuple[str, bool]:
    """The path of the token store by kind of text, and whether it had to be made.

    Raises:
        ValueError: the suite's text has no subsets and is not Python's own sources.
    """
    if tuple(file.text_table.sources) != (STDLIB,):
        raise ValueError(
            f"study {study} must be given a suite whose text has subsets, got {file.path}; name "
            "the field of a row that holds its subset: [text] subset_field"
        )
    run_suite(file, last="tokenize", study=study)  # from here on the folder is the suite's
    return _token_store(Outputs(file))


def kinds_of_text(source: str) -> dict[str, str]:
    """Docstrings, comments and code of a Python file; {} for a file that is not valid Python."""
    try:
        spans = _docstrings(ast.parse(source))
        tokens = list(python_tokens.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, ValueError, python_tokens.TokenError):
        return {}
    lines = source.splitlines(keepends=True)
    comments = [t for t in tokens if t.type == python_tokens.COMMENT]
    inside = {line for first, last in spans for line in range(first, last + 1)}
    code = []
    for number, line in enumerate(lines, 1):
        starts = [t.start[1] for t in comments if t.start[0] == number]
        kept = line if not starts else line[: starts[0]].rstrip() + "\n"
        if number not in inside and kept.strip():
            code.append(kept)
    texts = {
        "docstrings": "\n".join("".join(lines[a - 1 : b]) for a, b in spans),
        "comments": "\n".join(t.string for t in comments),
        "code": "".join(code),
    }
    return {name: text for name, text in texts.items() if text.strip()}


def _docstrings(tree: ast.Module) -> list[tuple[int, int]]:
    """(first line, last line) of each docstring, counted from 1."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            found.append((first.lineno, first.end_lineno or first.lineno))
    return sorted(found)


def _training_text(context: int) -> str:
    """A text that is not held out: a token store must have a training sequence, even if it is never
    read."""
    tries = (f"# {i}\n" + "pass\n" * 2 * context for i in itertools.count())
    return next(text for text in tries if not is_held_out(text, _HELD_OUT))


def _token_store(outputs: Outputs) -> tuple[str, bool]:
    """The token store, made if it is not there."""
    asked = outputs.tokenize_settings()
    held = [d.text for d in read_files(stdlib_sources()) if is_held_out(d.text, asked.held_out)]
    rows = [
        {"text": text, "subset": name}
        for source in held
        for name, text in kinds_of_text(source).items()
    ]
    rows.append({"text": _training_text(asked.context), "subset": "code"})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    own = key("subsets", 1, [asked.context, asked.seed], outputs.tokenizer_key, key("t", 1, lines))
    store = outputs.out / "tokens" / f"subsets-{own}"
    try:
        TokenStore.open(str(store))
        made = False
    except FileNotFoundError:
        made = True
        text = store.parent / f"subsets-{own}.jsonl"
        write_file(text, lines.encode())
        settings = TokenizeSettings(
            model=outputs.suite.model,
            text=[str(text)],
            out=str(store),
            context=asked.context,
            held_out=_HELD_OUT,
            seed=asked.seed,
            subset_field="subset",
        )
        print(tokenize_text(settings))
    return str(store), made
