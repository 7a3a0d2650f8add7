"""The command `scopeworks plan`: what a suite takes, before it is run."""

import math
import tempfile
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli import Changes, StorageOption

if TYPE_CHECKING:
    from ..suite.settings import SuiteFile

app = typer.Typer(no_args_is_help=True)


@app.command()
def plan(
    suite: Annotated[
        Path | None, typer.Argument(help="Suite file (TOML), or the name of a preset.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Without a suite: the language model.")] = None,
    site: Annotated[list[str] | None, typer.Option(help="Without a suite: sites.")] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Without a suite: tokens of text, as 500M or 4B.")
    ] = None,
    width: Annotated[int, typer.Option(help="Without a suite: latents of each SAE.")] = 16384,
    saes: Annotated[int, typer.Option(min=1, help="Without a suite: SAEs of each site.")] = 1,
    device: Annotated[str, typer.Option(help="h100, a100, l4 or tpu-v3.")] = "h100",
    ranks: Annotated[
        int | None,
        typer.Option(min=2, help="So many devices that train the widest SAE together."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Take this machine's speed, by two short runs.")
    ] = False,
    price: Annotated[
        list[str] | None,
        typer.Option(help="gpu-hour=2.5, tb-month=20; repeatable. In any currency."),
    ] = None,
    days: Annotated[float, typer.Option(min=0, help="Days that activations are kept.")] = 30.0,
    bandwidth: Annotated[
        float | None, typer.Option(help="GB a second that the place of the store gives.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="After a run: predicted and actual times.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of the break-even: .svg or .png.")
    ] = None,
    change: Changes = None,
    storage_option: StorageOption = None,
) -> None:
    """Says what a suite takes: rows, bytes, operations, hours, memory and price of each step."""
    from ..plan import page
    from ..plan.quantities import quantities
    from ..suite.members import members_of
    from .measure import actual_seconds

    rates = _rates(price or [], days)
    if bandwidth is not None and not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth must be above 0 GB a second, got {bandwidth}")
    with tempfile.TemporaryDirectory() as folder:
        options = {"model": model, "site": site, "tokens": tokens}
        file = _file(suite, options, width, saes, Path(folder), change, storage_option)
        members, text_bytes = members_of(file), _text_bytes(file)
        found = quantities(file, text_bytes)
        speed = _speed(file, text_bytes, device, measure)
        figures = page.as_json(file, members, found, speed, rates, ranks)
        if plot is not None:
            page.draw(plot, figures, rates)
        actual = {}
        if compare:
            actual = actual_seconds(file.suite.out, [q.step for q in found])
            if not actual:
                raise ValueError(f"suite {file.path} must have been run to compare; run it first")
            figures["actual_seconds"] = actual
        if json:
            lines = [dumps(figures, indent=2)]
        else:
            per_s = None if bandwidth is None else bandwidth * 1e9
            lines = page.as_lines(figures, rates, per_s)
            lines += ["", *page.compared(figures, actual)] if compare else []
    for line in lines:
        typer.echo(line)


def _file(
    suite: Path | None,
    options: dict[str, Any],
    width: int,
    saes: int,
    folder: Path,
    change: list[str] | None,
    storage_option: list[str] | None,
) -> "SuiteFile":
    """The suite that was named, or one made of the options."""
    from ...store.place.files import write_file
    from ...store.place.options import parse_storage_options
    from ..suite.settings import SuiteFile

    given = [name for name, value in options.items() if value]
    if suite is not None:
        if given:
            raise ValueError(f"--{given[0]} has no effect on a suite; leave it out, or use --set")
        return SuiteFile(suite, change or (), parse_storage_options(storage_option))
    if len(given) < len(options):
        missing = next(name for name in options if name not in given)
        raise ValueError(f"{missing} must be given (as --{missing}), or a suite file")
    n = _number(options["tokens"])
    # As many as are asked for, and all different; what they are changes no figure of a plan.
    prices = [1e-4 + 1e-3 * i / saes for i in range(saes)]
    path = folder / "plan.toml"
    # JSON's texts and lists are TOML's too.
    text = (
        f'name = "plan"\nmodel = {dumps(options["model"])}\nout = {dumps(str(folder / "out"))}\n'
        f'[text]\nsources = ["none"]\ntokens = {n}\n[harvest]\nrows = {n}\n'
        f"[[sae]]\nsite = {dumps(options['site'])}\nwidth = {width}\ntokens = {n}\n"
        f"sparsity = {prices}\n"
    )
    write_file(path, text.encode())
    return SuiteFile(path, change or ())


def _number(text: str) -> int:
    """500M, 4B, 2.5e9 as a number."""
    sizes = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
    size = sizes.get(text[-1:], 1.0)
    number = _positive(text.removesuffix(text[-1:]) if size > 1 else text)
    value = 0 if number is None else round(number * size)
    if value < 1:
        raise ValueError(f"tokens must be a number such as 500M or 4B, got {text!r}")
    return value


def _rates(pairs: list[str], days: float) -> Any:
    """The prices that were given."""
    from ..plan.estimate import Rates

    names = {"gpu-hour": "gpu_hour", "tb-month": "tb_month"}
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        number = _positive(value)
        if name not in names or number is None:
            raise ValueError(f"price must be gpu-hour=NUMBER or tb-month=NUMBER, got {pair!r}")
        found[names[name]] = number
    if not math.isfinite(days):
        raise ValueError(f"days must be a number, got {days}")
    return Rates(**found, days=days)


def _positive(text: str) -> float | None:
    """A finite number above 0; None if it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def _text_bytes(file: "SuiteFile") -> int | None:
    """Of the suite's text, where it is on this machine; None where it is not, or has no sizes."""
    from ...harvest.text.text_file import is_stream
    from ...store.place.place import Place
    from ..suite.outputs import Outputs

    text = file.text_table
    if text.store is not None or any(is_stream(n) or Place(n).is_remote for n in text.sources):
        return None
    try:
        return Outputs(file).text_bytes()
    except FileNotFoundError:
        return None


def _speed(file: "SuiteFile", text_bytes: int | None, device: str, measure: bool) -> Any:
    """A device's by its table, or this machine's."""
    from ..plan.devices import device_named
    from ..plan.estimate import Speed

    if measure:
        from .measure import measured_speed

        return measured_speed(file, text_bytes, "machine like this")
    return Speed.of(device, device_named(device))
