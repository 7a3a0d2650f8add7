"""The model card of a release: README.md as the hub shows it.

Owns its sections. All numbers come from the members, all sentences about the data from the facts.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .facts import ReleaseFacts
from .figures import FOLDER
from .members import ReleaseMember
from .metrics import METRICS_FILE

CARD_FILE = "README.md"
_TARGET = "target L0"
"""Column of the L0 that λ was steered to; shown if an SAE has one."""

Places = Mapping[str, Mapping[str, str]]


def card_of(
    facts: ReleaseFacts, members: Sequence[ReleaseMember], places: Places, figures: Sequence[str]
) -> str:
    """The card's text.

    Args:
        facts: facts of the release.
        members: its SAEs.
        places: id -> format -> folder in the release.
        figures: names of its figures in the release.
    """
    parts = [
        _header(facts, any("sae-lens" in folders for folders in places.values())),
        f"# {facts.name}\n\n{_summary(facts, members)}",
        f"## SAEs\n\n{_table(members)}",
        _figures(figures),
        f"## How to load one\n\n{_loading(facts, members[0], places)}",
        f"## Recipe\n\n{_recipe(facts, members)}",
        f"## Data\n\n{_data(facts, members)}",
        f"## Limits\n\n{_limits(facts, members)}",
        f"## Files\n\n{_files(places)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(facts: ReleaseFacts, for_sae_lens: bool) -> str:
    """The YAML that the hub reads; JSON's strings are valid YAML."""
    library = "saelens" if for_sae_lens else "scopeworks"
    tags = dict.fromkeys((library, "sparse-autoencoder", "jumprelu", "scopeworks"))
    lines = [
        f"license: {_quoted(facts.license)}",
        f"library_name: {library}",
        "tags:",
        *(f"- {tag}" for tag in tags),
    ]
    if "/" in facts.model:
        lines.append(f"base_model: {_quoted(facts.model)}")
    return "\n".join(["---", *lines, "---"])


def _summary(facts: ReleaseFacts, members: Sequence[ReleaseMember]) -> str:
    sites = list(dict.fromkeys(_where(member) for member in members))
    kind = "SAEs"
    if any(member.config.is_transcoder for member in members):
        kind = "SAEs and transcoders"
        if all(member.config.is_transcoder for member in members):
            kind = "transcoders"
    if len(members) == 1:
        kind = kind.removesuffix("s")
    return (
        f"{len(members)} JumpReLU {kind} for activations of `{facts.model}` at "
        f"{_listed([f'`{site}`' for site in sites])}. They take raw activations, one row a token, "
        "and return raw activations: scale and biases of the training are folded into the weights."
    )


def _table(members: Sequence[ReleaseMember]) -> str:
    """The table of SAEs, a row each, and notes on how its figures were measured."""
    rows = [_row(member) for member in members]
    columns = [name for name in rows[0] if name != _TARGET or any(m.own.target_l0 for m in members)]
    rules = ["---" if name in columns[:2] else "---:" for name in columns]
    rows = [columns, rules, *([row[name] for name in columns] for row in rows)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    evaluated = [member for member in members if member.figures is not None]
    notes = []
    if evaluated:
        tokens = (evaluated[0].evaluation or {})["tokens"]
        notes.append(
            f"Measured on {tokens['n_sequences']:,} held-out sequences of {tokens['context']:,} "
            "tokens; BOS, EOS and PAD count in no mean. FVU is E‖x − x̂‖² / E‖x − E x‖². Δ loss is "
            "the cross-entropy with the reconstruction spliced in minus that without, in nats per "
            "token; loss recovered is its share of what ablation by the mean costs."
        )
    if len(evaluated) < len(members):
        notes.append(
            "Where Δ loss is missing, the figures are of stored rows that followed the training."
        )
    return table + "\n\n" + " ".join([*notes, f"All figures: [{METRICS_FILE}]({METRICS_FILE})."])


def _row(member: ReleaseMember) -> dict[str, str]:
    """An SAE's row: title of the column -> text."""
    config, figures = member.config, member.figures or {}
    fvu, dead = (figures.get(name, getattr(member.own, name)) for name in ("fvu", "dead_share"))
    return {
        "SAE": f"`{member.id}`",
        "site": _where(member),
        "width": f"{config.d_sae:,}",
        "λ": _number(config.sparsity, ".3g"),
        _TARGET: _number(config.target_l0, "g"),
        "L0": _number(config.l0, ".1f"),
        "FVU": _number(fvu, ".4f"),
        "Δ loss": _number(figures.get("delta_loss"), ".4f"),
        "loss recovered": _number(figures.get("recovered_share"), ".2%"),
        "dead latents": _number(dead, ".1%"),
    }


def _figures(names: Sequence[str]) -> str:
    """The pictures as PNG, which the hub shows everywhere."""
    titles = {"frontier_delta_loss": "Δ loss against L0", "frontier_fvu": "FVU against L0"}
    shown = [
        f"![{titles[stem]}]({name})"
        for name in names
        if name.endswith(".png") and (stem := name.removeprefix(f"{FOLDER}/")[:-4]) in titles
    ]
    return "\n\n".join(shown)


def _loading(facts: ReleaseFacts, member: ReleaseMember, places: Places) -> str:
    """Code for each format that the first SAE is in."""
    repo, folders = facts.repo or "USER/REPOSITORY", places[member.id]
    first = next(iter(folders.values()))
    parts = [
        "With scopeworks, any folder of the list below:",
        _code(
            "from scopeworks import SAE\n\n"
            f'sae = SAE.from_pretrained("{repo}", "{first}")\n'
            "f = sae.encode(x)        # [batch, d_sae]\n"
            "x_hat = sae.decode(f)    # [batch, d_out]"
        ),
    ]
    if folder := folders.get("sae-lens"):
        parts += [
            "With SAELens 6:",
            _code(
                "from sae_lens import SAE\n\n"
                f'sae = SAE.from_pretrained("{repo}", "{folder}")\n'
                f'sae = SAE.load_from_disk("{folder}")    # from a copy on the disk'
            ),
        ]
    if folder := folders.get("gemma-scope"):
        parts += ["With numpy alone:", _code(_numpy(folder))]
    return "\n\n".join(parts)


def _numpy(folder: str) -> str:
    return (
        "import numpy as np\n\n"
        f'p = np.load("{folder}/params.npz")\n'
        'z = x @ p["W_enc"] + p["b_enc"]              # x: raw activations [batch, d_in]\n'
        'f = np.maximum(z, 0) * (z > p["threshold"])\n'
        'x_hat = f @ p["W_dec"] + p["b_dec"]'
    )


def _recipe(facts: ReleaseFacts, members: Sequence[ReleaseMember]) -> str:
    """The loss, the settings that all SAEs share, and the names of those that differ."""
    lines: dict[str, Any] = dict(facts.settings)
    names = list(dict.fromkeys(name for member in members for name in member.training))
    differing = []
    for name in names:
        values = [member.training.get(name) for member in members]
        if all(value == values[0] for value in values):
            if values[0] is not None:
                lines.setdefault(name, values[0])
        else:
            differing.append(name)
    text = (
        "Loss per row: ‖x − x̂‖² + λ‖f‖₀ in units where E‖x‖² = 1, with JumpReLU's "
        "straight-through gradients for θ (arXiv 2407.14435), Adam with β₁ = 0, decoder rows of "
        "unit norm (arXiv 2408.05147)."
    )
    if lines:
        text += "\n\n| setting | value |\n| --- | --- |\n"
        text += "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in lines.items())
    if differing:
        text += f"\n\nThe SAEs differ in {_listed([f'`{name}`' for name in differing])}."
    return text


def _data(facts: ReleaseFacts, members: Sequence[ReleaseMember]) -> str:
    rows = {n for member in members if (n := member.config.trained_rows) is not None}
    contexts = {n for member in members if (n := member.config.context) is not None}
    lines = [f"Text: {facts.text}."]
    if facts.tokens is not None:
        lines.append(f"Tokenized: {facts.tokens:,} tokens.")
    if contexts:
        lines.append(f"Sequences of {_listed([f'{n:,}' for n in sorted(contexts)])} tokens.")
    if facts.rows is not None:
        lines.append(f"Stored: {facts.rows:,} rows of activations, shuffled.")
    if rows:
        counts = _listed([f"{n:,}" for n in sorted(rows)])
        lines.append(f"Each SAE was trained on {counts} rows, repeats included.")
    return " ".join(lines)


def _limits(facts: ReleaseFacts, members: Sequence[ReleaseMember]) -> str:
    """Limits that follow from the members, then those that the facts add."""
    lines = [
        f"- They are for `{facts.model}` at these sites. Another model, also a fine-tuned one, or "
        "another tensor gives other figures.",
        "- Activations at BOS, EOS and PAD were in no training batch; reconstructions there mean "
        "nothing.",
    ]
    evaluated = [member for member in members if member.figures is not None]
    if not evaluated:
        lines.append("- They have not been evaluated on held-out text.")
    for member in members:
        if member.own.missed:
            lines.append(f"- `{member.id}`: L0 is {member.own.missed}.")
    few = [m for m in evaluated if (m.evaluation or {})["tokens"]["fewer_than_asked"]]
    if few:
        lines.append("- There were fewer held-out sequences than the evaluation asked for.")
    seeds = {str(member.training.get("seed")) for member in members}
    if len(seeds) == 1:
        lines.append("- One seed: differences between SAEs include its noise.")
    return "\n".join(lines + [f"- {text}" for text in facts.limits])


def _files(places: Places) -> str:
    titles = {
        "gemma-scope": "Gemma Scope: `params.npz`, `origin.json`",
        "sae-lens": "SAELens: `cfg.json`, `sae_weights.safetensors`",
        "gemma-scope-2": "Gemma Scope 2: `config.json`, `params.safetensors`",
    }
    rows = [
        f"| `{folder}` | {titles[format]} |"
        for format in titles
        for folders in places.values()
        if (folder := folders.get(format))
    ]
    return (
        "| folder | format |\n| --- | --- |\n"
        + "\n".join(rows)
        + "\n\n`sha256sum -c SHA256SUMS` checks a copy."
    )


def _where(member: ReleaseMember) -> str:
    config = member.config
    return f"{config.site} → {config.target_site}" if config.target_site else f"{config.site}"


def _listed(items: Sequence[str]) -> str:
    """Items as "a, b and c"; of more than twelve only the first ten."""
    if len(items) > 12:
        return f"{', '.join(items[:10])} and {len(items) - 10} others"
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _cell(value: Any) -> str:
    """A value in a table."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
