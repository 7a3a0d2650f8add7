"""The page's tables: their columns, cells with intervals, and the values that columns sort by.

A table needs no script. Where the page's script runs, a click on a heading sorts a `sortable` table
by that column: numbers by `data-v`, then text, then empty cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from . import markup
from .entries import Entry, best, interval, on, ordered, place, sparsity, three_digits, where

_UNBROKEN = 24
"""Text cells of at most so many characters are kept on one line."""
_DETAILS = (
    ("dimension's FVU, 5%", "by_dimension/quantiles/0.05"),
    ("median", "by_dimension/quantiles/0.50"),
    ("95%", "by_dimension/quantiles/0.95"),
    ("θ, median", "weights/theta/0.50"),
    ("θ, 95%", "weights/theta/0.95"),
    ("‖W_enc‖, median", "weights/W_enc_norm/0.50"),
    ("‖W_dec‖, median", "weights/W_dec_norm/0.50"),
    ("‖b_dec‖", "weights/b_dec_norm"),
    ("‖x̂‖/‖x‖", "norm_ratio"),
    ("above 1%", "firing/share_above_1_percent"),
)
_IMPORTANCE = (("r_l0", 3), ("effective_latents", 1), ("active_latents", 1))


@dataclass(frozen=True)
class Cell:
    """A number.

    Attributes:
        text: what is shown.
        value: the number to sort by; None if it is missing.
        error: half of the interval's length, as text; empty if not known.
        title: shown when pointed at.
    """

    text: str
    value: float | None = None
    error: str = ""
    title: str = ""


def figure(entry: Entry, metric: str, digits: int, share: bool = False, sign: bool = False) -> Cell:
    """A measured figure with its 95% interval; a dash if there is no figure.

    The cell shows ± half of the interval, and both ends when pointed at.
    """
    value = entry.get(metric)
    form = f".{digits}{'%' if share else 'f'}"
    found = interval(entry, metric)
    text = markup.number(value, ("+" if sign else "") + form)
    if value is None or found is None:
        return Cell(text, value)
    low, high = found
    half = (high - low) / 2 * (100 if share else 1)
    return Cell(
        text,
        value,
        f"± {markup.number(half, f'.{digits}f')}",
        f"95% interval {markup.number(low, form)} to {markup.number(high, form)}",
    )


def plain(value: float | None, text: str) -> Cell:
    """A number shown as this text; a dash for None."""
    return Cell(text if value is not None else "–", value)


def table(columns: Sequence[str], rows: Sequence[Sequence[str | Cell]], caption: str) -> str:
    """A table in a box that scrolls. Columns of `Cell`s are numbers, columns of strings text.

    Empty columns are left out, except the first.
    """
    numbers = {i for i in range(len(columns)) if all(isinstance(row[i], Cell) for row in rows)}
    cells = [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in rows]
    shown = [
        i
        for i in range(len(columns))
        if i == 0 or any(row[i].text not in ("", "–") for row in cells)
    ]
    head = "".join(
        f'<th scope="col"{" class=n" if i in numbers else ""}>{escape(columns[i])}</th>'
        for i in shown
    )
    body = "".join(
        f"<tr>{''.join(_cell(row[i], i in numbers, i == 0) for i in shown)}</tr>" for row in cells
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption[:60])}">'
        f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="quiet">{escape(caption)}</p>'
    )


def _cell(cell: Cell, is_number: bool, is_head: bool) -> str:
    """A cell's markup; the first cell of a row is its heading."""
    tag = "th" if is_head else "td"
    marks = ' scope="row"' if is_head else ""
    marks += " class=n" if is_number else " class=k" if len(cell.text) <= _UNBROKEN else ""
    if cell.value is not None:
        marks += f' data-v="{cell.value!r}"'
    if cell.title:
        marks += f' title="{escape(cell.title)}"'
    error = f"<small>{escape(cell.error)}</small>" if cell.error else ""
    text = escape(cell.text)
    if is_head:  # a long name breaks between its parts, not inside a number
        text = text.replace("_", "_<wbr>").replace("/", "/<wbr>")
    return f"<{tag}{marks}>{text}{error}</{tag}>"


def sae_table(evaluations: Sequence[dict[str, Any]], entries: list[Entry]) -> str:
    """A table with one row per SAE; its caption has the clean and the ablated losses."""
    names = "SAE|measured on|L0|FVU|Δ loss|recovered|KL|cosine|dead|dense|site|width|λ|rows trained"
    front = {id(entry) for entry in best(entries)}
    several = len({place(entry) for entry in entries}) > 1
    rows = [_row(entry, id(entry) in front, several) for entry in ordered(entries)]
    baselines = [
        f"{where(e['saes'][0] | {'site': site, 'target_site': site})}: clean "
        f"{e['clean']['loss']:.4f}, mean ablation {b['mean_ablation_loss']:.4f}, "
        f"zero ablation {b['zero_ablation_loss']:.4f}"
        for e in evaluations
        for site, b in e["baselines"].items()
    ]
    caption = (
        "± is half of a 95% interval over sequences of these documents; other documents may differ "
        "by more. Point at a figure to see both ends. Frontier: no other SAE of the site, measured "
        "on the same, has a lower L0 and a lower Δ loss. Δ loss: cross-entropy with the "
        "reconstruction spliced in, minus without, in nats per token. Recovered: the share of mean "
        "ablation's cost that the SAE recovers. KL: KL(clean ‖ spliced) of the next token, nats. "
        "Dead: fired on none of the evaluated tokens. Dense: fired on more than 10% of them. "
        f"Losses at {'; '.join(dict.fromkeys(baselines))}."
    )
    body = table([*names.split("|"), "frontier"], rows, caption) + details(entries)
    return markup.section("table", "All SAEs", body)


def _row(entry: Entry, is_best: bool, with_place: bool) -> list[str | Cell]:
    """An SAE's cells."""
    trained, coefficient, dense = (
        entry["config"].get("trained_rows"),
        sparsity(entry),
        _dense(entry),
    )
    return [
        entry["name"],
        on(entry),
        *_main_figures(entry),
        figure(entry, "kl", 4),
        figure(entry, "cosine", 4),
        plain(entry["dead_share"], markup.percent(entry["dead_share"])),
        plain(dense, markup.percent(dense or 0.0)),
        place(entry) if with_place else "",
        plain(entry["d_sae"], f"{entry['d_sae']:,}"),
        plain(coefficient, "" if coefficient is None else three_digits(coefficient)),
        plain(trained, markup.number(trained, ",")),
        "● best" if is_best else "",
    ]


def _main_figures(entry: Entry) -> list[Cell]:
    """L0, FVU, delta loss and recovered share."""
    return [
        figure(entry, "l0", 1),
        figure(entry, "fvu", 4),
        figure(entry, "delta_loss", 4, sign=True),
        figure(entry, "recovered_share", 2, share=True),
    ]


def _dense(entry: Entry) -> float | None:
    """The share of latents that fire on more than a tenth of the tokens."""
    firing = entry["firing"]
    if (share := firing.get("share_above_10_percent")) is not None:
        return share
    n_dense = firing.get("n_above_10_percent")
    return None if n_dense is None else n_dense / entry["d_sae"]


def details(entries: list[Entry]) -> str:
    """A folded table of dimensions, thresholds and norms of each SAE."""
    rows = [
        [entry["name"], on(entry), *(_small(_inside(entry, path)) for _, path in _DETAILS)]
        for entry in ordered(entries)
    ]
    if all(cell.value is None for row in rows for cell in row[2:]):
        return ""
    names = ["SAE", "measured on", *(name for name, _ in _DETAILS)]
    caption = (
        "FVU of single dimensions of the site; θ and the lengths of the encoder's columns and the "
        "decoder's rows over latents, raw units; ‖x̂‖/‖x‖ over tokens; latents that fire on more "
        "than 1% of the tokens."
    )
    return markup.folded(
        "Dimensions, thresholds and norms of each SAE", table(names, rows, caption)
    )


def _inside(entry: Entry, path: str) -> float | None:
    """A number of an entry by its path; None if it was not measured."""
    value: Any = entry
    for name in path.split("/"):
        value = (value or {}).get(name)
    return value


def _small(value: float | None) -> Cell:
    return plain(value, markup.number(value, ".3g"))


def importance(entries: list[Entry]) -> str:
    """A table of how evenly latents matter for predictions, where it was measured."""
    measured = [(entry, entry["importance"]) for entry in entries if "importance" in entry]
    rows = [
        [
            entry["name"],
            on(entry),
            *(plain(found[one], f"{found[one]:.{digits}f}") for one, digits in _IMPORTANCE),
            plain(found["n_tokens"], f"{found['n_tokens']:,}"),
        ]
        for entry, found in measured
        if found and found["n_tokens"]
    ]
    if not rows:
        return ""
    names = "SAE|measured on|r of L0|effective latents|active latents|tokens"
    caption = (
        "Attribution of the correct next token's logit to latents: y = f ⊙ (W_dec ∇L), "
        "p = |y| / Σ|y|. Effective latents: exp of the entropy of p. r of L0: effective over "
        "active latents; 1 if all matter alike."
    )
    body = table(names.split("|"), rows, caption)
    return markup.section("importance", "Importance of latents", body)


def subsets(evaluations: Sequence[dict[str, Any]]) -> str:
    """A table of figures on each subset of the text, where they were measured."""
    rows = [
        [
            name,
            entry["name"],
            on(entry),
            plain(subset["clean_loss"], f"{subset['clean_loss']:.4f}"),
            *_main_figures(entry),
            plain(subset["n_sequences"], f"{subset['n_sequences']:,}"),
        ]
        for evaluation in evaluations
        for name, subset in evaluation.get("subsets", {}).items()
        for entry in subset["saes"]
    ]
    if not rows:
        return ""
    names = "subset|SAE|measured on|clean loss|L0|FVU|Δ loss|recovered|sequences"
    caption = "Each subset by itself: FVU and mean ablation take the subset's own mean."
    body = table(names.split("|"), rows, caption)
    return markup.section("subsets", "Text subsets", body)
