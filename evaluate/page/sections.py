"""The report's sections after the first screen: figures and sentences about SAEs -> markup.

Owns what they say. An entry is one SAE of an evaluation's JSON.
"""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from . import markup, plots
from .answer import model_name
from .entries import (
    Entry,
    best,
    by_place,
    canonical,
    label,
    ordered,
    place,
    rungs,
    slots,
    sparsity,
)
from .table import Cell, figure, plain, table

_MOST_PLACES = 6
"""Sites that have curves of their own; the table has all."""
_MOST_SLOTS = 7
_BARS = "Bars are 95% intervals over sequences."
_FRONTIERS = (
    ("delta_loss", "Δ loss, nats per token", f"What the splice costs the language model. {_BARS}"),
    ("fvu", "FVU", f"E‖x − x̂‖² / E‖x − E x‖²: 0 is perfect, 1 is the mean. {_BARS}"),
    ("kl", "KL, nats per token", f"From the model's predictions to the spliced model's. {_BARS}"),
)
_IMPORTANCE = (("r_l0", 3), ("effective_latents", 1), ("active_latents", 1))


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
    """Curves over the position in the sequence, one pair a site; SAEs measured on other sequences
    are apart."""
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

    def one(some: list[Entry]) -> str:
        n_tokens = max(entry["firing"]["n_tokens"] for entry in some)
        caption = f"Over {n_tokens:,} tokens; 0.1 decade a bin; a latent that never fired is in "
        return markup.figures((plots.firing(some), caption + "none."))

    return markup.section("frequencies", "Firing frequencies", _at_each_place(entries, one))


def training(entries: list[Entry]) -> str:
    """Training curves, where the SAEs' folders have them."""

    def one(some: list[Entry]) -> str:
        idle = max(max(e["training"]["metrics"].get("dead_share") or [0.0]) for e in some)
        none = markup.paragraph("No SAE had an idle latent at any time.", "quiet")
        return ("" if idle else none) + markup.figures(
            (
                plots.training(some, "fvu", "FVU", log=True),
                "On training batches, means between two lines.",
            ),
            (
                plots.training(some, "l0", "L0", log=True),
                "It starts high: λ warms up and thresholds must grow.",
            ),
            (
                plots.training(some, "dead_share", "idle latents, share") if idle else None,
                "Latents that fired on none of the last rows of training, as many as the setting "
                "dead_after_rows says. Not the table's dead latents: those fired on none of the "
                "evaluated tokens, which are fewer.",
            ),
        )

    known = [entry for entry in entries if (entry.get("training") or {}).get("metrics")]
    return markup.section("training", "Training", _at_each_place(known, one))


def _at_each_place(entries: Sequence[Entry], drawn: Callable[[list[Entry]], str]) -> str:
    """The same figures for every site, under its name if there are several."""
    places = by_place(entries)
    parts = []
    for where, some in list(places.items())[:_MOST_PLACES]:
        heading = f"<h3>{escape(where)}</h3>" if len(places) > 1 else ""
        parts.append(heading + drawn(some))
    if len(places) > _MOST_PLACES:
        more = len(places) - _MOST_PLACES
        parts.append(markup.paragraph(f"{more} more sites are in the table only.", "quiet"))
    return "".join(parts)


def top_activations(entries: list[Entry]) -> str:
    """Snippets of every SAE that has them; only the canonical one's are unfolded."""
    shown = [entry for entry in entries if entry.get("top_activations")]
    if not shown:
        return ""
    first = canonical(shown)
    intro = markup.paragraph(
        "Latents drawn evenly over the ranks of firing frequency, not picked for looks; for each, "
        "the held-out sequences with its strongest activations, the strongest token outlined. "
        "Point at a shaded token for its activation."
    )
    parts = [
        markup.folded(
            f"{entry['name']} ({label(entry)})",
            "".join(markup.latent(latent) for latent in entry["top_activations"]),
            is_open=entry is first,
        )
        for entry in sorted(shown, key=lambda entry: entry is not first)
    ]
    return markup.section("latents", "What latents react to", intro + "".join(parts))


def importance(entries: list[Entry]) -> str:
    """How evenly latents share in predictions, where it was measured."""
    measured = [(entry["name"], entry["importance"]) for entry in entries if "importance" in entry]
    rows = [
        [
            name,
            *(plain(found[one], f"{found[one]:.{digits}f}") for one, digits in _IMPORTANCE),
            plain(found["n_tokens"], f"{found['n_tokens']:,}"),
        ]
        for name, found in measured
        if found and found["n_tokens"]
    ]
    if not rows:
        return ""
    names = "SAE|r of L0|effective latents|active latents|tokens"
    caption = (
        "Attribution of the correct next token's logit to latents: y = f ⊙ (W_dec ∇L), "
        "p = |y| / Σ|y|. Effective latents: exp of the entropy of p. r of L0: effective over "
        "active latents, 1 if all matter the same."
    )
    body = table(names.split("|"), rows, 1, caption)
    return markup.section("importance", "Importance of latents", body)


def subsets(evaluations: Sequence[dict[str, Any]]) -> str:
    """Figures on each subset of the text, where they were measured."""
    rows = [
        [
            name,
            entry["name"],
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
    names = "subset|SAE|clean loss|L0|FVU|Δ loss|recovered|sequences"
    caption = "Each subset by itself: its own sequences, its own mean in FVU and mean ablation."
    body = table(names.split("|"), rows, 2, caption)
    return markup.section("subsets", "Text subsets", body)


def sae_table(evaluations: Sequence[dict[str, Any]], entries: list[Entry]) -> str:
    """One row per SAE, and the losses they lie between."""
    names = "SAE|site|frontier|width|λ|L0|FVU|Δ loss|recovered|KL|cosine|dead|dense|rows trained"
    front = {id(entry) for entry in best(entries)}
    several = len(by_place(entries)) > 1
    rows = [_row(entry, id(entry) in front, several) for entry in ordered(entries)]
    baselines = [
        f"{site}: clean {e['clean']['loss']:.4f}, mean ablation {b['mean_ablation_loss']:.4f}, "
        f"zero ablation {b['zero_ablation_loss']:.4f}"
        for e in evaluations
        for site, b in e["baselines"].items()
    ]
    caption = (
        "± is half of a 95% interval over sequences; point at a figure for its ends. Frontier: no "
        "other SAE of the site has a lower L0 and a lower Δ loss. Δ loss: cross-entropy with the "
        "reconstruction spliced in, minus without, in nats per token. Recovered: the share of what "
        "mean ablation of the site costs. KL: from the model's predictions to the spliced model's. "
        "Dead: fired on none of the evaluated tokens; dense: on more than a tenth of them. "
        f"Losses at {'; '.join(dict.fromkeys(baselines))}."
    )
    return markup.section("table", "All SAEs", table(names.split("|"), rows, 3, caption))


def _row(entry: Entry, is_best: bool, with_place: bool) -> list[str | Cell]:
    """An SAE's cells."""
    trained, price, dense = entry["config"].get("trained_rows"), sparsity(entry), _dense(entry)
    return [
        entry["name"],
        place(entry) if with_place else "",
        "● best" if is_best else "",
        plain(entry["d_sae"], f"{entry['d_sae']:,}"),
        plain(price, markup.number(price, ".3g")),
        *_main_figures(entry),
        figure(entry, "kl", 4),
        figure(entry, "cosine", 4),
        plain(entry["dead_share"], markup.percent(entry["dead_share"])),
        plain(dense, markup.percent(dense or 0.0)),
        plain(trained, markup.number(trained, ",")),
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
    """The settings that all SAEs share, once; then each one's own."""
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
