"""Runs one study from its evaluations to its files, or all studies one after the other.

Owns the order: all checks come before any run, and if one study fails, the others still run.
"""

import time
from collections.abc import Callable
from pathlib import Path

from ...evaluate.saved.study_file import READING_FILE, TIMING_FILE
from ...evaluate.studies.table import STUDIES
from ...evaluate.study.study import AbsentError, Study
from ...evaluate.study.write import Finding, find, write_finding
from ...foreign import one_line
from ...store.place.files import check_can_be_written, write_json
from .gathering import GatheredStudy


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
