"""The first screen: what was measured, the best SAEs in sentences to quote, and the frontier.

Owns these sentences and which SAEs they are about. Numbers in them have the digits that their
intervals allow.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from . import markup, plots
from .entries import (
    Entry,
    best,
    by_place,
    canonical,
    interval,
    label,
    model_name,
    on,
    ordered,
    place,
    slots,
    where,
)
from .studies import ShownStudy, counted

_MOST_PLACES = 5
_MOST_SLOTS = 7


def answer(
    evaluations: Sequence[dict[str, Any]], entries: Sequence[Entry], studies: Sequence[ShownStudy]
) -> str:
    """The first section."""
    quotes = "".join(f"<li>{escape(text)}</li>" for text in sentences(entries))
    said = [
        markup.paragraph(measured(evaluations, entries), "lead"),
        f'<ul class="quotes">{quotes}</ul>',
        f'<p><a href="#studies">{escape(counted(studies))}</a></p>' if studies else "",
        markup.warnings(warnings(evaluations, entries), shown=3),
    ]
    drawn, caption = _picture(entries)
    return (
        f'<section id="answer" class="answer" aria-label="The answer"><div>{"".join(said)}</div>'
        f"{markup.figure(drawn, caption) if drawn else ''}</section>" + _facts(evaluations, entries)
    )


def measured(evaluations: Sequence[dict[str, Any]], entries: Sequence[Entry]) -> str:
    """A sentence on what was measured, and on which text."""
    models = ", ".join(sorted({model_name(e) for e in evaluations}))
    places = list(dict.fromkeys(place(entry) for entry in ordered(entries)))
    sites = ", ".join(places[:_MOST_PLACES])
    if len(places) > _MOST_PLACES:
        sites = f"{len(places)} sites from {places[0]} to {places[-1]}"
    widths = sorted({entry["d_sae"] for entry in entries})
    width = f"{widths[0]:,}" if len(widths) == 1 else f"{widths[0]:,} to {widths[-1]:,}"
    kind = "sparse autoencoder" if len(entries) == 1 else "sparse autoencoders"
    texts = "; ".join(dict.fromkeys(_text(e) for e in evaluations))
    return (
        f"{len(entries)} {kind} on {sites} of {models}, {width} latents wide, measured on {texts}. "
        "BOS, EOS and PAD positions count in no figure."
    )


def sentences(entries: Sequence[Entry]) -> list[str]:
    """The best SAEs in words.

    For one site the sparsest, the canonical (L0 nearest 100) and the most faithful; for several
    sites each one's canonical.
    """
    places = by_place(best(entries))
    if len(places) == 1:
        (some,) = places.values()
        picked = [some[0], canonical(some), some[-1]] if len(some) > 1 else some
        picked = ordered({id(entry): entry for entry in picked}.values())
        return [_sentence(entry) for entry in sorted(picked, key=lambda e: e["l0"])]
    said = [_sentence(canonical(some)) for some in list(places.values())[:_MOST_PLACES]]
    if len(places) > _MOST_PLACES:
        said.append(f"{len(places) - _MOST_PLACES} more {_unit(entries)} are in the table.")
    return said


def _unit(entries: Sequence[Entry]) -> str:
    """The word for the groups that each have a best SAE."""
    return "pairs of site and evaluation" if len({on(e) for e in entries}) > 1 else "sites"


def _sentence(entry: Entry) -> str:
    """One SAE's figures in a sentence; only the first interval is called a 95% interval."""
    kinds = ["95% interval "]

    def quoted(metric: str, unit: str) -> str:
        value, ends = rounded(entry, metric, unit)
        return f"{value} ({kinds.pop() if kinds else ''}{ends})" if ends else value

    l0, _ = rounded(entry, "l0")
    parts = [f"costs the language model {quoted('delta_loss', ' nats per token')}"]
    if entry["fvu"] is not None:
        parts.append(f"leaves {quoted('fvu', '%')} of the variance")
    if entry["recovered_share"] is not None:
        share = quoted("recovered_share", "%")
        parts.append(f"recovers {share} of what ablating the site by its mean costs")
    said = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
    return (
        f"With {l0} active latents per token, the SAE of width {entry['d_sae']:,} on "
        f"{where(entry)} {said}."
    )


def rounded(entry: Entry, metric: str, unit: str = "") -> tuple[str, str]:
    """A figure with its unit, and its 95% interval.

    Both have the decimals that show two digits of half of the interval.

    Args:
        unit: of the number; "%" shows a share in percent.

    Returns:
        The figure, and the interval as "LOW to HIGH"; empty if it is not known.
    """
    value, found = entry[metric], interval(entry, metric)
    scale, sign = (100.0, "%") if unit == "%" else (1.0, "")
    if found is None:
        return f"{_three_digits(scale * value)}{unit}".replace("-", "−"), ""
    low, high = (scale * end for end in found)
    digits = _digits((high - low) / 2)
    text, *ends = (markup.number(one, f",.{digits}f") for one in (scale * value, low, high))
    return f"{text}{unit}".replace("-", "−"), f"{' to '.join(ends)}{sign}".replace("-", "−")


def warnings(evaluations: Sequence[dict[str, Any]], entries: Sequence[Entry]) -> list[str]:
    """What a reader must know before the figures."""
    said = [
        f"{tokens['n_sequences_asked']:,} sequences were asked for and {tokens['n_sequences']:,} "
        "measured: the split holds no more."
        for tokens in (evaluation["tokens"] for evaluation in evaluations)
        if tokens["fewer_than_asked"]
    ]
    for entry in entries:
        said += [
            text if entry["name"] in text else f"{entry['name']}: {text}"
            for text in entry.get("warnings") or ()
        ]
    return list(dict.fromkeys(said))


def _text(evaluation: dict[str, Any]) -> str:
    """How much text was used."""
    tokens = evaluation["tokens"]
    return (
        f"{tokens['n_sequences']:,} held-out sequences of {tokens['context']:,} tokens "
        f"({evaluation['clean']['n_predictions']:,} predictions)"
    )


def _picture(entries: Sequence[Entry]) -> tuple[str | None, str]:
    """The frontier and its caption; of many slots some, evenly over sites and widths."""
    found = slots(entries)
    caption = (
        "What splicing in an SAE costs the language model. Bars are 95% intervals over sequences "
        "of these documents; other documents may differ by more."
    )
    if len(found) > _MOST_SLOTS:
        step = (len(found) - 1) / (_MOST_SLOTS - 1)
        picked = [found[round(i * step)][1] for i in range(_MOST_SLOTS)]
        entries = [entry for some in picked for entry in some]
        caption += f" {_MOST_SLOTS} of {len(found)} frontiers, spread evenly; all are below."
    return plots.frontier(entries, "delta_loss", "Δ loss, nats per token"), caption


def _facts(evaluations: Sequence[dict[str, Any]], entries: Sequence[Entry]) -> str:
    """The canonical SAE's figures, large; if evaluations differ, of the first one's."""
    comparable = [entry for entry in entries if on(entry) == on(evaluations[0]["saes"][0])]
    one = canonical(comparable)
    items = [
        _fact(one, "l0", "L0, active latents per token"),
        _fact(one, "fvu", "FVU, variance left over"),
        _fact(one, "delta_loss", "Δ loss, nats per token"),
        _fact(one, "recovered_share", "of mean ablation's cost recovered", "%"),
        (markup.percent(one["dead_share"]), "", "of latents never fired"),
    ]
    several = len(comparable) < len(entries)
    about = f"The {'first evaluation’s ' * several}SAE with L0 nearest 100"
    about = "The SAE" if len(entries) == 1 else about
    named = f"{about}: {where(one)}, width {one['d_sae']:,}, {label(one)}."
    return markup.paragraph(named, "quiet") + markup.facts(*(i for i in items if i is not None))


def _fact(entry: Entry, metric: str, meaning: str, unit: str = "") -> tuple[str, str, str] | None:
    """A figure, its interval and its meaning; None if it was not measured."""
    if entry[metric] is None:
        return None
    return *rounded(entry, metric, unit), meaning


def _three_digits(value: float) -> str:
    """Three significant digits without an exponent."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return markup.number(value, f",.{min(digits, 8)}f")


def _digits(half: float) -> int:
    """Decimals that show two digits of half an interval."""
    return min(8, max(0, 1 - math.floor(math.log10(half)))) if 0 < half < math.inf else 3
