"""The commands of this room: `evaluate` and `report`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command()
def evaluate(
    sae: Annotated[
        list[Path] | None,
        typer.Option(help="Trained folder, params.npz, SAELens folder; repeat for more SAEs."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Language model: folder or hub id.")] = None,
    tokens: Annotated[str | None, typer.Option(help="URL of the token store.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings; flags win.")] = None,
    site: Annotated[
        str | None, typer.Option(help="Site of SAEs whose files do not tell it.")
    ] = None,
    target_site: Annotated[
        str | None, typer.Option(help="Target site of transcoders whose files do not tell it.")
    ] = None,
    n_sequences: Annotated[
        int | None, typer.Option(help="Held-out sequences to use; 2048 by default.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences per forward pass.")] = None,
    splice_special: Annotated[
        bool | None,
        typer.Option("--splice-special/--keep-special", help="Splice BOS, EOS and PAD too."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the choice of shown latents.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Precision of the model: bfloat16 or float32.")
    ] = None,
    sae_dtype: Annotated[
        str | None, typer.Option(help="Precision of the SAE: float32 or bfloat16.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    firing_sequences: Annotated[
        int | None, typer.Option(help="Sequences behind firing frequencies, if more.")
    ] = None,
    subsets: Annotated[
        bool | None, typer.Option("--subsets", help="Measure each subset of the text as well.")
    ] = None,
    importance: Annotated[
        bool | None,
        typer.Option("--importance", help="Measure how evenly latents share in predictions."),
    ] = None,
    top_latents: Annotated[
        int | None, typer.Option(help="Latents per SAE shown with their top snippets; 0: none.")
    ] = None,
) -> None:
    """Measures SAEs on held-out text: L0, FVU, delta loss, recovered share, firing frequencies."""
    from ..settings import resolve
    from .evaluate import evaluate as run
    from .settings import EvaluateSettings

    settings = resolve(
        EvaluateSettings,
        config,
        sae=tuple(sae) if sae else None,
        model=model,
        tokens=tokens,
        out=out,
        site=site,
        target_site=target_site,
        n_sequences=n_sequences,
        batch=batch,
        splice_special=splice_special,
        seed=seed,
        dtype=dtype,
        sae_dtype=sae_dtype,
        device=device,
        firing_sequences=firing_sequences,
        subsets=subsets,
        importance=importance,
        top_latents=top_latents,
    )
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
        f"{'SAE':<32} {'L0':>8} {'FVU':>8} {'Δ loss':>9} {'recovered':>9} {'dead':>6}",
    ]
    for sae in result["saes"]:
        share = sae["recovered_share"]
        lines.append(
            f"{sae['name'][-32:]:<32} {sae['l0']:8.1f} {sae['fvu']:8.4f} {sae['delta_loss']:9.4f} "
            f"{'–' if share is None else format(share, '.4f'):>9} {sae['dead_share']:6.1%}"
        )
    return lines


@app.command()
def report(
    evaluation: Annotated[
        list[Path], typer.Option(help="JSON written by evaluate; repeat for more.")
    ],
    out: Annotated[Path, typer.Option(help="HTML file, or a folder for report.html.")],
    title: Annotated[
        str, typer.Option(help="Heading of the page.")
    ] = "Sparse autoencoders, evaluated",
) -> None:
    """Writes one self-contained HTML page about evaluated SAEs."""
    from .report import write_report

    typer.echo(f"report: {write_report(out, evaluation, title)}")
