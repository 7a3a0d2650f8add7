"""`scopeworks latents index`: everything a latent's page needs, for all latents of an SAE."""

from pathlib import Path

import typer

from ....options import Given, command
from .settings import IndexSettings

app = typer.Typer(no_args_is_help=True, add_completion=False)


@command(app, IndexSettings, "sae store model tokens out rows compare device dask")
def index(given: Given[IndexSettings]) -> None:
    """Makes an index of all latents of an SAE from stored rows: examples, counts, neighbours."""
    from .run import index as run

    settings = given.settings()
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
