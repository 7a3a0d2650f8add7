"""The table of studies: a new study is one module and one row."""

import difflib

from ..study.study import Study
from .choices import bandwidth, mixing, precision, storing, transcoder
from .figures import (
    frequency,
    frontier,
    importance,
    position,
    ratings,
    simulation,
    subsets,
    transfer,
    width,
)

STUDIES: tuple[Study, ...] = (
    frontier.STUDY,
    position.STUDY,
    width.STUDY,
    frequency.STUDY,
    ratings.STUDY,
    simulation.STUDY,
    transfer.STUDY,
    subsets.STUDY,
    precision.STUDY,
    transcoder.STUDY,
    importance.STUDY,
    mixing.STUDY,
    bandwidth.STUDY,
    storing.STUDY,
)


def study_named(name: str) -> Study:
    """The study of that name.

    Raises:
        ValueError: there is none; the text names the nearest name.
    """
    for study in STUDIES:
        if study.name == name:
            return study
    names = [study.name for study in STUDIES]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"study must be one of {', '.join(names)}, all or list, got {name!r}{hint}")
