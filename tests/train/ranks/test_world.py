"""A rank's view of the others: which errors are another's end, and which are its own."""

import pytest
import torch

from scopeworks.train.ranks.wire import LostError
from scopeworks.train.ranks.world import World


def test_memory_that_runs_out_is_this_ranks_own_error():
    world = World()
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"), world._noticed():
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert not world.lost


def test_a_closed_connection_is_another_ranks_end():
    world = World()
    with pytest.raises(LostError, match="Connection closed by peer"), world._noticed():
        raise RuntimeError("Connection closed by peer")
    assert world.lost
