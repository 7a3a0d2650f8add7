"""`scopeworks latents index`: everything a latent's page needs, for all latents of an SAE."""

from pathlib import Path
from typing import Annotated

import typer

from ...flags import Config, StorageOption, given

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command()
def index(
    sae: Annotated[
        str | None,
        typer.Option(
            help="Trained folder, params.npz, SAELens folder, URL or hf://USER/REPOSITORY/FOLDER."
        ),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="URL of the activation store with rows of the SAE's site.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Language model of the rows: folder or hub id; it is not run."),
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="URL of the token store that was harvested.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the index.")] = None,
    site: Annotated[
        str | None, typer.Option(help="Site of an SAE whose files do not tell it.")
    ] = None,
    target_site: Annotated[
        str | None, typer.Option(help="Target site of a transcoder whose files do not tell it.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Another SAE, whose nearest latents are listed; repeat for more."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="First rows to read, up to whole buckets (default: all).")
    ] = None,
    before: Annotated[
        int | None, typer.Option(help="Tokens of a snippet before the one that fires; 20.")
    ] = None,
    after: Annotated[int | None, typer.Option(help="Tokens of a snippet behind it; 11.")] = None,
    top: Annotated[int | None, typer.Option(help="Strongest examples of a latent; 10.")] = None,
    bands: Annotated[
        int | None, typer.Option(help="Bands of strength that examples are drawn from; 5.")
    ] = None,
    per_band: Annotated[int | None, typer.Option(help="Examples of a band; 3.")] = None,
    together_rows: Annotated[
        int | None, typer.Option(help="Rows over which firing together is counted; 262144.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of what is drawn; 0.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, … (default: CUDA where there is one).")
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            help="local:N, a scheduler's address, or a scheduler file, whose workers share the "
            "rows (default: this process alone)."
        ),
    ] = None,
    storage_option: StorageOption = None,
    config: Config = None,
) -> None:
    """Makes an index of all latents of an SAE from stored rows: examples, counts, neighbours."""
    values = given(locals())

    from ....settings import resolve
    from .run import index as run
    from .settings import IndexSettings

    settings = resolve(IndexSettings, values.pop("config", None), **values)
    run(settings)
    for line in summary(settings.out):
        typer.echo(line)


def summary(out: Path) -> list[str]:
    """An index in a few lines: what was read, what it took, how it is opened."""
    import json

    from ..files.manifest import read_manifest
    from .run import TIMING

    manifest = read_manifest(out)
    d_sae = manifest.sae.d_sae
    features = manifest.files.get(manifest.features_file, 0)
    rest = sum(manifest.files.values()) - features
    lines = [
        f"{manifest.rows:,} rows of {manifest.sae.site}, {manifest.n_alive:,} of {d_sae:,} latents "
        f"fire; firing together counted over {manifest.together_rows:,} rows",
        f"bytes a latent: {features / d_sae:,.0f} in {manifest.features_file}, "
        f"{rest / d_sae:,.0f} in everything else",
    ]
    if (out / TIMING).is_file():
        times = json.loads((out / TIMING).read_text(encoding="utf-8"))
        split = ", ".join(f"{name} {s:.1f}" for name, s in times.items() if name != "all")
        lines.append(f"seconds: {times.get('all', 0):.1f} ({split})")
    return [*lines, f"open {out / 'index.html'}, or: scopeworks latents serve {out}"]
