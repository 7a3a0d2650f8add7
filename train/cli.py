"""`scopeworks train`, `sweep` and `export`."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field

from ..options import Given, command
from ..settings import Settings
from .sae.formats.table import EXPORTED
from .settings import TrainSettings

app = typer.Typer(no_args_is_help=True, add_completion=False)

_COMMON = "out store site target_site width sparsity target_l0 recipe steps batch lr seed device"
_SEVERAL = "width sparsity target_l0 seed"

Resume = Annotated[
    bool, typer.Option("--resume", help="Fail if there is no run to continue; allows more --steps.")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for another run in the same folder to end.")
]
More = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A setting, written as in TOML. Repeat for more."
    ),
]


@command(app, TrainSettings, f"{_COMMON} parallel")
def train(
    given: Given[TrainSettings], more: More = None, resume: Resume = False, wait: Wait = False
) -> None:
    """Trains one JumpReLU SAE from a store; the same command continues a stopped run. Started with
    torchrun, several processes train it together."""
    from .ranks.joining import joined
    from .run.trainer import run

    with joined() as world:
        settings = given.settings(**merged(given.values, more))
        if settings.name is not None and settings.wandb_project is None:
            raise ValueError("name has no effect on a run without wandb_project; leave it out")
        for folder in run([settings], resume, wait=wait, world=world):
            if world.is_first:
                typer.echo(described(folder))


@command(app, TrainSettings, _COMMON, several=_SEVERAL)
def sweep(
    given: Given[TrainSettings],
    more: More = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="<str>",
            help="Dask cluster to spread the SAEs over, a worker a device: local:N, a scheduler's "
            "address or a scheduler file.",
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="<str>",
            help="Devices of this machine to spread the SAEs over: cuda:0,cuda:1.",
        ),
    ] = None,
    resume: Resume = False,
    wait: Wait = False,
) -> None:
    """Trains many SAEs on one stream: each batch is read once. Values given several times are
    combined. --config may be a sweep.toml."""
    from .sweeps.sweep import expand
    from .sweeps.sweep import sweep as run_sweep

    values = merged(given.values, more)
    out = values.pop("out", None)
    lists = {name: values.pop(name) for name in _SEVERAL.split() if name in given.values}
    members = expand(None if out is None else Path(out), given.config, lists, **values)
    for folder in run_sweep(members, members[0].out.parent, resume, wait, dask, devices):
        typer.echo(described(folder))


class ExportSettings(Settings):
    """What `scopeworks export` writes."""

    sae: str
    """Folder of a trained SAE, another SAE file, URL or hf://USER/REPOSITORY/FOLDER."""
    format: str = Field(description=f"One of {', '.join(EXPORTED)}.")
    out: Path
    """Folder for the result."""
    model: str | None = Field(
        default=None,
        description="Language model whose norm's gain is folded into a transcoder for "
        f"{' or '.join(name for name, row in EXPORTED.items() if row.wants_gain)}.",
    )
    site: str | None = None
    """Site that the SAE reads, if its files do not say."""
    target_site: str | None = None
    """Site that a transcoder predicts, if its files do not say."""
    l0: float | None = None
    """Mean number of active latents, for the folder's name."""
    evaluation: Path | None = None
    """JSON file that `scopeworks evaluate` wrote, to take site and L0 from."""


@command(app, ExportSettings)
def export(given: Given[ExportSettings]) -> None:
    """Writes an SAE in a format that other projects load."""
    from .sae.export import export_sae as run_export

    facts = given.settings().model_dump()
    typer.echo(run_export(facts.pop("sae"), facts.pop("format"), facts.pop("out"), **facts))


def merged(values: dict[str, Any], pairs: Iterable[str] | None) -> dict[str, Any]:
    """Flags and --set pairs together; a pair's value is TOML, or else taken as a string.

    Raises:
        ValueError: a pair without "=", or a setting that is given twice.
    """
    found = dict(values)
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ValueError(f"--set must be name=value, got {pair!r}")
        if name in found:
            raise ValueError(f"{name} must be given once, got --set {pair!r} as well")
        try:
            found[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = text
    return found


def described(folder: Path) -> str:
    """One line about a trained SAE."""
    from .sae.formats.trained import trained_config

    config = trained_config(folder)
    assert config is not None, "a finished run has a config"
    missed = f" ({config.missed})" if config.missed else ""
    return (
        f"{folder}: L0 {config.l0:.1f}{missed}, FVU {config.fvu:.4f}, dead {config.dead_share:.1%}"
    )
