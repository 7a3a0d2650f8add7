"""Memory that training SAEs needs on a GPU, by the check that `train` makes before it begins."""

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
    """The widths of the rows: all that a GPU's memory depends on, as batches wait in the machine's
    own memory."""

    d_in: int
    d_out: int


def train_memory_bytes(file: SuiteFile, members: Sequence[SuiteMember]) -> int:
    """Bytes that the largest group of SAEs trained at once needs."""
    return max(group_bytes(file, group) for group in groups_of(members))


def group_bytes(file: SuiteFile, group: Sequence[SuiteMember], n_ranks: int = 1) -> int:
    """Bytes that one GPU needs to train SAEs of one stream at once, or its share of one SAE.

    Raises:
        ValueError: naming file, table and key.
    """
    source = cast("TrainingRows", _Widths(*widths(group[0], model_config(file.suite.model))))
    settings = [_settings(file, member) for member in group]
    return bytes_for(settings, source, torch.device("cuda"), n_ranks)


def _settings(file: SuiteFile, member: SuiteMember) -> TrainSettings:
    """A member's settings of train on CUDA, with paths that are never opened."""
    sites = dict(zip(("site", "target_site"), map(str, member.sites), strict=False))
    values = {"backend": "triton"} | member.values
    places = {"store": "store", "out": "out", "checkpoints": file.suite.checkpoints}
    return file.table(TrainSettings, "[[sae]]", values, **places, **sites)
