"""What is trained does not depend on how many ranks train it: bytes of the SAE, metrics, and the
tensors of checkpoints."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scopeworks.train.run.trainer import run
from scopeworks.train.saved.checkpoint import Checkpoints
from scopeworks.train.saved.metrics import read_metrics
from scopeworks.train.settings import TrainSettings

from .processes import train

Make = Callable[..., TrainSettings]

TIMINGS = {"rows_per_s", "waiting_share"}
SPARSE = {"width": 768, "theta_start": 0.7, "bandwidth": 0.02, "sparsity": 1e-4}
TRANSCODER = {"site": "transcoder_in.3", "target_site": "mlp_out.3"}
CASES = {
    "dense": {"width": 701, "target_l0": 6.0, "frequency_penalty": 2.0, "lr_decay_share": 0.5},
    "sparse": SPARSE | {"checkpoint_every": 11, "b_dec_start": "mean"},
    "log": SPARSE | {"width": 900, "theta_form": "log", "frequency_penalty": 1.0},
    "quadratic": {"width": 41, "target_l0": 6.0, "penalty": "quadratic"},
    "transcoder": TRANSCODER | {"width": 300, "theta_start": 0.4},
    "skip": TRANSCODER | {"width": 300, "skip": True, "encoder": "bfloat16"},
    "triton": {"width": 40, "backend": "triton/sparse", "steps": 4, "batch": 16},
    "triton-screened": {"width": 40, "backend": "triton/screened", "steps": 4, "batch": 16},
    "triton-dense": {"width": 40, "backend": "triton/dense", "steps": 4, "batch": 16},
}


def fingerprint(out: Path) -> dict[str, object]:
    """What must be equal, and what was measured."""
    folder = Checkpoints(str(out / "checkpoints"), keep=2)
    tensors = hashlib.sha256()
    for step in folder.steps():
        for name, tensor in sorted(folder.load(step).tensors.items()):
            tensors.update(f"{step} {name} {list(tensor.shape)}".encode())
            tensors.update(tensor.contiguous().numpy().tobytes())
    lines = [{k: v for k, v in line.items() if k not in TIMINGS} for line in read_metrics(out)]
    assert lines and folder.steps()
    return {
        "sae": hashlib.sha256((out / "sae.safetensors").read_bytes()).hexdigest(),
        "metrics": lines,
        "checkpoints": tensors.hexdigest(),
        "measured": json.loads((out / "config.json").read_text())["sae"],
    }


def test_two_and_three_ranks_train_the_sae_of_one(settings: Make):
    (alone,) = run([settings("1", **CASES["sparse"])])
    several = {size: settings(str(size), **CASES["sparse"]) for size in (2, 3)}
    train({size: [one] for size, one in several.items()})
    for size, one in several.items():
        assert fingerprint(one.out) == fingerprint(alone), f"{size} ranks"
        assert len(list(one.out.rglob("*.shards_*"))) == 2 * size


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_ranks_train_the_saes_of_one(settings: Make, size: int):
    cases = CASES
    if size == 8:
        cases = {name: case for name, case in CASES.items() if name in ("dense", "sparse", "skip")}
    several = {name: settings(f"{size}/{name}", **case) for name, case in cases.items()}
    train({size: list(several.values())})
    for name, case in cases.items():
        (alone,) = run([settings(f"1/{name}", **case)])
        assert fingerprint(several[name].out) == fingerprint(alone), name


@pytest.mark.slow
def test_ranks_of_many_shards_train_the_sae_of_one(settings: Make):
    """64 shards: a rank of five has up to six subtrees."""
    wide = SPARSE | {"width": 65_536, "steps": 3, "batch": 32, "measure_rows": 32}
    (alone,) = run([settings("1", **wide)])
    one = settings("5", **wide)
    train({5: [one]})
    assert fingerprint(one.out) == fingerprint(alone)


@pytest.mark.slow
def test_a_run_goes_on_with_other_numbers_of_ranks(settings: Make):
    case = CASES["dense"] | {"checkpoint_every": 4, "lr_decay_share": 0.0}
    case |= {"lr_warmup_steps": 10, "sparsity_warmup_steps": 12}
    (alone,) = run([settings("whole", **case)])
    expected = fingerprint(alone)
    for size, steps in ((1, 13), (4, 17), (2, 21), (3, 26), (1, 30)):
        one = settings("moved", **case | {"steps": steps})
        if size == 1:
            run([one], resume=steps > 13)
        else:
            train({size: [one]}, resume=True)
    assert fingerprint(one.out)["sae"] == expected["sae"]
    assert fingerprint(one.out)["metrics"] == expected["metrics"]
