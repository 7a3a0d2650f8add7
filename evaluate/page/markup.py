"""Pieces of HTML: tables, figures, shaded snippets.

Owns escaping: every function takes plain text and returns markup, and nothing reaches the page
around them.
"""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

# Line breaks and tabs inside tokens are shown as signs: a snippet that breaks where its text does
# hides where it ends.
_SHOWN = {"\n": "↵", "\t": "→", "\r": "␍"}


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], n_text: int, caption: str) -> str:
    """A table whose first `n_text` columns are text and whose others are right-aligned numbers."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if i >= n_text else ''}>{escape(value)}</{tag}>"
            for i, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", columns)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div><p class=quiet>{escape(caption)}</p>"
    )


def figures(*drawn: tuple[str | None, str]) -> str:
    """A grid of (svg, caption); those without an SVG are left out."""
    shown = [
        f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        for svg, caption in drawn
        if svg is not None
    ]
    return f'<div class="plots">{"".join(shown)}</div>'


def facts(*pairs: tuple[str, str]) -> str:
    """Large figures with what they are underneath: (value, meaning)."""
    items = "".join(
        f'<li><b>{escape(value)}</b><span class="quiet">{escape(meaning)}</span></li>'
        for value, meaning in pairs
    )
    return f'<ul class="facts">{items}</ul>'


def latent(entry: dict[str, Any]) -> str:
    """A latent's heading and its snippets, tokens shaded by activation."""
    strongest = max((s["activation"] for s in entry["snippets"]), default=1.0)
    snippets = "".join(_snippet(snippet, strongest) for snippet in entry["snippets"])
    return (
        f'<div class="latent"><h3>Latent {entry["latent"]:,}</h3>'
        f'<p class="quiet">fires on {percent(entry["frequency"])} of tokens, '
        f"strongest activation {strongest:.4g}</p>{snippets}</div>"
    )


def settings(title: str, value: Any) -> str:
    """Resolved settings as folded JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def percent(share: float) -> str:
    """A share with two significant digits, or more where they stand before the point."""
    value = 100 * share
    return f"{value:.0f}%" if value >= 10 else f"{value:.2g}%"


def number(value: float | None, form: str) -> str:
    """A number in a format; a dash where there is none."""
    return "–" if value is None else format(value, form)


def _snippet(snippet: dict[str, Any], strongest: float) -> str:
    """One snippet; full shade is the latent's strongest activation, so that snippets compare."""
    peak = snippet["position"] - snippet["start"]
    tokens = zip(snippet["tokens"], snippet["activations"], strict=True)
    text = "".join(_token(t, a, strongest, i == peak) for i, (t, a) in enumerate(tokens))
    return f'<div class="snippet">{text}</div>'


def _token(text: str, activation: float, strongest: float, peak: bool) -> str:
    """A token; where the latent is active it is shaded and says its value when pointed at."""
    shown = escape("".join(_SHOWN.get(c, c) for c in text))
    for sign in _SHOWN.values():
        shown = shown.replace(sign, f"<i>{sign}</i>")
    if activation <= 0:
        return shown
    shade = min(1.0, activation / strongest)
    tip = escape(f"{text!r}: {activation:.4g}", quote=True)
    mark = ' class="peak"' if peak else ""
    return f'<span{mark} style="--a:{0.1 + 0.75 * shade:.2f}" title="{tip}">{shown}</span>'
