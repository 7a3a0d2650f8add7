"""The report: evaluation JSONs -> one HTML file that needs nothing else.

Owns the page's order and its sentences. Pieces of markup are `markup`'s, plots are `plots`'.
"""

import json
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..train.sae_files import replace_file
from . import markup, plots

Entry = dict[str, Any]
CANONICAL_L0 = 100.0
"""Of several SAEs the one nearest this L0 stands for all (Gemma Scope's "canonical" choice)."""


def write_report(
    out: str | os.PathLike[str],
    evaluations: Sequence[dict[str, Any] | str | os.PathLike[str]],
    title: str = "Sparse autoencoders, evaluated",
) -> Path:
    """Writes a self-contained page about all SAEs of some evaluations.

    Args:
        out: the HTML file, or a folder for `report.html`.
        evaluations: results of `evaluate`, or the JSON files it wrote.
        title: the page's heading.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: an evaluation is not there.
        ValueError: a file is not an evaluation, or none is given.
    """
    loaded = [e if isinstance(e, dict) else read_evaluation(Path(e)) for e in evaluations]
    if not loaded:
        raise ValueError("evaluations must be given at least once, got none; run evaluate first")
    path = Path(out)
    if path.suffix != ".html":
        path = path / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, render(loaded, title).encode())
    return path


def read_evaluation(path: Path) -> dict[str, Any]:
    """Reads what `evaluate` wrote.

    Raises:
        FileNotFoundError, ValueError: naming the file and what is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"evaluation {path} does not exist; pass the --out file of scopeworks evaluate"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"evaluation {path} must be JSON: {error}") from error
    missing = {"saes", "clean", "baselines", "model", "tokens", "settings"} - set(
        value if isinstance(value, dict) else ()
    )
    if missing:
        raise ValueError(
            f"evaluation {path} must be a result of scopeworks evaluate, "
            f"got JSON without {', '.join(sorted(missing))}"
        )
    return value


def render(evaluations: list[dict[str, Any]], title: str) -> str:
    """The page as text."""
    entries = [entry for evaluation in evaluations for entry in evaluation["saes"]]
    entries.sort(key=lambda entry: (plots.slot(entry), entry["l0"]))
    css = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    body = "\n".join(
        [
            f"<h1>{escape(title)}</h1>",
            _summary(evaluations, entries),
            _table(evaluations, entries),
            _frontiers(entries),
            _latents(entries),
            _training(entries),
            _positions(evaluations),
            _top_activations(entries),
            _provenance(evaluations),
        ]
    )
    # The policy makes the browser itself refuse to fetch anything.
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        ""
        ""
        ""
        ""
        ""
        f"<title>{escape(title)}</title>\n<style>\n{css}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _summary(evaluations: list[dict[str, Any]], entries: list[Entry]) -> str:
    """What was evaluated, on what, and the figure to remember."""
    models = ", ".join(sorted({_model_name(e) for e in evaluations}))
    slots = "; ".join(sorted({plots.slot(entry) for entry in entries}))
    tokens = evaluations[0]["tokens"]
    note = ""
    if tokens["fewer_than_asked"]:
        note = f" {tokens['n_sequences_asked']:,} were asked for; the split holds no more."
    shown = _canonical(entries)
    pairs = [
        (f"{shown['l0']:.1f}", "L0, active latents per token"),
        (f"{shown['fvu']:.3f}", "FVU, variance left over"),
        (f"{shown['delta_loss']:+.4f}", "Δ loss, nats per token"),
    ]
    if shown["recovered_share"] is not None:
        pairs.append((f"{shown['recovered_share']:.2%}", "of mean ablation's cost recovered"))
    pairs.append((markup.percent(shown["dead_share"]), "of latents never fired"))
    return (
        f"<p>{len(entries)} JumpReLU {'SAE' if len(entries) == 1 else 'SAEs'} on {escape(slots)} "
        "of "
        f"{escape(models)}, measured on {tokens['n_sequences']:,} held-out sequences of "
        f"{tokens['context']:,} tokens.{note} BOS, EOS and PAD positions count in no figure.</p>"
        f"<p class=quiet>The SAE with L0 nearest {CANONICAL_L0:.0f}: "
        f"{escape(plots.label(shown))}</p>" + markup.facts(*pairs)
    )


def _table(evaluations: list[dict[str, Any]], entries: list[Entry]) -> str:
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
        "token; standard error over "
        "sequences. Recovered: the share of what mean ablation of the site costs. Dead: fired on "
        "none of these tokens. "
        f"Losses at {'; '.join(dict.fromkeys(baselines))}."
    )
    return "<h2>SAEs</h2>" + markup.table(columns, rows, 2, caption)


def _row(entry: Entry) -> list[str]:
    """An SAE's cells."""
    price, error, share = (
        plots.sparsity(entry),
        entry["delta_loss_stderr"],
        entry["recovered_share"],
    )
    rows = entry["config"].get("trained_rows")
    return [
        entry["name"],
        plots.slot(entry).rpartition(", width")[0],
        f"{entry['d_sae']:,}",
        "–" if price is None else f"{price:g}",
        f"{entry['l0']:.1f}",
        f"{entry['fvu']:.4f}",
        f"{entry['delta_loss']:+.4f}",
        "–" if error is None else f"{error:.4f}",
        "–" if share is None else f"{share:.2%}",
        markup.percent(entry["dead_share"]),
        "–" if rows is None else f"{rows:,}",
    ]


def _frontiers(entries: list[Entry]) -> str:
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
    if _has_ladder(entries):
        drawn += [
            (plots.width_ladder(entries, "delta_loss", "Δ loss, nats per token"), "At equal λ."),
            (plots.width_ladder(entries, "l0", "L0"), "At equal λ."),
        ]
    return "<h2>Sparsity and fidelity</h2>" + markup.figures(*drawn)


def _latents(entries: list[Entry]) -> str:
    """How often latents fire."""
    n_tokens = max(entry["n_tokens"] for entry in entries)
    caption = f"Over {n_tokens:,} tokens; 0.1 decade a bin; a latent that never fired is in none."
    return "<h2>Firing frequencies</h2>" + markup.figures((plots.firing(entries), caption))


def _training(entries: list[Entry]) -> str:
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
            plots.training(entries, "dead_share", "dead latents, share"),
            "Latents that have not fired for a long time (setting dead_after_rows).",
        ),
    )
    return f"<h2>Training</h2>{drawn}" if "<figure>" in drawn else ""


def _positions(evaluations: list[dict[str, Any]]) -> str:
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


def _top_activations(entries: list[Entry]) -> str:
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
        "<h2>What latents react to</h2><p>Latents drawn evenly over the ranks of firing frequency, "
        "not picked for looks; "
        "for each, the held-out sequences with its strongest activations, the strongest token "
        "outlined. "
        "Point at a shaded token for its activation.</p>" + "".join(parts)
    )


def _provenance(evaluations: list[dict[str, Any]]) -> str:
    """Where the numbers come from."""
    parts = ["<h2>Provenance</h2>"]
    for e in evaluations:
        tokens, model = e["tokens"], e["model"]
        parts.append(
            f"<p class=quiet>Model {escape(_model_name(e))} (weights "
            f"{escape(model['fingerprint'])}, computed in "
            f"{escape(model['dtype'])}); tokens {escape(tokens['fingerprint'][:16])}, split "
            f"{escape(tokens['split'])}; "
            f"{e['clean']['n_predictions']:,} predictions in {e['seconds']:,.0f} s.</p>"
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


def _has_ladder(entries: list[Entry]) -> bool:
    """Whether some λ was trained at more than one width."""
    pairs = {(plots.sparsity(e), e["d_sae"]) for e in entries if plots.sparsity(e) is not None}
    prices = [price for price, _ in pairs]
    return len(set(prices)) < len(prices)


def _model_name(evaluation: dict[str, Any]) -> str:
    """The last part of the model's path or hub id."""
    return Path(evaluation["model"]["name"]).name
