"""The commands `evaluate` and `report`."""

from pathlib import Path

import typer
from pydantic import Field

from ..options import Given, command
from ..settings import Settings
from .page.markup import plain_number
from .settings import EvaluateSettings

app = typer.Typer(no_args_is_help=True, add_completion=False)


@command(
    app,
    EvaluateSettings,
    "sae model tokens out n_sequences dtype device dask site target_site positions subsets "
    "top_latents",
    spelt={"splice_special": "--splice-special/--keep-special"},
)
def evaluate(given: Given[EvaluateSettings]) -> None:
    """Measures SAEs on held-out text: L0, FVU, delta loss, recovered share, firing frequencies."""
    from .run import evaluate_saes as run

    settings = given.settings()
    for line in summary(run(settings)):
        typer.echo(line)
    typer.echo(f"written: {settings.out}")


def summary(result: dict) -> list[str]:
    """An evaluation as a small table in plain text."""
    tokens = result["tokens"]
    lines = [
        f"{tokens['n_sequences']:,} held-out sequences of {tokens['context']} tokens"
        + (f" (asked: {tokens['n_sequences_asked']:,})" if tokens["fewer_than_asked"] else "")
        + f", clean loss {result['clean']['loss']:.4f}",
        f"{'SAE':<32} {'L0':>8} {'FVU':>16} {'Δ loss':>16} {'KL':>8} {'recovered':>9} {'dead':>6}",
    ]
    for sae in result["saes"]:
        fvu, delta = (_with_interval(sae, name) for name in ("fvu", "delta_loss"))
        kl, share = (plain_number(sae[name], ".4f") for name in ("kl", "recovered_share"))
        lines.append(
            f"{sae['name'][-32:]:<32} {sae['l0']:8.1f} {fvu:>16} {delta:>16} {kl:>8} "
            f"{share:>9} {sae['dead_share']:6.1%}" + " ⚠" * bool(sae.get("warnings"))
        )
    if any(sae["intervals"]["delta_loss"] for sae in result["saes"]):
        lines.append("±: 95% interval over sequences of these documents")
    if any(sae.get("warnings") for sae in result["saes"]):
        lines.append("⚠: not as its files declare, or worse than no SAE; see the warnings above")
    return lines


def _with_interval(sae: dict, name: str) -> str:
    """A figure and half its interval, if it has one."""
    text, interval = plain_number(sae[name], ".4f"), sae["intervals"][name]
    if interval is None:
        return text
    return f"{text} ±{plain_number((interval[1] - interval[0]) / 2, '.4f')}"


class ReportSettings(Settings):
    """What `scopeworks report` reads and writes."""

    evaluation: list[Path] = Field(min_length=1)
    """JSON written by evaluate."""
    out: Path
    """HTML file, or a folder for report.html."""
    title: str = "Sparse autoencoders, evaluated"
    """Heading of the page."""
    study: list[Path] = Field(default_factory=list)
    """Folder of a finished study, `OUT/studies/NAME`."""


@command(app, ReportSettings)
def report(given: Given[ReportSettings]) -> None:
    """Writes one self-contained HTML page about evaluated SAEs."""
    from .page.report import write_report

    asked = given.settings()
    written = write_report(asked.out, asked.evaluation, asked.title, asked.study)
    typer.echo(f"report: {written}")
