"""The command `scopeworks study`: the report's figures, each as a command."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer
from pydantic import PositiveInt

from ...options import Given, command
from ...store.place.options import StorageSettings
from ..suite.options import SuiteOptions

app = typer.Typer(no_args_is_help=True)

_WHAT = ("name", "suite")
_WITH_SAES = ("model", "tokens", "out", "n_sequences", "site", "device")


class StudyOptions(SuiteOptions, StorageSettings):
    """Options of `scopeworks study`."""

    name: str
    """A study's name, or all, or list."""
    suite: Path | None = None
    """Suite file (TOML), or the name of a preset."""
    full: bool = False
    """Use the report's sizes, such as 20,000 sequences."""
    findings: Path | None = None
    """Markdown page to write about all findings."""
    sae: list[str] | None = None
    """Instead of a suite: existing SAEs."""
    model: str | None = None
    """With `sae`: the language model."""
    tokens: str | None = None
    """With `sae`: URL of the token store."""
    out: Path | None = None
    """With `sae`: folder for studies/."""
    n_sequences: PositiveInt | None = None
    """With `sae`: held-out sequences to use; 2048 by default."""
    site: str | None = None
    """With `sae`: site of SAEs whose files do not name it."""
    device: str | None = None
    """With `sae`: auto, cpu, cuda."""
    ratings: Path | None = None
    """Folder of `scopeworks latents rate`, for study ratings; OUT/ratings by default."""
    index: list[Path] | None = None
    """Instead of a suite, for study simulation: an index with scores of `latents score`."""

    @property
    def used(self) -> dict[str, Any]:
        """Flag -> value of all given options, without study and suite."""
        flags = {name: field.alias or name for name, field in type(self).model_fields.items()}
        flags |= {"storage_options": "storage_option"}
        given = {flag: getattr(self, name) for name, flag in flags.items()}
        return {flag: value for flag, value in given.items() if value and flag not in _WHAT}


@command(app, StudyOptions, arguments="name suite", config=False)
def study(given: Given[StudyOptions]) -> None:
    """Answers a question of the report with a suite's SAEs or given ones; makes what is missing.

    Points (CSV), figures (SVG, PNG) and the reading (JSON) are written to OUT/studies/NAME. With
    `all`, exit code 1 says that some studies failed.
    """
    asked = given.settings()
    used = asked.used
    with_saes = [name for name in used if name in _WITH_SAES]
    if asked.ratings is not None and asked.name not in ("ratings", "all"):
        raise ValueError(f"--ratings has no effect on study {asked.name}; leave it out")
    if asked.index and (asked.name != "simulation" or asked.suite is not None):
        raise ValueError("--index has an effect on study simulation without a suite; leave it out")
    if asked.index or (asked.ratings and asked.suite is None and asked.name == "ratings"):
        _study_there(asked)
    elif asked.name == "list":
        _list(asked)
    elif asked.sae is None and with_saes:
        verb = "has" if len(with_saes) == 1 else "have"
        raise ValueError(f"{_flags(with_saes)} {verb} no effect without --sae")
    elif (asked.suite is None) == (asked.sae is None):
        raise ValueError("study must be given a suite, or SAEs with --sae, and not both")
    elif asked.sae is not None:
        if asked.changes or asked.findings:
            raise ValueError("--set and --findings have no effect with --sae; leave them out")
        _study_saes(asked, asked.sae)
    else:
        _study_suite(asked)


def _flags(names: Iterable[str]) -> str:
    """Options as they are typed."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _list(asked: StudyOptions) -> None:
    """Prints the table of studies, with the verdicts in a suite's folder if one is given."""
    from ...evaluate.studies.table import STUDIES
    from .listing import lines

    of_suite = ("set", "storage_option") if asked.suite else ()
    if idle := [name for name in asked.used if name not in of_suite]:
        raise ValueError(
            f"study list must be given a suite and its changes at most, got {_flags(idle)}, "
            "which would have no effect; leave them out"
        )
    for line in lines(STUDIES, asked.file.suite.out if asked.suite else None):
        typer.echo(line)


def _study_saes(asked: StudyOptions, saes: list[str]) -> None:
    """Runs a study on existing SAEs."""
    from ...evaluate.studies.table import study_named
    from .gathering import of_saes
    from .runs import run_study

    if asked.name == "all":
        raise ValueError(
            "study must be one with --sae, got all; name one of `scopeworks study list`"
        )
    for needed in ("model", "tokens", "out"):
        if needed not in asked.used:
            raise ValueError(f"--{needed} must be given with --sae")
    folder = Path(str(asked.out)).expanduser().absolute()
    settings = {name: asked.used[name] for name in _WITH_SAES if name in asked.used}
    del settings["out"]
    settings["storage_options"] = asked.storage_options
    run_study(
        study_named(asked.name),
        folder,
        lambda study: of_saes(study, saes, asked.full, folder, **settings),
    )


def _study_there(asked: StudyOptions) -> None:
    """Runs a study on existing ratings or scored indexes, without a suite."""
    from ...evaluate.studies.table import study_named
    from .gathering import of_indexes, of_ratings
    from .runs import run_study

    idle = [name for name in asked.used if name not in ("index", "ratings", "out")]
    if idle or asked.out is None:
        raise ValueError(
            f"--{'index' if asked.index else 'ratings'} without a suite must be given with --out "
            f"and nothing else, got {_flags(idle) or 'no --out'}"
        )
    folder = asked.out.expanduser().absolute()
    run_study(
        study_named(asked.name),
        folder,
        lambda _study: (
            of_indexes(asked.index) if asked.index else of_ratings(asked.ratings or folder)
        ),
    )


def _study_suite(asked: StudyOptions) -> None:
    """Runs a study, or all, on a suite; makes the missing outputs."""
    from ...evaluate.studies.table import study_named
    from .findings import check_findings, write_findings
    from .gathering import of_suite
    from .runs import run_all, run_study

    chosen = None if asked.name == "all" else study_named(asked.name)
    file = asked.file
    folder = file.suite.out.expanduser().absolute()
    if asked.findings is not None:
        check_findings(asked.findings)
    failed: dict[str, str] = {}
    if chosen is None:
        failed = run_all(folder, lambda one: of_suite(one, file, asked.full, asked.ratings))
    else:
        run_study(chosen, folder, lambda one: of_suite(one, file, asked.full, asked.ratings))
    if asked.findings is not None:
        write_findings(asked.findings, folder, str(asked.suite))
        typer.echo(f"findings: {asked.findings}")
    for one, error in failed.items():
        typer.echo(f"failed: {one}: {error}", err=True)
    if failed:
        raise typer.Exit(1)
