"""Ranks that share the rows of each batch: the SAE of one process to float32's rounding, the same
bits on all ranks, and one checkpoint that anybody continues."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from scopeworks.store.tools.copy import copy_store
from scopeworks.train.run.trainer import run
from scopeworks.train.sae.sae import SAE
from scopeworks.train.saved.checkpoint import Checkpoints
from scopeworks.train.saved.metrics import read_metrics
from scopeworks.train.settings import TrainSettings

from .processes import train
from .test_equal import CASES, fingerprint

Make = Callable[..., TrainSettings]
SPARSE = CASES["sparse"]


def close(one: TrainSettings, other: TrainSettings, tolerance: float = 2e-3) -> None:
    """Both runs end with the same SAE and metrics, to rounding that grew over the updates."""
    mine, theirs = (SAE.load(str(settings.out)) for settings in (one, other))
    for name in ("W_enc", "b_enc", "W_dec", "b_dec", "theta"):
        a, b = getattr(mine, name), getattr(theirs, name)
        assert float((a - b).norm()) <= tolerance * float(b.norm()), name
    lines = read_metrics(one.out), read_metrics(other.out)
    assert len(lines[0]) == len(lines[1]) > 0
    for line, wanted in zip(*lines, strict=True):
        assert line["path"] == wanted["path"]
        assert line["l0"] == pytest.approx(wanted["l0"], rel=tolerance)
        assert line["loss"] == pytest.approx(wanted["loss"], rel=tolerance)
        assert line["dead_share"] == wanted["dead_share"]


def used(settings: TrainSettings) -> dict[str, Any]:
    """What config.json says was used."""
    return json.loads((settings.out / "config.json").read_text())["used"]


def test_two_ranks_train_the_sae_of_one_and_leave_one_file(settings: Make):
    alone, two = settings("1", **SPARSE), settings("2", **SPARSE, parallel="rows")
    run([alone])
    train({2: [two]})
    close(two, alone)
    assert used(two)["ranks"] == 2 and used(two)["parallel"] == "rows: as asked for"
    assert not list(two.out.rglob("*.shards_*"))
    assert len(Checkpoints(two.checkpoint_place, keep=2).steps()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_train_the_saes_of_one(settings: Make, size: int):
    """With three ranks the batch of 64 has no equal blocks, and all read all rows."""
    several = {
        name: settings(f"{size}/{name}", **case, parallel="rows") for name, case in CASES.items()
    }
    train({size: list(several.values())})
    for name, case in CASES.items():
        alone = settings(f"1/{name}", **case)
        run([alone])
        close(several[name], alone)


@pytest.mark.slow
def test_rows_travel_as_the_store_holds_them(settings: Make, tmp_path):
    """bfloat16 over the wire changes no number: three ranks read all rows, four their own."""
    copy_store(str(settings().store), str(tmp_path / "exact"), codec="exact")
    exact = SPARSE | {"store": str(tmp_path / "exact")}
    alone = settings("1", **exact)
    run([alone])
    several = {size: settings(str(size), **exact, parallel="rows") for size in (3, 4)}
    train({size: [one] for size, one in several.items()})
    for one in several.values():
        close(one, alone)


@pytest.mark.slow
def test_a_run_goes_on_with_other_ranks_other_ways_and_alone(settings: Make):
    case = CASES["dense"] | {"checkpoint_every": 4, "lr_decay_share": 0.0}
    case |= {"lr_warmup_steps": 10, "sparsity_warmup_steps": 12}
    alone = settings("whole", **case)
    run([alone])
    ways = ((2, "rows", 13), (3, "latents", 17), (4, "rows", 21), (1, "auto", 25), (2, "rows", 30))
    one = alone
    for size, way, steps in ways:
        one = settings("moved", **case | {"steps": steps, "parallel": way})
        if size == 1:
            run([one], resume=True)
        else:
            train({size: [one]}, resume=steps > 13)
    close(one, alone)


@pytest.mark.slow
def test_runs_by_the_same_ranks_give_the_same_bits(settings: Make):
    twice = [settings(name, **SPARSE, parallel="rows") for name in ("a", "b")]
    train({3: twice})
    assert fingerprint(twice[0].out) == fingerprint(twice[1].out)


@pytest.mark.parametrize("way", ["rows", "latents"])
def test_a_way_without_ranks_has_no_effect(settings: Make, way: str):
    with pytest.raises(ValueError, match="parallel has no effect on a process alone; leave it out"):
        run([settings(parallel=way)])
