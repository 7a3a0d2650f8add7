"""Writes docs/api.md from the docstrings of all public names: `python scripts/api_page.py`.

With `--check` it writes nothing, and ends with 1 where the page is not what it would write.
"""

import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
PACKAGES = ("", ".store", ".harvest", ".train", ".evaluate", ".pipelines")
HEAD = """# The Python interface

Made from the docstrings by `make api`; a test says when it is old. Every name can be imported
from the package in its heading and is in that package's `dir()`; the most used ones are in
`scopeworks` too. A site is a name such as `"resid_post.12"` or a `Site`. A loaded model, an open
store or a saved SAE is taken wherever settings want its name.

What a stage does is a verb with its object, because the stages themselves are called `harvest`,
`train` and `evaluate`: `harvest_rows`, `train_sae`, `evaluate_saes`. A verb takes its settings, or
their fields by name; `help(scopeworks.train_sae)` lists them.

## Steering

Capture, encode, change, replace, while the model writes:

```python
import scopeworks

lm = scopeworks.load_model("tiny_gemma2")
sae = scopeworks.SAE.load("demo/saes/…")


def more(x):  # [batch, seq, d] at the SAE's site
    f = sae.encode(x)
    changed = f.clone()
    changed[..., 123] = 20.0
    return x + sae.decode(changed) - sae.decode(f)  # what the SAE does not reconstruct stays


with scopeworks.replace(lm, sae.config.site, more):
    print(lm.generate("import os\\n", new_tokens=40))
```
"""


def page() -> str:
    """The whole page; every name once, under the first package that has it."""
    seen: set[int] = set()
    parts = [HEAD]
    for package in PACKAGES:
        module = importlib.import_module(f"scopeworks{package}")
        things = {name: getattr(module, name) for name in module.__all__}
        own = {name: thing for name, thing in things.items() if id(thing) not in seen}
        own = {name: thing for name, thing in own.items() if not inspect.ismodule(thing)}
        seen |= {id(thing) for thing in own.values()}
        parts.append(f"## {module.__name__}\n")
        parts += [_entry(name, thing) for name, thing in own.items()]
    return "\n".join(parts)


def _entry(name: str, thing: Any) -> str:
    lines = [f"### {name}\n", "```python", _signature(name, thing), "```\n", _text(thing)]
    if inspect.isclass(thing):
        for own, member in _members(thing):
            text = textwrap.indent(_text(member), "  ").strip()
            lines.append(f"- `{_one_line(own, member)}`\n\n  {text}\n")
    return "\n".join(lines)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that a class declares itself, with what they say."""
    for name, value in vars(kind).items():
        member = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        public = name == "__call__" or not name.startswith("_")
        known = inspect.isfunction(member) or isinstance(member, property)
        if public and known and inspect.getdoc(member):
            yield name, member


def _signature(name: str, thing: Any) -> str:
    """The signature, an argument a line where it is long."""
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return name
    fields = getattr(thing, "model_fields", {})  # settings: their rules are in their docstrings
    signature = signature.replace(
        parameters=[
            p.replace(annotation=fields[p.name].annotation) if p.name in fields else p
            for p in signature.parameters.values()
        ]
    )
    text = f"{name}{_plain(str(signature))}"  # has a "*" before arguments that need names
    if len(text) <= 100:
        return text
    parameters = [f"    {line}," for line in _listed(signature)]
    empty = inspect.Signature.empty
    result = signature.return_annotation
    tail = "" if result is empty else f" -> {_plain(inspect.formatannotation(result))}"
    return "\n".join([f"{name}(", *parameters, f"){tail}"])


def _listed(signature: inspect.Signature) -> Iterator[str]:
    """The parameters, with a `*` before the first that is taken only by name."""
    starred = False
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not starred:
            yield "*"
        starred |= p.kind in (p.VAR_POSITIONAL, p.KEYWORD_ONLY)
        yield _plain(str(p))


def _one_line(name: str, member: Any) -> str:
    if isinstance(member, property):
        return f".{name}"
    return f".{name}{_plain(str(inspect.signature(member)))}".replace("(self, ", "(").replace(
        "(self)", "()"
    )


def _plain(text: str) -> str:
    """Annotations without the modules that they come from; a default that is a function as `...`,
    since its address is another in every process."""
    text = re.sub(r"<function .*? at 0x[0-9a-f]+>", "...", text)
    for prefix in ("typing.", "collections.abc.", "pathlib.", "jaxtyping.", "torch.", "numpy."):
        text = text.replace(prefix, "")
    return text


def _text(thing: Any) -> str:
    """The docstring as it stands."""
    return f"```text\n{inspect.getdoc(thing) or ''}\n```\n"


def main() -> int:
    """Writes or checks the page."""
    wanted = page()
    if "--check" in sys.argv[1:]:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != wanted)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
