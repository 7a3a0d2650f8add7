"""The command `scopeworks study`: the report's figures, each as a command."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..run.cli import Changes, StorageOption

if TYPE_CHECKING:
    from ..suite.settings import SuiteFile

app = typer.Typer(no_args_is_help=True)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="A study's name, or all, or list.")],
    suite: Annotated[
        Path | None, typer.Argument(help="Suite file (TOML), or the name of a preset.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="The report's sizes, such as 20,000 sequences.")
    ] = False,
    findings: Annotated[
        Path | None, typer.Option(help="Markdown page to write about all that was found.")
    ] = None,
    sae: Annotated[
        list[str] | None, typer.Option(help="Instead of a suite: SAEs that are there; repeatable.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --sae: the language model.")] = None,
    tokens: Annotated[str | None, typer.Option(help="With --sae: URL of the token store.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --sae: folder for studies/.")] = None,
    n_sequences: Annotated[
        int | None, typer.Option(help="With --sae: held-out sequences to use; 2048 by default.")
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="With --sae: site of SAEs whose files do not tell it.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="With --sae: auto, cpu, cuda.")] = None,
    ratings: Annotated[
        Path | None,
        typer.Option(help="Folder of `latents rate`, for study ratings; OUT/ratings by default."),
    ] = None,
    index: Annotated[
        list[Path] | None,
        typer.Option(
            help="Instead of a suite, for study simulation: index that `latents score` has scored; "
            "repeatable."
        ),
    ] = None,
    change: Changes = None,
    storage_option: StorageOption = None,
) -> None:
    """Answers a question of the report with a suite's SAEs or given ones; makes what is missing.

    Points (CSV), figures (SVG, PNG) and the reading (JSON) are written to OUT/studies/NAME. With
    `all`, exit code 1 says that some studies failed.
    """
    given: dict[str, Any] = {
        "model": model,
        "tokens": tokens,
        "out": out,
        "n_sequences": n_sequences,
        "site": site,
        "device": device,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if ratings is not None and name not in ("ratings", "all"):
        raise ValueError(f"--ratings has no effect on study {name}; leave it out")
    if index and (name != "simulation" or suite is not None):
        raise ValueError("--index has an effect on study simulation without a suite; leave it out")
    if index or (ratings is not None and suite is None and name == "ratings"):
        beside = {"sae": sae, "full": full, "findings": findings, "set": change, **given}
        _study_there(name, ratings, index, beside | {"storage_option": storage_option})
        return
    if name == "list":
        _check_list(suite, change, storage_option, sae=sae, full=full, findings=findings, **given)
    elif sae is None and given:
        verb = "has" if len(given) == 1 else "have"
        raise ValueError(f"{_options(given)} {verb} no effect without --sae")
    if (suite is None) == (sae is None) and name != "list":
        raise ValueError("study must be given a suite, or SAEs with --sae, and not both")
    if name == "list":
        _list(suite, change, storage_option)
    elif sae is not None:
        if change or findings:
            raise ValueError("--set and --findings have no effect with --sae; leave them out")
        _study_saes(name, sae, full, given, storage_option)
    else:
        assert suite is not None
        _study_suite(name, suite, full, findings, change, storage_option, ratings)


def _check_list(
    suite: Path | None, change: Changes, storage_option: StorageOption, **others: Any
) -> None:
    """Refuses options by which the list would be no other.

    Raises:
        ValueError: naming them.
    """
    used = {} if suite else {"set": change, "storage_option": storage_option}
    idle = {name: value for name, value in (others | used).items() if value}
    if idle:
        raise ValueError(
            f"study list must be given a suite and its changes at most, got {_options(idle)}, "
            "which would have no effect; leave them out"
        )


def _options(names: Iterable[str]) -> str:
    """Options as they are typed."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _list(suite: Path | None, change: Changes, storage_option: StorageOption) -> None:
    """Shows the table of studies, and what was found in a suite's folder."""
    from ...evaluate.studies.table import STUDIES
    from .listing import lines

    folder = None if suite is None else _suite(suite, change, storage_option).suite.out
    for line in lines(STUDIES, folder):
        typer.echo(line)


def _study_saes(
    name: str, saes: list[str], full: bool, given: dict[str, Any], options: StorageOption
) -> None:
    """Studies SAEs that are there."""
    from ...evaluate.studies.table import study_named
    from ...store.place.options import parse_storage_options
    from .gathering import of_saes
    from .runs import run_study

    if name == "all":
        raise ValueError(
            "study must be one with --sae, got all; name one of `scopeworks study list`"
        )
    for needed in ("model", "tokens", "out"):
        if needed not in given:
            raise ValueError(f"--{needed} must be given with --sae")
    folder = Path(str(given["out"])).expanduser().absolute()
    settings = {name: value for name, value in given.items() if name != "out"}
    settings["storage_options"] = parse_storage_options(options)
    run_study(
        study_named(name), folder, lambda study: of_saes(study, saes, full, folder, **settings)
    )


def _study_there(
    name: str, ratings: Path | None, index: list[Path] | None, beside: dict[str, Any]
) -> None:
    """Studies what was found out about latents before, of any SAEs, without a suite."""
    from ...evaluate.studies.table import study_named
    from .gathering import of_indexes, of_ratings
    from .runs import run_study

    out = beside.pop("out", None)
    idle = [option for option, value in beside.items() if value]
    if idle or out is None:
        raise ValueError(
            f"--{'index' if index else 'ratings'} without a suite must be given with --out and "
            f"nothing else, got {_options(idle) or 'no --out'}"
        )
    folder = Path(str(out)).expanduser().absolute()
    run_study(
        study_named(name),
        folder,
        lambda _study: of_indexes(index) if index else of_ratings(ratings or folder),
    )


def _study_suite(
    name: str,
    suite: Path,
    full: bool,
    findings: Path | None,
    change: Changes,
    storage_option: StorageOption,
    ratings: Path | None,
) -> None:
    """Studies a suite, and makes what is missing."""
    from ...evaluate.studies.table import study_named
    from ...store.place.files import check_can_be_written
    from .findings import write_findings
    from .gathering import of_suite
    from .runs import run_all, run_study

    chosen = None if name == "all" else study_named(name)
    file = _suite(suite, change, storage_option)
    folder = file.suite.out.expanduser().absolute()
    if findings is not None:
        check_can_be_written(findings, "findings")
    failed: dict[str, str] = {}
    if chosen is None:
        failed = run_all(folder, lambda one: of_suite(one, file, full, ratings))
    else:
        run_study(chosen, folder, lambda one: of_suite(one, file, full, ratings))
    if findings is not None:
        write_findings(findings, folder, str(suite))
        typer.echo(f"findings: {findings}")
    for one, error in failed.items():
        typer.echo(f"failed: {one}: {error}", err=True)
    if failed:
        raise typer.Exit(1)


def _suite(suite: Path, change: Changes, storage_option: StorageOption) -> "SuiteFile":
    """The suite's file, read."""
    from ...store.place.options import parse_storage_options
    from ..suite.settings import SuiteFile

    return SuiteFile(suite, change or (), parse_storage_options(storage_option))
