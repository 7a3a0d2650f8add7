"""The command `scopeworks plan`: what a suite costs before it runs."""

import tempfile
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from ...options import Given, command
from ...store.place.options import StorageSettings
from ..suite.options import SuiteOptions

if TYPE_CHECKING:
    from ..suite.settings import SuiteFile

app = typer.Typer(no_args_is_help=True)

_SIZES = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


class PlanOptions(SuiteOptions, StorageSettings):
    """Options of `scopeworks plan`."""

    suite: Path | None = None
    """Suite file (TOML), or the name of a preset."""
    model: str | None = None
    """Without a suite: the language model."""
    site: list[str] | None = None
    """Without a suite: sites."""
    tokens: str | PositiveInt | None = None
    """Without a suite: tokens of text, as 500M or 4B."""
    width: PositiveInt = 16384
    """Without a suite: latents of each SAE."""
    saes: PositiveInt = 1
    """Without a suite: SAEs of each site."""
    device: str = "h100"
    """h100, a100, l4 or tpu-v3."""
    ranks: int | None = Field(default=None, ge=2)
    """Devices that train the widest SAE together."""
    measure: bool = False
    """Measure this machine's speed by two short runs, and plan with it."""
    prices: dict[Literal["gpu-hour", "tb-month"], PositiveFloat] = Field(
        default_factory=dict, alias="price"
    )
    """gpu-hour=2.5, tb-month=20; in any currency."""
    days: float = Field(default=30.0, ge=0)
    """Days for which activations are kept."""
    bandwidth: PositiveFloat | None = None
    """GB a second at which the store can be read."""
    compare: bool = False
    """After a run: show predicted and actual times."""
    as_json: bool = Field(default=False, alias="json")
    """As JSON."""
    plot: Path | None = None
    """File for a picture of the break-even: .svg or .png."""

    @field_validator("tokens", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        """500M, 4B, 2.5e9 as a number."""
        if not isinstance(value, str):
            return value
        size = _SIZES.get(value[-1:], 0.0)
        try:
            number = round(float(value[:-1]) * size if size else float(value))
        except (ValueError, OverflowError):
            number = 0
        if number < 1:
            raise ValueError("must be a number such as 500M or 4B")
        return number


@command(app, PlanOptions, arguments="suite", config=False)
def plan(given: Given[PlanOptions]) -> None:
    """Shows what a suite takes: rows, bytes, operations, hours, memory and price of each step."""
    from ..plan import page
    from ..plan.estimate import Prices
    from ..plan.quantities import quantities
    from ..plan.suite_plan import known_text_bytes
    from ..suite.members import members_of
    from .measure import actual_seconds

    asked = given.settings()
    prices = {name.replace("-", "_"): price for name, price in asked.prices.items()}
    rates = Prices(**prices, days=asked.days)
    with tempfile.TemporaryDirectory() as folder:
        file = _file(asked, Path(folder))
        members, text_bytes = members_of(file), known_text_bytes(file)
        found = quantities(file, text_bytes)
        speed = _speed(file, text_bytes, asked.device, asked.measure)
        figures = page.as_json(file, members, found, speed, rates, asked.ranks)
        if asked.plot is not None:
            page.draw(asked.plot, figures, rates)
        actual = {}
        if asked.compare:
            actual = actual_seconds(file.suite.out, [q.step for q in found])
            if not actual:
                raise ValueError(f"suite {file.path} must have been run to compare; run it first")
            figures["actual_seconds"] = actual
        if asked.as_json:
            lines = [dumps(figures, indent=2)]
        else:
            per_s = None if asked.bandwidth is None else asked.bandwidth * 1e9
            lines = page.as_lines(figures, rates, per_s)
            lines += ["", *page.compared(figures, actual)] if asked.compare else []
    for line in lines:
        typer.echo(line)


def _file(asked: PlanOptions, folder: Path) -> "SuiteFile":
    """The suite that was named, or one made of the options."""
    from ...store.place.files import write_file
    from ..suite.settings import SuiteFile

    given = {name: getattr(asked, name) for name in ("model", "site", "tokens")}
    if asked.suite is not None:
        for name in [name for name, value in given.items() if value is not None]:
            raise ValueError(f"--{name} has no effect on a suite; leave it out, or use --set")
        return asked.file
    for name in [name for name, value in given.items() if value is None]:
        raise ValueError(f"{name} must be given (as --{name}), or a suite file")
    # One λ for each SAE, all different; their values change no figure of a plan.
    sparsities = [1e-4 + 1e-3 * i / asked.saes for i in range(asked.saes)]
    path = folder / "plan.toml"
    # JSON's strings and lists are valid TOML.
    text = (
        f'name = "plan"\nmodel = {dumps(asked.model)}\nout = {dumps(str(folder / "out"))}\n'
        f'[text]\nsources = ["none"]\ntokens = {asked.tokens}\n[harvest]\nrows = {asked.tokens}\n'
        f"[[sae]]\nsite = {dumps(asked.site)}\nwidth = {asked.width}\ntokens = {asked.tokens}\n"
        f"sparsity = {sparsities}\n"
    )
    write_file(path, text.encode())
    return SuiteFile(path, asked.changes)


def _speed(file: "SuiteFile", text_bytes: int | None, device: str, measure: bool) -> Any:
    """The speed of a device by the table, or this machine's as measured."""
    from ..plan.devices import device_named
    from ..plan.estimate import Speed

    if measure:
        from .measure import measured_speed

        return measured_speed(file, text_bytes, "machine like this")
    return Speed.of(device, device_named(device))
