"""The report's sections after the first screen: figures and sentences about SAEs, as markup.

Owns what the sections show. Tables are in `tables`. An entry is one SAE of an evaluation's JSON.
"""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from . import markup, plots
from .entries import (
    Entry,
    by_place,
    canonical,
    label,
    model_name,
    on,
    rungs,
    slots,
)

_MOST_PLACES = 6
"""Most sites with curves of their own; the table has all."""
_MOST_SLOTS = 7
_BARS = "Bars are 95% intervals over sequences of these documents."
_FRONTIERS = (
    ("delta_loss", "Δ loss, nats per token", f"What the splice costs the language model. {_BARS}"),
    (
        "fvu",
        "FVU",
        f"E‖x − x̂‖² / E‖x − E x‖²: 0 is perfect, 1 is no better than the mean of x. {_BARS}",
    ),
    ("kl", "KL, nats per token", f"KL(clean ‖ spliced) of the next token. {_BARS}"),
)


def frontiers(entries: list[Entry]) -> str:
    """Quality against sparsity; against width too if there are several."""
    found = slots(entries)
    groups = [found[i : i + _MOST_SLOTS] for i in range(0, len(found), _MOST_SLOTS)]
    drawn: list[tuple[str | None, str]] = []
    for metric, name, caption in _FRONTIERS:
        if metric == "delta_loss" and len(groups) == 1:  # it is on the first screen
            continue
        for group in groups:
            some = [entry for _, points in group for entry in points]
            drawn.append((plots.frontier(some, metric, name), caption))
    if rungs(entries):
        drawn += [
            (plots.width_ladder(entries, "delta_loss", "Δ loss, nats per token"), "At equal λ."),
            (plots.width_ladder(entries, "l0", "L0"), "At equal λ."),
        ]
    return markup.section("frontier", "Sparsity and fidelity", markup.figures(*drawn))


def positions(evaluations: Sequence[dict[str, Any]]) -> str:
    """Curves over the position in the sequence, a pair of plots for each site.

    SAEs that were measured on different sequences are not in one plot.
    """
    parts = []
    comparable: dict[tuple[int, ...], list[Entry]] = {}
    for e in evaluations:
        counts = tuple(e["clean"]["by_position"]["n_predictions"])
        comparable.setdefault(counts, []).extend(e["saes"])
    for counts, entries in comparable.items():

        def pair(some: list[Entry], counts: tuple[int, ...] = counts) -> str:
            error = plots.by_position(some, counts, "error", "error / variance over all positions")
            loss = plots.by_position(some, counts, "delta_loss", "Δ loss, nats per token")
            return markup.figures(
                (error, "Squared error by position. The mean over positions is the FVU."),
                (loss, "Loss added by the splice, by position."),
            )

        parts.append(_at_each_place(entries, pair))
    return markup.section("positions", "By position", "".join(parts))


def firing(entries: list[Entry]) -> str:
    """How often latents fire."""
    places, drawn = by_place(entries), []
    for where, some in list(places.items())[:_MOST_PLACES]:
        n_tokens = max(entry["firing"]["n_tokens"] for entry in some)
        caption = f"Over {n_tokens:,} tokens; 0.1 decade a bin; a latent that never fired is in no "
        drawn.append((plots.firing(some), f"{where}. {caption}bin."))
    body = markup.figures(*drawn) + _left_out(places)
    return markup.section("frequencies", "Firing frequencies", body)


def training(entries: list[Entry]) -> str:
    """Training curves of the SAEs that have them."""

    def one(some: list[Entry]) -> str:
        idle = max(max(e["training"]["metrics"].get("dead_share") or [0.0]) for e in some)
        none = markup.paragraph("No SAE had an idle latent at any time.", "quiet")
        return ("" if idle else none) + markup.figures(
            (
                plots.training(some, "fvu", "FVU", log=True),
                "On training batches; each point is the mean since the point before.",
            ),
            (
                plots.training(some, "l0", "L0", log=True),
                "Active latents per token, on the same batches.",
            ),
            (
                plots.training(some, "dead_share", "idle latents, share") if idle else None,
                "Latents that did not fire on the last dead_after_rows rows of training (a "
                "setting). The table's dead latents are others: they did not fire on the evaluated "
                "tokens, which are fewer.",
            ),
        )

    known: list[Entry] = []
    for entry in entries:  # one SAE may have been measured twice
        if (entry.get("training") or {}).get("metrics") and not any(
            (entry["name"], entry["training"]) == (e["name"], e["training"]) for e in known
        ):
            known.append(entry)
    return markup.section("training", "Training", _at_each_place(known, one))


def _at_each_place(entries: Sequence[Entry], drawn: Callable[[list[Entry]], str]) -> str:
    """The same figures for every site, under its name if there are several."""
    places = by_place(entries)
    parts = []
    for where, some in list(places.items())[:_MOST_PLACES]:
        heading = f"<h3>{escape(where)}</h3>" if len(places) > 1 else ""
        parts.append(heading + drawn(some))
    return "".join(parts) + _left_out(places)


def _left_out(places: dict[str, list[Entry]]) -> str:
    """Says which sites have no curves."""
    more = len(places) - _MOST_PLACES
    text = f"{more} more {'site is' if more == 1 else 'sites are'} in the table only."
    return markup.paragraph(text, "quiet") if more > 0 else ""


def top_activations(entries: list[Entry]) -> str:
    """Snippets of every SAE that has them; only those of the canonical SAE are unfolded."""
    shown = [entry for entry in entries if entry.get("top_activations")]
    if not shown:
        return ""
    first = canonical(shown)
    intro = markup.paragraph(
        "Latents are drawn evenly over the ranks of firing frequency, not picked by hand. Each is "
        "shown with the held-out sequences in which it is most active; the strongest token is "
        "outlined. Point at a shaded token to see its activation."
    )
    parts = [
        markup.folded(
            f"{entry['name']} ({', '.join(t for t in (on(entry), label(entry)) if t)})",
            "".join(markup.latent(latent) for latent in entry["top_activations"]),
            is_open=entry is first,
        )
        for entry in sorted(shown, key=lambda entry: entry is not first)
    ]
    return markup.section("latents", "What latents react to", intro + "".join(parts))


def provenance(evaluations: Sequence[dict[str, Any]]) -> str:
    """Where the numbers come from."""
    parts = []
    for e in evaluations:
        tokens, model, seconds = e["tokens"], e["model"], e.get("seconds")
        took = "" if seconds is None else f" in {seconds:,.0f} s"
        said = (
            f"Model {model_name(e)} (weights {model['fingerprint']}, computed in "
            f"{model['dtype']}); tokens {tokens['fingerprint'][:16]}, split {tokens['split']}; "
            f"{e['clean']['n_predictions']:,} predictions{took}."
        )
        parts.append(markup.paragraph(said, "quiet"))
        parts.append(markup.settings("Evaluation settings", e["settings"]))
        parts += _training_settings(e["saes"])
    return markup.section("provenance", "Where the numbers come from", "".join(parts))


def _training_settings(entries: list[Entry]) -> list[str]:
    """The training settings that all SAEs share, then those that differ."""
    found = {e["name"]: e["training"]["settings"] for e in entries if e.get("training")}
    if len(found) < 2:
        return [markup.settings(f"Training settings of {n}", own) for n, own in found.items()]
    first = next(iter(found.values()))
    shared = {
        key: value
        for key, value in first.items()
        if all(key in own and own[key] == value for own in found.values())
    }
    own = {name: {k: v for k, v in s.items() if k not in shared} for name, s in found.items()}
    return [
        markup.settings(f"Training settings that all {len(found)} SAEs share", shared),
        markup.settings("Training settings of each SAE by itself", own),
    ]
