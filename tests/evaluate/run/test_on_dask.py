"""SAEs spread over Dask workers: the same evaluation, byte for byte."""

import os
import signal
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from scopeworks.evaluate.run import evaluate_saes, evaluation, on_dask
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.store import TokenStore
from scopeworks.tests.evaluate.saes import random_sae

SITES = ["resid_post.1", "mlp_out.2", "resid_post.1", "attn_out.0"]


@pytest.fixture
def given(model_dir, tokens_url, tmp_path) -> dict[str, Any]:
    """Settings of an evaluation of four SAEs of three sites."""
    paths = []
    for i, site in enumerate(SITES):
        random_sae(site, seed=i).save(tmp_path / f"sae{i}")
        paths.append(tmp_path / f"sae{i}")
    return {"sae": paths, "model": str(model_dir), "tokens": tokens_url, "dtype": "float32"} | {
        "top_latents": 2,
        "out": tmp_path / "e.json",
    }


def written(given: dict[str, Any], dask: str | None = None) -> bytes:
    """The bytes of the evaluation."""
    settings = EvaluateSettings(**given, dask=dask)
    settings.out.unlink(missing_ok=True)
    evaluate_saes(settings)
    return settings.out.read_bytes()


@pytest.fixture
def scheduler():
    """The address of a scheduler with two workers in this process."""
    from distributed import LocalCluster

    on_dask._job_here.cache_clear()
    local: Any = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    )
    with local:
        yield local.scheduler_address


def test_two_workers_write_what_one_process_writes(given, scheduler, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given["sae"] = [Path(path.name) for path in given["sae"]]  # as a person names them
    alone = written(given)
    assert written(given, scheduler) == alone


def test_subsets_are_spread_too(given, scheduler, ids, tmp_path):
    given["tokens"] = str(tmp_path / "parts")
    parts = {"held_out.math": ids.numpy()[:2], "held_out.code": ids.numpy()[2:]}
    store = TokenStore.create(given["tokens"], context=11, bos=2, eos=1, pad=0)
    store.write({"held_out": ids.numpy(), **parts})
    given |= {"subsets": True, "importance": True}
    assert written(given, scheduler) == written(given)


def test_an_sae_that_a_worker_refuses_is_one_error(given, scheduler, tmp_path):
    sae = random_sae("resid_post.1")
    sae.W_dec.fill_(1e38)
    sae.save(tmp_path / "sae1")
    with pytest.raises(ValueError, match="SAE sae1 must give finite reconstructions"):
        written(given, scheduler)
    assert not given["out"].exists()


def test_a_worker_with_another_model_is_refused(given, scheduler, monkeypatch):
    real = on_dask.EvaluationJob.facts
    monkeypatch.setattr(
        on_dask.EvaluationJob,
        "facts",
        lambda job: real(job) | {"tokens": real(job)["tokens"] | {"n_sequences": id(job)}},
    )
    with pytest.raises(ValueError, match="every worker must have the same model and tokens"):
        written(given, scheduler)


def test_each_local_worker_has_its_share_of_the_memory(given, monkeypatch):
    bounds = []

    def measured(settings, items, facts, most_bytes):
        bounds.append(most_bytes)
        raise ValueError("enough")

    monkeypatch.setattr(evaluation, "free_memory", lambda _device: 12_000)
    monkeypatch.setattr(evaluation, "measured_on_dask", measured)
    for dask in ("local:3", "tcp://127.0.0.1:1"):
        with pytest.raises(ValueError, match="enough"):
            written(given, dask)
    assert bounds == [2_000, None]


def test_groups_of_workers_are_bounded_too(given, scheduler, monkeypatch):
    alone, real = written(given), evaluation.measured_on_dask
    groups = []

    def bounded(settings, items, facts, _most_bytes):
        figures, seconds = real(settings, items, facts, 1)
        groups.extend(figures)
        return figures, seconds

    monkeypatch.setattr(evaluation, "measured_on_dask", bounded)
    assert written(given, scheduler) == alone
    assert sorted(groups) == [(0,), (1,), (2,), (3,)]


def test_dask_must_name_a_cluster(given):
    with pytest.raises(ValueError, match="dask must be local:N"):
        written(given, "nowhere")


@pytest.mark.slow
def test_a_group_whose_worker_died_is_measured_by_another(given):
    from distributed import Client, LocalCluster

    alone = written(given)
    local: Any = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with local, Client(local) as found:
        client: Any = found
        pids = list(client.run(os.getpid).values())
        killed = Timer(2.0, os.kill, [pids[0], signal.SIGKILL])
        killed.start()
        assert written(given, local.scheduler_address) == alone
        killed.join()
        assert pids[0] not in client.run(os.getpid).values()


@pytest.mark.slow
def test_processes_with_other_thread_counts_write_the_same(given):
    assert written(given, "local:2") == written(given)
