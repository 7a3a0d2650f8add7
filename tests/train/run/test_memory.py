"""The memory estimate: against what runs really take, and what it refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scopeworks.train.kernels import initial_parameters
from scopeworks.train.run import member as member_module
from scopeworks.train.run import memory
from scopeworks.train.run.fold import fold
from scopeworks.train.run.memory import bytes_for
from scopeworks.train.run.rows import TrainingRows
from scopeworks.train.run.trainer import run
from scopeworks.train.settings import TrainSettings

Make = Callable[..., TrainSettings]
CPU = torch.device("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("n_members", [1, 3])
def test_runs_take_at_most_the_estimate_and_at_least_half_of_it(tmp_path: Path, n_members: int):
    command = [sys.executable, "-m", "scopeworks.tests.train.peak", str(tmp_path), str(n_members)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout.splitlines()[-1])
    assert 0.5 * found["estimate"] < found["fresh"] < found["estimate"]
    # The second run of a process has the first one's workspace already, and no second copy of the
    # state while it is restored.
    assert found["resumed"] < found["fresh"]


def test_finished_members_are_not_counted(settings: Make, monkeypatch: pytest.MonkeyPatch):
    large, small = settings("large", width=4096), settings("small", width=64)
    run([large])
    needed = bytes_for([small], TrainingRows.open(small), CPU)
    monkeypatch.setattr(memory, "free_memory", lambda _device: needed)
    run([large, small])
    assert (small.out / "sae.safetensors").is_file()
    with pytest.raises(ValueError, match=r"memory must hold .* 2 SAE\(s\)"):
        run([settings("other", width=4096), settings("another", width=64)])


def test_width_that_is_said_to_fit_fits(settings: Make, monkeypatch: pytest.MonkeyPatch):
    one = settings(width=1 << 20)
    source = TrainingRows.open(one)
    free = bytes_for([settings(width=5000)], source, CPU)
    monkeypatch.setattr(memory, "free_memory", lambda _device: free)
    with pytest.raises(ValueError, match=r"got 0\.\d GiB free on cpu; a width of about 5000 would"):
        run([one])
    assert not one.out.exists()


def test_failed_allocation_says_what_was_needed(settings: Make, monkeypatch: pytest.MonkeyPatch):
    step = member_module.kernel_step
    left = bytes_for([settings(width=24)], TrainingRows.open(settings()), CPU)

    def failing(state, *arguments, **options):
        if state.n_updates == 10:
            monkeypatch.setattr(memory, "free_memory", lambda _device: left)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …")
        return step(state, *arguments, **options)

    monkeypatch.setattr(member_module, "kernel_step", failing)
    with pytest.raises(ValueError, match=r"memory must hold .*would fit; the newest checkpoints"):
        run([settings()])
    assert (settings().out / "checkpoints/step_000000007.safetensors").is_file()


def test_failed_allocation_of_a_run_that_fits_blames_no_width(
    settings: Make, monkeypatch: pytest.MonkeyPatch
):
    def failing(*_arguments, **_options):
        raise MemoryError("Unable to allocate 8 MiB")

    monkeypatch.setattr(member_module, "kernel_step", failing)
    one = settings()
    with pytest.raises(ValueError, match=r"width up to 48 .*, got a refusal.*limit") as raised:
        run([one])
    assert "would fit" not in str(raised.value)
    text = memory.memory_text([one], TrainingRows.open(one), CPU, error=MemoryError("no\nmore"))
    assert "got a refusal (MemoryError: no) although they take at most 0.0" in text


def test_other_runtime_errors_stay_what_they_are(settings: Make, monkeypatch: pytest.MonkeyPatch):
    def failing(*_arguments, **_options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(member_module, "kernel_step", failing)
    with pytest.raises(RuntimeError, match="a bug"):
        run([settings()])


def test_folding_leaves_the_parameters_alone_and_shares_the_decoder():
    parameters = initial_parameters(8, 8, 3000, seed=1)
    parameters.b_dec += 0.3
    before = parameters.clone()
    folded = fold(parameters, 2.0, 2.0, pre_bias=True)
    for (name, tensor), (_, old) in zip(parameters.items(), before.items(), strict=True):
        assert torch.equal(tensor, old), name
    assert folded["W_dec"].data_ptr() == parameters.W_dec.data_ptr()
    assert torch.equal(folded["W_enc"], parameters.W_enc)
