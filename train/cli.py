"""`scopeworks train`, `sweep` and `export`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .sae.formats.table import EXPORTED

app = typer.Typer(no_args_is_help=True, add_completion=False)

Store = Annotated[
    list[str] | None,
    typer.Option(help="URL of the activation store; repeat to join stores of the same rows."),
]
Site = Annotated[str | None, typer.Option(help="Site to train on, such as resid_post.12.")]
TargetSite = Annotated[
    str | None, typer.Option(help="Site to predict instead: trains a transcoder.")
]
Steps = Annotated[int | None, typer.Option(help="Updates.")]
Batch = Annotated[int | None, typer.Option(help="Rows per update.")]
Recipe = Annotated[
    str | None,
    typer.Option(help="report: its settings unless given; auto: those that fit the run's length."),
]
Rate = Annotated[float | None, typer.Option(help="Learning rate.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the result.")]
Config = Annotated[Path | None, typer.Option(help="TOML file of settings; flags win.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Insist on continuing; allows more --steps.")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for another run in the same folder to end.")
]
More = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting, as name=value; repeat for more."),
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder that keeps what is read of a remote store (--set cache_bytes=N)."),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        help="key=value for the driver of a remote store or remote checkpoints; repeat for more.",
    ),
]


@app.command()
def train(
    out: Out = None,
    store: Store = None,
    site: Site = None,
    target_site: TargetSite = None,
    width: Annotated[int | None, typer.Option(help="Number of latents.")] = None,
    sparsity: Annotated[float | None, typer.Option(help="λ, the price of a latent.")] = None,
    target_l0: Annotated[
        float | None, typer.Option(help="Wanted mean number of active latents; steers λ.")
    ] = None,
    recipe: Recipe = None,
    steps: Steps = None,
    batch: Batch = None,
    lr: Rate = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the initial weights.")] = None,
    device: Device = None,
    more: More = None,
    storage_option: Options = None,
    cache_dir: Cache = None,
    config: Config = None,
    resume: Resume = False,
    wait: Wait = False,
) -> None:
    """Trains one JumpReLU SAE from a store; the same command continues a stopped run. Started with
    torchrun, several processes train it together."""
    from ..settings import resolve
    from ..store.place.options import parse_storage_options
    from .ranks.joining import joined
    from .run.trainer import run
    from .settings import TrainSettings

    flags = {
        "store": store or None,
        "site": site,
        "target_site": target_site,
        "width": width,
        "sparsity": sparsity,
        "target_l0": target_l0,
        "recipe": recipe,
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "device": device,
        "cache_dir": cache_dir,
    }
    with joined() as world:
        flags["storage_options"] = parse_storage_options(storage_option)
        settings = resolve(TrainSettings, config, out=out, **merged(flags, more))
        if settings.name is not None and settings.wandb_project is None:
            raise ValueError("name has no effect on a run without wandb_project; leave it out")
        for folder in run([settings], resume, wait=wait, world=world):
            if world.is_first:
                typer.echo(described(folder))


@app.command()
def sweep(
    out: Out = None,
    store: Store = None,
    site: Site = None,
    target_site: TargetSite = None,
    width: Annotated[list[int] | None, typer.Option(help="Latents; repeat for more.")] = None,
    sparsity: Annotated[list[float] | None, typer.Option(help="λ; repeat for more SAEs.")] = None,
    target_l0: Annotated[
        list[float] | None, typer.Option(help="Wanted L0; repeat for more SAEs.")
    ] = None,
    recipe: Recipe = None,
    steps: Steps = None,
    batch: Batch = None,
    lr: Rate = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; repeat for more SAEs.")] = None,
    device: Device = None,
    more: More = None,
    storage_option: Options = None,
    cache_dir: Cache = None,
    dask: Annotated[
        str | None,
        typer.Option(
            help="Dask cluster to spread the SAEs over, a worker a device: local:N, a scheduler's "
            "address or a scheduler file."
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(help="Devices of this machine to spread the SAEs over: cuda:0,cuda:1."),
    ] = None,
    config: Config = None,
    resume: Resume = False,
    wait: Wait = False,
) -> None:
    """Trains many SAEs on one stream: each batch is read once. --config may be a sweep.toml."""
    from ..store.place.options import parse_storage_options
    from .ranks.place import refuse_ranks
    from .sweeps.sweep import expand
    from .sweeps.sweep import sweep as run_sweep

    refuse_ranks("sweep")

    flags = {
        "store": store or None,
        "site": site,
        "target_site": target_site,
        "recipe": recipe,
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "device": device,
        "cache_dir": cache_dir,
        "storage_options": parse_storage_options(storage_option),
    }
    lists = {"width": width, "sparsity": sparsity, "target_l0": target_l0, "seed": seed}
    given = {name: values for name, values in lists.items() if values}
    members = expand(out, config, given, **merged(flags, more))
    for folder in run_sweep(members, members[0].out.parent, resume, wait, dask, devices):
        typer.echo(described(folder))


@app.command()
def export(
    sae: Annotated[
        str,
        typer.Option(
            help="Folder of a trained SAE, another SAE file, URL or hf://USER/REPOSITORY/FOLDER."
        ),
    ],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(EXPORTED)}.")],
    out: Annotated[Path, typer.Option(help="Folder for the result.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Language model whose norm's gain is folded into a transcoder for "
            f"{' or '.join(name for name, row in EXPORTED.items() if row.wants_gain)}."
        ),
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="Site of an SAE whose files do not tell it.")
    ] = None,
    target_site: Annotated[
        str | None, typer.Option(help="Site that a transcoder predicts, if its files do not tell.")
    ] = None,
    l0: Annotated[
        float | None, typer.Option(help="Mean number of active latents, for the path's name.")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="JSON of scopeworks evaluate to take site and L0 from.")
    ] = None,
) -> None:
    """Writes an SAE in a format that other projects load."""
    from .sae.export import export as run_export

    facts = {"site": site, "target_site": target_site, "l0": l0, "evaluation": evaluation}
    typer.echo(run_export(sae, format, out, model=model, **facts))


def merged(flags: dict[str, Any], more: list[str] | None) -> dict[str, Any]:
    """Flags and --set pairs together; a setting given twice is an error.

    Raises:
        ValueError: a pair without "=", or a name that has a flag which is given too.
    """
    import tomllib

    values = {name: value for name, value in flags.items() if value is not None}
    for pair in more or []:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ValueError(f"--set must be name=value, got {pair!r}")
        if name in values or name == "out":
            raise ValueError(f"{name} must be given once, got --set {pair!r} as well")
        try:
            values[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[name] = text  # a bare word
    return values


def described(folder: Path) -> str:
    """One line about a trained SAE."""
    from .sae.formats.trained import trained_config

    config = trained_config(folder)
    assert config is not None, "a finished run has a config"
    missed = f" ({config.missed})" if config.missed else ""
    return (
        f"{folder}: L0 {config.l0:.1f}{missed}, FVU {config.fvu:.4f}, dead {config.dead_share:.1%}"
    )
