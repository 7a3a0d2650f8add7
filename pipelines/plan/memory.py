"""Memory: what training SAEs needs of a card, by the check that `train` makes before it begins."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch

from ...train.run.memory import bytes_for
from ...train.settings import TrainSettings
from ..suite.members import SuiteMember, groups_of
from ..suite.model_shape import model_config
from ..suite.settings import SuiteFile
from .quantities import widths

if TYPE_CHECKING:
    from ...train.run.rows import TrainingRows


class _Widths(NamedTuple):
    """All of the rows that a card's memory depends on: batches wait in the machine's."""

    d_in: int
    d_out: int


def train_memory_bytes(file: SuiteFile, members: Sequence[SuiteMember]) -> int:
    """Of the group of SAEs, trained at once, that needs most."""
    return max(group_bytes(file, group) for group in groups_of(members))


def group_bytes(file: SuiteFile, group: Sequence[SuiteMember], n_ranks: int = 1) -> int:
    """Of a card that trains some SAEs of one stream at once, or its share of one.

    Raises:
        ValueError: naming file, table and key.
    """
    source = cast("TrainingRows", _Widths(*widths(group[0], model_config(file.suite.model))))
    settings = [_settings(file, member) for member in group]
    return bytes_for(settings, source, torch.device("cuda"), n_ranks)


def _settings(file: SuiteFile, member: SuiteMember) -> TrainSettings:
    """A member's, on CUDA; places are anywhere."""
    sites = dict(zip(("site", "target_site"), map(str, member.sites), strict=False))
    values = {"backend": "triton"} | member.values
    places = {"store": "store", "out": "out", "checkpoints": file.suite.checkpoints}
    return file.table(TrainSettings, "[[sae]]", values, **places, **sites)
