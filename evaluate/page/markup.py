"""Pieces of HTML: sections, figures, facts, shaded snippets.

Owns escaping: every function takes plain text and returns markup, and no text reaches the page
without it. Tables are in `tables`.
"""

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from html import escape
from typing import Any

_LARGE = 1e4
# Line breaks and tabs inside tokens are shown as signs, so that one can see where a snippet ends.
_SHOWN = {"\n": "↵", "\t": "→", "\r": "␍"}


def section(anchor: str, title: str, body: str) -> str:
    """A part of the page that can be linked to; empty if it has no body."""
    if not body:
        return ""
    return (
        f'<section id="{escape(anchor)}" aria-labelledby="{escape(anchor)}-title">'
        f'<h2 id="{escape(anchor)}-title">{escape(title)}</h2>{body}</section>'
    )


def contents(parts: Iterable[tuple[str, str]]) -> str:
    """Links to sections: (anchor, title)."""
    items = "".join(f'<li><a href="#{escape(a)}">{escape(title)}</a></li>' for a, title in parts)
    return f'<nav aria-label="Contents"><ol>{items}</ol></nav>'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text; `kind` is its class on the page."""
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def figures(*drawn: tuple[str | None, str]) -> str:
    """A grid of (svg, caption); those without an SVG are left out."""
    shown = [figure(svg, caption) for svg, caption in drawn if svg is not None]
    return f'<div class="plots">{"".join(shown)}</div>' if shown else ""


def figure(svg: str, caption: str) -> str:
    """A picture (markup from `inline_svg`) with its caption."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def facts(*items: tuple[str, str, str]) -> str:
    """Large figures: (value, interval or '', meaning)."""
    shown = "".join(
        f"<li><b>{escape(value)}</b>"
        f'<span class="quiet">{escape(meaning)}</span>'
        f"{f'<small>{escape(interval)}</small>' if interval else ''}</li>"
        for value, interval, meaning in items
    )
    return f'<ul class="facts">{shown}</ul>'


def warnings(sentences: Sequence[str], shown: int) -> str:
    """Warnings above the figures; those after the first `shown` are folded."""
    if not sentences:
        return ""
    items = [f"<li>{escape(sentence)}</li>" for sentence in sentences]
    rest = "".join(items[shown:])
    more = f"<details><summary>{len(items) - shown:,} more</summary><ul>{rest}</ul></details>"
    title = "Warning" if len(items) == 1 else f"{len(items):,} warnings"
    return (
        f'<aside class="warnings" aria-label="Warnings"><p><b>⚠ {title}</b></p>'
        f"<ul>{''.join(items[:shown])}</ul>{more if rest else ''}</aside>"
    )


def latent(entry: dict[str, Any]) -> str:
    """A latent's heading and its snippets, tokens shaded by activation."""
    strongest = max((s["activation"] for s in entry["snippets"]), default=1.0)
    snippets = "".join(_snippet(snippet, strongest) for snippet in entry["snippets"])
    return (
        f'<div class="latent"><h4>Latent {entry["latent"]:,}</h4>'
        f'<p class="quiet">fires on {percent(entry["frequency"])} of tokens, '
        f"strongest activation {strongest:.4g}</p>{snippets}</div>"
    )


def settings(title: str, value: Any) -> str:
    """Resolved settings as folded JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return folded(title, f"<pre>{escape(text)}</pre>")


def folded(title: str, body: str, is_open: bool = False) -> str:
    """Markup that a click on its title unfolds."""
    mark = " open" if is_open else ""
    return f"<details{mark}><summary>{escape(title)}</summary>{body}</details>"


def percent(share: float) -> str:
    """A share in percent with two significant digits, and no digit before the point left out."""
    value = 100 * share
    return f"{value:.0f}%" if value >= 10 else f"{format(Decimal(f'{value:.2g}'), 'f')}%"


def number(value: float | None, form: str) -> str:
    """`plain_number` with a typographic minus sign."""
    return plain_number(value, form).replace("-", "−")


def plain_number(value: float | None, form: str) -> str:
    """A number in a format; a dash for None.

    From 10⁴ on, a format with fixed decimals gives four digits, with an exponent if need be.
    """
    if value is None:
        return "–"
    if abs(value) < _LARGE or form[-1] not in "f%":
        return format(value, form)
    share, start = form[-1] == "%", form.partition(".")[0]
    return format(value * (100 if share else 1), f"{start}.4g") + "%" * share


def _snippet(snippet: dict[str, Any], strongest: float) -> str:
    """One snippet. Full shade is the latent's strongest activation, so snippets can be compared."""
    peak = snippet["position"] - snippet["start"]
    tokens = zip(snippet["tokens"], snippet["activations"], strict=True)
    text = "".join(_token(t, a, strongest, i == peak) for i, (t, a) in enumerate(tokens))
    return f'<div class="snippet">{text}</div>'


def _token(text: str, activation: float, strongest: float, peak: bool) -> str:
    """A token. If the latent is active there, it is shaded and shows its value when pointed at."""
    shown = escape("".join(_SHOWN.get(c, c) for c in text))
    for sign in _SHOWN.values():
        shown = shown.replace(sign, f"<i>{sign}</i>")
    if activation <= 0:
        return shown
    shade = min(1.0, activation / strongest)
    tip = escape(f"{text!r}: {activation:.4g}", quote=True)
    mark = ' class="peak"' if peak else ""
    return f'<span{mark} style="--a:{0.1 + 0.75 * shade:.2f}" title="{tip}">{shown}</span>'
