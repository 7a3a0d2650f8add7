"""What is checked before groups are sent out."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from scopeworks.store.place.ownership import owned
from scopeworks.train.run.trainer import run
from scopeworks.train.settings import TrainSettings
from scopeworks.train.sweeps.prepare import prepared, sent, worker_bytes_of

Make = Callable[..., TrainSettings]
KIND = {"device": "cpu", "numba": "0.61"}


def worker(**changes: Any) -> dict[str, Any]:
    return {"place": ["a", "cpu", None], "kind": KIND, "free": 100} | changes


def test_workers_of_one_place_share_its_memory():
    elsewhere = worker(place=["b", "cpu", None], free=60)
    assert worker_bytes_of({"1": worker()}) == 100
    assert worker_bytes_of({"1": worker(), "2": worker(free=90), "3": elsewhere}) == 45
    assert worker_bytes_of({"1": worker(), "3": elsewhere}) == 60


def test_workers_whose_bits_would_differ_are_refused():
    for name, value in {"device": "cuda", "numba": "0.62"}.items():
        text = rf"the one at 2 has {name}: '{KIND[name]}' → '{value}'; name a device"
        with pytest.raises(ValueError, match=text):
            worker_bytes_of({"1": worker(), "2": worker(kind=KIND | {name: value})})


def test_finished_members_are_left_out_and_paths_mean_the_same_everywhere(
    settings: Make, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done, new = settings("done"), settings("new", recipe="auto", checkpoints="c")
    new = new.model_copy(update={"out": new.out.relative_to(tmp_path)})
    run([done])
    ((found,),) = prepared([[done, new]], resume=False, wait=False)
    assert (found.given, found.settings.out, found.step) == (new, tmp_path / "new", 0)
    assert found.settings.checkpoints == str(tmp_path / "c")
    again = TrainSettings.model_validate(json.loads(json.dumps(sent(found.settings))))
    assert again.resolved_for(16).identity() == new.resolved_for(16).identity()
    assert not (tmp_path / "new").exists()


def test_a_folder_that_another_process_owns_is_refused(settings: Make):
    one = settings("a")
    with owned(one.out), pytest.raises(ValueError, match="out must be of one run at a time"):
        prepared([[one]], resume=False, wait=False)


def test_a_folder_of_two_members_is_refused(settings: Make):
    with pytest.raises(ValueError, match="out must differ between the members of a sweep"):
        prepared([[settings("a")], [settings("a", batch=32)]], resume=False, wait=False)
