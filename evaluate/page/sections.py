"""The report's sections: figures and sentences about SAEs -> markup.

Owns what the report says. An entry is one SAE of an evaluation's JSON.
"""

from html import escape
from pathlib import Path
from typing import Any

from . import markup, plots

Entry = dict[str, Any]
CANONICAL_L0 = 100.0
"""Of several SAEs the one nearest this L0 stands for all (Gemma Scope's "canonical" choice)."""

_IMPORTANCE = (("r_l0", 3), ("effective_latents", 1), ("active_latents", 1))


def summary(evaluations: list[dict[str, Any]], entries: list[Entry]) -> str:
    """What was evaluated, on what, and the figure to remember."""
    models = ", ".join(sorted({_model_name(e) for e in evaluations}))
    slots = "; ".join(sorted({plots.slot(entry) for entry in entries}))
    shown = _canonical(entries)
    pairs = [
        (f"{shown['l0']:.1f}", "L0, active latents per token"),
        (markup.number(shown["fvu"], ".3f"), "FVU, variance left over"),
        (f"{shown['delta_loss']:+.4f}", "Δ loss, nats per token"),
    ]
    if shown["recovered_share"] is not None:
        pairs.append((f"{shown['recovered_share']:.2%}", "of mean ablation's cost recovered"))
    pairs.append((markup.percent(shown["dead_share"]), "of latents never fired"))
    texts = "; ".join(dict.fromkeys(_sequences(e["tokens"]) for e in evaluations))
    kind = "SAE" if len(entries) == 1 else "SAEs"
    return (
        f"<p>{len(entries)} JumpReLU {kind} on {escape(slots)} of {escape(models)}, "
        f"measured on {escape(texts)}. BOS, EOS and PAD positions count in no figure.</p>"
        f"<p class=quiet>The SAE with L0 nearest {CANONICAL_L0:.0f}: "
        f"{escape(plots.label(shown))}</p>" + markup.facts(*pairs)
    )


def _sequences(tokens: dict[str, Any]) -> str:
    """How much text was used, and whether more was asked for."""
    text = f"{tokens['n_sequences']:,} held-out sequences of {tokens['context']:,} tokens"
    if tokens["fewer_than_asked"]:
        text += f" ({tokens['n_sequences_asked']:,} were asked for; the split holds no more)"
    return text


def sae_table(evaluations: list[dict[str, Any]], entries: list[Entry]) -> str:
    """One row per SAE, and the losses they lie between."""
    names = "SAE|site|width|λ|L0|FVU|Δ loss|± s.e.|recovered|dead|rows trained"
    columns = names.split("|")
    rows = [_row(entry) for entry in entries]
    baselines = [
        f"{site}: clean {e['clean']['loss']:.4f}, mean ablation {b['mean_ablation_loss']:.4f}, "
        f"zero ablation {b['zero_ablation_loss']:.4f}"
        for e in evaluations
        for site, b in e["baselines"].items()
    ]
    caption = (
        "Δ loss: cross-entropy with the reconstruction spliced in, minus without, in nats per "
        "token; standard error over sequences. Recovered: the share of what mean ablation of the "
        "site costs. Dead: fired on none of the evaluated tokens. "
        f"Losses at {'; '.join(dict.fromkeys(baselines))}."
    )
    return "<h2>SAEs</h2>" + markup.table(columns, rows, 2, caption)


def _row(entry: Entry) -> list[str]:
    """An SAE's cells."""
    rows = entry["config"].get("trained_rows")
    return [
        entry["name"],
        plots.slot(entry).rpartition(", width")[0],
        f"{entry['d_sae']:,}",
        markup.number(plots.sparsity(entry), ".3g"),
        f"{entry['l0']:.1f}",
        markup.number(entry["fvu"], ".4f"),
        f"{entry['delta_loss']:+.4f}",
        markup.number(entry["delta_loss_stderr"], ".4f"),
        markup.number(entry["recovered_share"], ".2%"),
        markup.percent(entry["dead_share"]),
        markup.number(rows, ","),
    ]


def frontiers(entries: list[Entry]) -> str:
    """Quality against sparsity; against width too if there are several."""
    drawn: list[tuple[str | None, str]] = [
        (
            plots.frontier(entries, "delta_loss", "Δ loss, nats per token"),
            "What the splice costs the language model; bars are two standard errors.",
        ),
        (
            plots.frontier(entries, "fvu", "FVU"),
            "E‖x − x̂‖² / E‖x − E x‖²: 0 is perfect, 1 is no better than the mean.",
        ),
    ]
    if plots.rungs(entries):
        drawn += [
            (plots.width_ladder(entries, "delta_loss", "Δ loss, nats per token"), "At equal λ."),
            (plots.width_ladder(entries, "l0", "L0"), "At equal λ."),
        ]
    return "<h2>Sparsity and fidelity</h2>" + markup.figures(*drawn)


def firing(entries: list[Entry]) -> str:
    """How often latents fire."""
    n_tokens = max(entry["firing"]["n_tokens"] for entry in entries)
    caption = f"Over {n_tokens:,} tokens; 0.1 decade a bin; a latent that never fired is in none."
    return "<h2>Firing frequencies</h2>" + markup.figures((plots.firing(entries), caption))


def training(entries: list[Entry]) -> str:
    """Training curves, where the SAEs' folders have them."""
    drawn = markup.figures(
        (
            plots.training(entries, "fvu", "FVU", log=True),
            "On training batches, means between two lines.",
        ),
        (
            plots.training(entries, "l0", "L0", log=True),
            "It starts high: λ warms up and thresholds must grow.",
        ),
        (
            plots.training(entries, "dead_share", "idle latents, share"),
            "Latents that fired on none of the last rows of training, as many as the setting "
            "dead_after_rows says. Not the table's dead latents: those fired on none of the "
            "evaluated tokens, which are fewer.",
        ),
    )
    return f"<h2>Training</h2>{drawn}" if "<figure>" in drawn else ""


def positions(evaluations: list[dict[str, Any]]) -> str:
    """Curves over the position in the sequence, one pair per evaluation."""
    drawn: list[tuple[str | None, str]] = []
    for e in evaluations:
        counts = e["clean"]["by_position"]["n_predictions"]
        drawn += [
            (
                plots.by_position(
                    e["saes"], counts, "error", "error / variance over all positions"
                ),
                "Squared error by position. The mean over positions is the FVU.",
            ),
            (
                plots.by_position(e["saes"], counts, "delta_loss", "Δ loss, nats per token"),
                "Loss added by the splice, by position.",
            ),
        ]
    return "<h2>By position</h2>" + markup.figures(*drawn)


def subsets(evaluations: list[dict[str, Any]]) -> str:
    """Figures on each subset of the text, where they were measured."""
    rows = [
        [
            name,
            entry["name"],
            f"{subset['clean_loss']:.4f}",
            f"{entry['l0']:.1f}",
            markup.number(entry["fvu"], ".4f"),
            f"{entry['delta_loss']:+.4f}",
            markup.number(entry["delta_loss_stderr"], ".4f"),
            markup.number(entry["recovered_share"], ".2%"),
            f"{subset['n_sequences']:,}",
        ]
        for evaluation in evaluations
        for name, subset in evaluation.get("subsets", {}).items()
        for entry in subset["saes"]
    ]
    if not rows:
        return ""
    names = "subset|SAE|clean loss|L0|FVU|Δ loss|± s.e.|recovered|sequences"
    caption = "Each subset by itself: its own sequences, its own mean in FVU and mean ablation."
    return "<h2>Text subsets</h2>" + markup.table(names.split("|"), rows, 2, caption)


def importance(entries: list[Entry]) -> str:
    """How evenly latents share in predictions, where it was measured."""
    measured = [(entry["name"], entry["importance"]) for entry in entries if "importance" in entry]
    rows = [
        [
            name,
            *(f"{found[figure]:.{digits}f}" for figure, digits in _IMPORTANCE),
            f"{found['n_tokens']:,}",
        ]
        for name, found in measured
        if found["n_tokens"]
    ]
    if not rows:
        return ""
    names = "SAE|r of L0|effective latents|active latents|tokens"
    caption = (
        "Attribution of the correct next token's logit to latents: y = f ⊙ (W_dec ∇L), "
        "p = |y| / Σ|y|. Effective latents: exp of the entropy of p. r of L0: effective over "
        "active latents, 1 if all matter the same."
    )
    return "<h2>Importance of latents</h2>" + markup.table(names.split("|"), rows, 1, caption)


def top_activations(entries: list[Entry]) -> str:
    """Snippets of every SAE that has them; only the canonical one's are unfolded."""
    shown = [entry for entry in entries if entry.get("top_activations")]
    if not shown:
        return ""
    first = _canonical(shown)
    parts = [
        f"<details{' open' if entry is first else ''}><summary>{escape(entry['name'])} "
        f"({escape(plots.label(entry))})</summary>"
        f"{''.join(markup.latent(latent) for latent in entry['top_activations'])}</details>"
        for entry in sorted(shown, key=lambda entry: entry is not first)
    ]
    return (
        "<h2>What latents react to</h2><p>Latents drawn evenly over the ranks of firing "
        "frequency, not picked for looks; for each, the held-out sequences with its strongest "
        "activations, the strongest token outlined. Point at a shaded token for its "
        "activation.</p>" + "".join(parts)
    )


def provenance(evaluations: list[dict[str, Any]]) -> str:
    """Where the numbers come from."""
    parts = ["<h2>Provenance</h2>"]
    for e in evaluations:
        tokens, model, seconds = e["tokens"], e["model"], e.get("seconds")
        took = "" if seconds is None else f" in {seconds:,.0f} s"
        parts.append(
            f"<p class=quiet>Model {escape(_model_name(e))} "
            f"(weights {escape(model['fingerprint'])}, computed in {escape(model['dtype'])}); "
            f"tokens {escape(tokens['fingerprint'][:16])}, split {escape(tokens['split'])}; "
            f"{e['clean']['n_predictions']:,} predictions{took}.</p>"
        )
        parts.append(markup.settings("Evaluation settings", e["settings"]))
        parts += [
            markup.settings(f"Training settings of {entry['name']}", entry["training"]["settings"])
            for entry in e["saes"]
            if entry.get("training")
        ]
    return "".join(parts)


def _canonical(entries: list[Entry]) -> Entry:
    """The SAE whose L0 is nearest 100."""
    return min(entries, key=lambda entry: abs(entry["l0"] - CANONICAL_L0))


def _model_name(evaluation: dict[str, Any]) -> str:
    """The last part of the model's path or hub id."""
    return Path(evaluation["model"]["name"]).name
