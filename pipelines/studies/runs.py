"""Runs one study from its evaluations to its files, or all studies one after the other.

Owns the order: all checks come before any run, and if one study fails, the others still run.
"""

import time
from collections.abc import Callable
from pathlib import Path

from ...evaluate.saved.study_file import READING_FILE, TIMING_FILE
from ...evaluate.studies.table import STUDIES, study_named
from ...evaluate.study.study import AbsentError, Study
from ...evaluate.study.write import Finding, find, write_finding
from ...foreign import one_line
from ...store.place.files import check_can_be_written, write_json
from ..suite.settings import AnySuite, SuiteFile
from .gathering import GatheredStudy, of_suite


def study_folder(out: Path, study: Study) -> Path:
    """The folder of a study's files."""
    return out / "studies" / study.name


def run_study(study: Study, out: Path, gather: Callable[[Study], GatheredStudy]) -> Finding:
    """Runs one study and writes its files.

    Args:
        study: the study.
        out: the suite's folder, or the folder for a list of SAEs.
        gather: makes or reads the study's documents.

    Raises:
        ValueError, OSError: gathering or checking failed; the study's files have not changed.
    """
    check_plots()
    folder, began = study_folder(out, study), time.monotonic()
    check_can_be_written(folder / READING_FILE, "out")
    gathered = gather(study)
    finding = find(study, gathered.documents)
    write_finding(folder, finding)
    if gathered.made or not (folder / TIMING_FILE).is_file():
        minutes = round((time.monotonic() - began) / 60, 2)
        write_json(folder / TIMING_FILE, {"minutes": minutes})
    print(f"{study.name}: {finding.reading.verdict}. {finding.reading.sentence}")
    print(f"written: {folder}", flush=True)
    return finding


def study_suite(name: str, suite: AnySuite, full: bool = False) -> Finding:
    """Answers a question of the report with a suite's SAEs; makes what is missing of them.

        study_suite("frontier", "suite.toml").reading.sentence

    Points (CSV), figures (SVG, PNG) and the reading (JSON) are written to `studies/NAME` in the
    suite's folder.

    Args:
        name: one of `scopeworks study list`.
        suite: a suite file's path, a preset's name, or a `SuiteFile`.
        full: as many variants and sequences as the report has.

    Raises:
        ValueError, OSError: there is no such study or suite, its SAEs are too few for the question,
            or a step failed; nothing of the study's files has changed.
    """
    file = SuiteFile.of(suite)
    folder = file.suite.out.expanduser().absolute()
    return run_study(study_named(name), folder, lambda study: of_suite(study, file, full))


def run_all(out: Path, gather: Callable[[Study], GatheredStudy]) -> dict[str, str]:
    """Runs every study in the table's order.

    Returns:
        Name -> error of the studies that failed. A study that waits for people's ratings is left
        out and has not failed.
    """
    check_plots()
    failed = {}
    for study in STUDIES:
        try:
            run_study(study, out, gather)
        except AbsentError as error:
            print(f"{study.name}: left out: {one_line(error)}", flush=True)
        except (ValueError, OSError) as error:
            failed[study.name] = one_line(error)
            print(f"{study.name}: failed: {failed[study.name]}", flush=True)
    return failed


def check_plots() -> None:
    """Checks, before hours of work, that figures can be drawn.

    Raises:
        ValueError: matplotlib cannot be imported.
    """
    try:
        import matplotlib.figure as _figure
    except ImportError as error:
        raise ValueError(
            f"studies must be able to draw with matplotlib, which cannot be imported "
            f"({one_line(error)}); install it: pip install matplotlib"
        ) from error
    del _figure
