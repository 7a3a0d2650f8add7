"""A rank's view of the others: which errors are another's end, and which are its own."""

import json
from pathlib import Path

import pytest
import torch

from scopeworks.train.ranks.joining import joined
from scopeworks.train.ranks.wire import LostError
from scopeworks.train.ranks.world import World

from .processes import environment, free_port


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


def test_an_error_is_told_to_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told = tmp_path / "error.json"
    here = environment(0, 2, free_port(), TORCHELASTIC_ERROR_FILE=str(told))
    monkeypatch.setattr("os.environ", here)
    with pytest.raises(ValueError, match=r"ranks must meet at .* within 0\.2 s"), joined(0.2):
        pass
    said = json.loads(told.read_bytes())["message"]
    assert said["message"].startswith("ranks must meet at 127.0.0.1")
    assert int(said["extraInfo"]["timestamp"]) > 0
