"""The engine: determinism, sweeps equal to single runs, resuming, stopping, and refusals."""

import json
import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import torch

from scopeworks.store import ActivationStore
from scopeworks.store.tools.copy import copy_store
from scopeworks.train.run import backends as backends_module
from scopeworks.train.run import member as member_module
from scopeworks.train.run.rows import Batches, TrainingRows
from scopeworks.train.run.trainer import run
from scopeworks.train.sae.sae import SAE
from scopeworks.train.saved.checkpoint import Checkpoints
from scopeworks.train.saved.metrics import read_metrics
from scopeworks.train.settings import TrainSettings
from scopeworks.train.sweeps.sweep import sweep

from ..conftest import SITE, write_store

Make = Callable[..., TrainSettings]


def weights(folder: Path) -> bytes:
    """The trained file's bytes."""
    return (folder / "sae.safetensors").read_bytes()


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], None]) -> None:
    """Runs `action` before the update `step` of the next run."""
    update = member_module.Member.update

    def stopping(self: member_module.Member, *arguments: object):
        if self.step == step:
            action()
        return update(self, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(member_module.Member, "update", stopping)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours handles it."""


def kill() -> None:
    raise Killed


def test_trained_folder_holds_what_is_promised(settings: Make):
    (out,) = run([settings()])
    assert sorted(p.name for p in out.iterdir()) == [
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "sae.safetensors",
    ]
    record = json.loads((out / "config.json").read_text())
    assert record["settings"]["lr"] == 2e-3
    assert record["sae"]["site"] == SITE
    assert record["sae"]["model"] == "tiny"
    assert record["sae"]["model_fingerprint"] == "f00d"
    assert record["sae"]["model_dtype"] == "float32"
    lines = read_metrics(out)
    assert [line["step"] for line in lines] == [10, 20, 30]
    wanted = {"loss", "mse", "fvu", "l0", "dead_share", "theta_50", "lr", "sparsity"}
    assert wanted | {"rows_per_s", "waiting_share"} <= lines[0].keys()


def test_training_reduces_the_error(settings: Make):
    (out,) = run([settings(steps=150)])
    lines = read_metrics(out)
    assert lines[-1]["fvu"] < 0.5 * lines[0]["fvu"]


def test_measured_fvu_and_l0_agree_with_a_plain_computation(settings: Make, store_url: str):
    rows = 2048
    (out,) = run([settings(steps=32, measure_rows=rows)])  # one epoch, then the measured one
    sae = SAE.load(out)
    x = ActivationStore.open(store_url).read(SITE, 0, rows).double()
    f = sae.to(dtype=torch.float64).encode(x)
    error = (x - sae.to(dtype=torch.float64).decode(f)).square().sum(1).mean()
    variance = (x - x.mean(0)).square().sum(1).mean()
    # One epoch holds every row once, so the order in which the stream took them does not matter.
    assert sae.config.measured_rows == rows
    assert sae.config.l0 == pytest.approx(float((f > 0).sum(1).double().mean()), rel=1e-3)
    assert sae.config.fvu == pytest.approx(float(error / variance), rel=1e-4)


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(settings: Make):
    a, b, c = (run([settings(o, seed=s)])[0] for o, s in (("a", 0), ("b", 0), ("c", 1)))
    assert weights(a) == weights(b)
    assert weights(a) != weights(c)


# So wide and with so high a threshold that few latents fire: the sparse step, which settles the
# moments of idle latents only when they fire again.
SPARSE = {"width": 768, "theta_start": 0.7, "bandwidth": 0.02, "sparsity": 1e-4}


def test_sparse_steps_are_sparse(settings: Make):
    (out,) = run([settings(**SPARSE)])
    assert {line["path"] for line in read_metrics(out)} <= {"cpu/sparse", "cpu/screened"}
    assert 0 < read_metrics(out)[-1]["l0"] < 20


def test_each_member_equals_the_one_trained_alone(settings: Make):
    different = [
        {"sparsity": 1e-3},
        {"sparsity": 1e-2, "width": 32, "lr": 1e-3},
        {"seed": 3, "steps": 17},
        {"target_l0": 5.0},
        {"frequency_penalty": 2.0, "theta_form": "log"},
        SPARSE,
        SPARSE | {"seed": 1, "width": 700},
    ]
    together = run([settings(f"sweep/{i}", **d) for i, d in enumerate(different)])
    alone = [run([settings(f"alone{i}", **d)])[0] for i, d in enumerate(different)]
    assert [weights(a) for a in together] == [weights(b) for b in alone]
    assert len({weights(a) for a in together}) == len(different)


@pytest.mark.parametrize(
    "features",
    [
        {"target_l0": 6.0, "frequency_penalty": 1.0, "lr_decay_share": 0.5},
        SPARSE | {"sparsity_warmup_steps": 0},
    ],
    ids=["dense", "sparse"],
)
def test_killed_at_random_steps_and_resumed_gives_the_same_bytes(
    settings: Make, monkeypatch: pytest.MonkeyPatch, features: dict
):
    (whole,) = run([settings("whole", **features)])
    for step in random.Random(0).sample(range(1, 30), 10):
        out = f"killed{step}"
        with monkeypatch.context() as patch:
            stop_at(patch, step, kill)
            with pytest.raises(Killed):
                run([settings(out, **features)])
        (again,) = run([settings(out, **features)])
        assert weights(again) == weights(whole), f"killed at step {step}"
        assert untimed(again) == untimed(whole), f"killed at step {step}"


def untimed(folder: Path) -> list[dict]:
    """metrics.jsonl without what a clock has measured."""
    timings = {"rows_per_s", "waiting_share"}
    return [
        {name: value for name, value in line.items() if name not in timings}
        for line in read_metrics(folder)
    ]


def test_metrics_of_a_stopped_run_do_not_depend_on_where_it_stopped(
    settings: Make, monkeypatch: pytest.MonkeyPatch
):
    (whole,) = run([settings("whole", log_every=4)])
    one = settings("stopped", log_every=4, checkpoint_every=100)
    for step in (2, 13, 14, 26):
        with monkeypatch.context() as patch:
            stop_at(patch, step, lambda: os.kill(os.getpid(), signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                run([one])
    run([one])
    assert untimed(one.out) == untimed(whole)
    assert [line["step"] for line in untimed(whole)] == [4, 8, 12, 16, 20, 24, 28, 30]


def test_metrics_of_a_prolonged_run_are_those_of_the_longer_one(settings: Make):
    (longer,) = run([settings("longer", steps=40)])
    run([settings("shorter", steps=27)])
    assert [line["step"] for line in untimed(settings("shorter").out)] == [10, 20, 27]
    (again,) = run([settings("shorter", steps=40)], resume=True)
    assert untimed(again) == untimed(longer)


def test_run_killed_while_it_is_measured_keeps_its_last_line(
    settings: Make, monkeypatch: pytest.MonkeyPatch
):
    (whole,) = run([settings("whole", steps=27)])
    one = settings("killed", steps=27)
    with monkeypatch.context() as patch:
        patch.setattr(member_module, "measure", lambda *_: kill())
        with pytest.raises(Killed):
            run([one])
    run([one])
    assert untimed(one.out) == untimed(whole)


def test_members_at_different_steps_continue_together(
    settings: Make, monkeypatch: pytest.MonkeyPatch
):
    whole = run([settings("whole/a"), settings("whole/b", sparsity=1e-2)])
    run([settings("two/a")])  # done already
    with monkeypatch.context() as patch:
        stop_at(patch, 9, kill)
        with pytest.raises(Killed):
            run([settings("two/b", sparsity=1e-2)])
    again = run([settings("two/a"), settings("two/b", sparsity=1e-2)])
    assert [weights(p) for p in again] == [weights(p) for p in whole]


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_signal_writes_a_checkpoint_of_this_step(
    settings: Make,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    error: type[BaseException],
):
    (whole,) = run([settings("whole")])
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        stop_at(patch, 12, lambda: os.kill(os.getpid(), number))
        with pytest.raises(error):
            run([settings("stopped")])
    assert signal.getsignal(number) == before
    stopped = settings("stopped")
    assert (stopped.out / "checkpoints/step_000000013.safetensors").is_file()
    (again,) = run([stopped])
    assert weights(again) == weights(whole)


def test_finished_run_is_left_alone(settings: Make):
    (out,) = run([settings()])
    before = (out / "config.json").stat().st_mtime_ns
    run([settings()])
    assert (out / "config.json").stat().st_mtime_ns == before


def test_resume_with_more_steps_equals_the_longer_run(settings: Make):
    (longer,) = run([settings("longer", steps=40)])
    run([settings("shorter")])
    with pytest.raises(ValueError, match=r"steps: 30 → 40.*--resume"):
        run([settings("shorter", steps=40)])
    (again,) = run([settings("shorter", steps=40)], resume=True)
    assert weights(again) == weights(longer)


def test_checkpoints_at_a_url_survive_the_folder(settings: Make, tmp_path: Path):
    quick = {"sparsity_warmup_steps": 10}
    (whole,) = run([settings("whole", **quick)])
    url = f"memory://{tmp_path.name}/run"
    run([settings("a", checkpoints=url, steps=20, **quick)])
    (again,) = run([settings("b", checkpoints=url, **quick)], resume=True)
    assert weights(again) == weights(whole)


def test_remote_checkpoints_are_continued_after_a_kill_and_old_ones_go(
    settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (whole,) = run([settings("whole")])
    url = f"memory://{tmp_path.name}/killed"
    one = settings("a", checkpoints=url, storage_options={"skip_instance_cache": True})
    with monkeypatch.context() as patch:
        stop_at(patch, 23, kill)
        with pytest.raises(Killed):
            run([one])
    assert Checkpoints(url, keep=2).steps() == [14, 21]
    (again,) = run([one], resume=True)
    assert weights(again) == weights(whole)
    assert untimed(again) == untimed(whole)
    assert "skip_instance_cache" not in (one.out / "config.json").read_text()


def test_resume_without_checkpoints_at_the_url_is_refused(settings: Make, tmp_path: Path):
    one = settings(checkpoints=f"memory://{tmp_path.name}/none")
    with pytest.raises(ValueError, match=r"resume needs a run in .* or checkpoints in memory://"):
        run([one], resume=True)
    assert not one.out.exists()


def test_checkpoints_of_another_run_are_refused_before_the_folder_is_claimed(
    settings: Make, tmp_path: Path
):
    url = f"memory://{tmp_path.name}/taken"
    run([settings("a", checkpoints=url)])
    two = settings("b", checkpoints=url, lr=1e-3, width=32)
    with pytest.raises(ValueError, match=r"checkpoint .*lr: 0.002 → 0.001; width: 48 → 32"):
        run([two])
    assert not two.out.exists()


def test_kernel_that_cannot_run_is_refused_before_the_folder_is_claimed(
    settings: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    one = settings(backend="triton")
    with pytest.raises(ValueError, match=r"backend must be one of .* on cpu, got triton"):
        run([one])
    for backend in ("cpu/quick", "auto/sparse"):
        with pytest.raises(ValueError, match=r"backend must name a path of .* \(.*\), got"):
            run([settings(backend=backend)])
    monkeypatch.setattr(backends_module, "choose_backend", lambda _device: "reference")
    with pytest.raises(ValueError, match="encoder screened has no effect with backend reference"):
        run([settings(encoder="screened")])
    assert not one.out.exists()


def test_leftovers_of_killed_writes_go(settings: Make):
    one = settings(steps=4)
    run([one])
    (one.out / "sae.safetensors").unlink()  # as if it had been killed before the end
    folder = one.out / "checkpoints"
    leftovers = [one.out / ".config.json.0123456789ab.partial"]
    leftovers.append(folder / ".step_000000002.safetensors.0123456789ab.partial")
    for leftover in leftovers:
        leftover.write_text("half")
    run([one])
    assert not any(leftover.exists() for leftover in leftovers)


def test_transcoder_maps_one_site_to_another(settings: Make, store_url: str):
    sites = {"site": "transcoder_in.3", "target_site": "mlp_out.3"}
    (out,) = run([settings(steps=60, skip=True, **sites)])
    sae = SAE.load(out)
    assert (sae.config.d_in, sae.config.d_out) == (16, 8)
    assert sae.config.normaliser == pytest.approx(4.0)  # √16: the report divides by √n
    store = ActivationStore.open(store_url)
    x, y = (store.read(site, 0, 2048) for site in sites.values())
    error = (y - sae(x)).square().sum(1).mean()
    fvu = float(error / (y - y.mean(0)).square().sum(1).mean())
    assert sae.config.fvu == pytest.approx(fvu, rel=0.2)


def test_frequency_penalty_quietens_the_loudest_latents(settings: Make, store_url: str):
    x = ActivationStore.open(store_url).read(SITE, 0, 2048)

    def loud(out: Path) -> int:
        return int(((SAE.load(out).encode(x) > 0).float().mean(0) > 0.3).sum())

    free, priced = run(
        [
            settings("free", steps=200, sparsity=1e-3),
            settings(
                "priced", steps=200, sparsity=1e-3, frequency_penalty=100.0, frequency_limit=0.3
            ),
        ]
    )
    assert loud(free) >= 8
    assert loud(priced) < 0.7 * loud(free)


def test_options_of_other_settings_are_named(settings: Make):
    run([settings()])
    with pytest.raises(ValueError, match=r"lr: 0.002 → 0.001; seed: 0 → 4"):
        run([settings(lr=1e-3, seed=4)])


def test_checkpoint_of_another_store_is_refused(settings: Make, tmp_path: Path):
    other = write_store(tmp_path, {SITE: 16}, rows=1024)
    url = f"memory://{tmp_path.name}/elsewhere"
    run([settings("a", checkpoints=url)])
    with pytest.raises(ValueError, match=r"another store \(.*content: .*rows: 2048 → 1024"):
        run([settings("b", checkpoints=url, store=other)])


def test_folder_with_something_else_is_refused_and_untouched(settings: Make):
    one = settings()
    one.out.mkdir()
    (one.out / "thesis.txt").write_text("three years")
    with pytest.raises(ValueError, match=r"out must be empty or hold a training run.*thesis.txt"):
        run([one])
    assert [p.name for p in one.out.iterdir()] == ["thesis.txt"]


def test_run_killed_in_its_first_write_can_be_started_again(settings: Make):
    quick = settings(steps=4)
    quick.out.mkdir()
    (quick.out / ".config.json.0123456789ab.partial").write_text("{")
    run([quick])
    assert (quick.out / "sae.safetensors").is_file()


def test_sweep_that_is_refused_says_why_and_not_what_is_missing(settings: Make, tmp_path: Path):
    full = settings("full")
    full.out.mkdir()
    (full.out / "notes.txt").write_text("keep")
    with pytest.raises(ValueError, match=r"got .*full with notes\.txt"):
        sweep([full, settings("empty")], tmp_path)


def test_other_rows_under_the_same_names_are_another_store(tmp_path: Path, settings: Make):
    ones = write_store(tmp_path / "a", {SITE: 16})
    twos = write_store(
        tmp_path / "b", {SITE: 16}, values={SITE: ActivationStore.open(ones).read(SITE, 0, 2048)}
    )
    identities = [TrainingRows.open(settings(store=url)).identity() for url in (ones, twos)]
    assert identities[0]["rows"] == identities[1]["rows"]
    assert identities[0]["content"] != identities[1]["content"]


def test_store_that_is_still_harvested_is_used_with_a_word(
    tmp_path: Path, settings: Make, capsys: pytest.CaptureFixture[str]
):
    url = write_store(tmp_path, {SITE: 16})
    (tmp_path / "store" / "commits" / "00000003" / "zarr.json").unlink()
    assert TrainingRows.open(settings(store=url)).store.rows == 1536
    assert "training sees the 1,536 of 2,048 rows" in capsys.readouterr().err


def test_nothing_to_resume_is_an_error(settings: Make):
    with pytest.raises(ValueError, match="resume needs a run"):
        run([settings()], resume=True)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"site": "resid_post.9"}, r"site must be one of the store's \(mlp_out.3, .*resid_post.9"),
        ({"batch": 4096}, r"batch must be at most the 2048 rows"),
        ({"device": "cuda:7"}, r"device must be there, got cuda:7"),
        ({"store": "nowhere"}, r"no activation store at .*nowhere"),
        ({"width": 1 << 40}, r"memory must hold .* GiB.*a width of about \d+ would fit"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(settings: Make, overrides: dict, text: str):
    one = settings(**overrides)
    with pytest.raises((ValueError, OSError), match=text):
        run([one])
    assert not one.out.exists()


def test_sweep_members_that_clash_are_refused(settings: Make):
    with pytest.raises(ValueError, match="batch must be equal for all members"):
        run([settings("a"), settings("b", batch=32)])
    with pytest.raises(ValueError, match="shuffle_rows must be equal for all members"):
        run([settings("a"), settings("b", shuffle_rows=1)])
    with pytest.raises(ValueError, match="out must differ"):
        run([settings("a"), settings("a", seed=2)])


def test_nan_in_the_store_is_named_and_costs_no_update(
    settings: Make, monkeypatch: pytest.MonkeyPatch, store_url: str
):
    whole, found = Batches.whole, {}

    def with_nan(self: Batches, rows):
        x, target = whole(self, rows)
        if self.state()["row"] == 40 * 64:  # in the second epoch
            found["x"] = x[5].clone()
            x[5, 3] = float("nan")
        return x, target

    monkeypatch.setattr(Batches, "whole", with_nan)
    members = [settings("a", steps=50), settings("b", steps=50, seed=1)]
    with pytest.raises(ValueError, match=rf"site {SITE} of store .* must be finite") as caught:
        run(members)
    text = str(caught.value)
    numbers = re.search(r"row (\d+) \(sequence (\d+), position (\d+); row 5 of batch 39\)", text)
    assert numbers is not None, text
    row, sequence, position = map(int, numbers.groups())
    store = ActivationStore.open(store_url)
    torch.testing.assert_close(
        store.read(SITE, row, row + 1)[0], found["x"] * store.normaliser(SITE)
    )
    assert (sequence, position) == tuple(int(v[0]) for v in store.labels(row, row + 1)[1:])
    for member in members:  # named once for both, and both may go on from this very step
        assert str(member.out / "checkpoints/step_000000039.safetensors") in text
    assert text.count("must be finite") == 1


def test_diverging_member_does_not_stop_the_others(settings: Make):
    (alone,) = run([settings("alone")])
    with pytest.raises(ValueError, match=r"loss of .*wild must be finite.*last good checkpoint"):
        run([settings("wild", lr=1e30, lr_warmup_steps=0), settings("calm")])
    assert weights(settings("calm").out) == weights(alone)
    assert not (settings("wild").out / "sae.safetensors").exists()


def test_config_records_the_sparsity_that_was_in_force_at_the_end(settings: Make):
    fixed, steered = settings("fixed"), settings("steered", target_l0=4.0)
    run([fixed, steered])
    assert SAE.load(fixed.out).config.sparsity == fixed.sparsity
    assert SAE.load(steered.out).config.sparsity not in (None, steered.sparsity)


def test_a_remote_store_is_read_once_where_there_is_a_cache(
    settings: Make, monkeypatch: pytest.MonkeyPatch, store_url: str, tmp_path: Path
):
    objects, ranges = fsspec.filesystem("memory"), []
    for path in Path(store_url).rglob("*"):
        if path.is_file():
            objects.pipe_file(f"/{tmp_path.name}/{path.relative_to(store_url)}", path.read_bytes())
    plain = type(objects).cat_file

    def counted(self, path, start=None, end=None, **options):
        if start is not None and "/c/" in path:  # of shards, not of documents
            ranges.append(path)
        return plain(self, path, start, end, **options)

    monkeypatch.setattr(type(objects), "cat_file", counted)
    there = {"store": f"memory://{tmp_path.name}", "cache_dir": tmp_path / "cache"}
    (first,) = run([settings("a", **there)])
    assert len(ranges) == 4 + 32  # an index a shard, and every chunk once, over an epoch and more
    (second,) = run([settings("b", **there)])
    assert len(ranges) == 4 + 32
    (local,) = run([settings("c")])
    assert weights(first) == weights(second) == weights(local)


def test_rows_travel_to_a_gpu_as_they_are_stored(
    settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    source = TrainingRows.open(settings())
    assert source.stream_dtype(torch.device("cuda")) == "float32"  # as this store holds them
    copy_store(source.store.url, str(tmp_path / "exact"), codec="exact")
    source = TrainingRows.open(settings(store=str(tmp_path / "exact")))
    assert source.stream_dtype(torch.device("cuda")) == "bfloat16"
    assert source.stream_dtype(torch.device("cpu")) == "float32"
    batches = []
    for dtype in ("float32", "bfloat16"):
        monkeypatch.setattr(TrainingRows, "stream_dtype", lambda *_, dtype=dtype: dtype)
        with source.batches(None, torch.device("cpu")) as stream:
            batches.append([stream.whole(stream.read())[0] for _ in range(5)])
    for one, other in zip(*batches, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert torch.equal(one, other)


def test_run_goes_on_with_its_rows_when_the_store_has_grown(
    settings: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    url = write_store(tmp_path, {SITE: 16})
    (whole,) = run([settings("whole", store=url, steps=40)])
    one = settings("stopped", store=url, steps=40)
    with monkeypatch.context() as patch:
        stop_at(patch, 23, kill)
        with pytest.raises(Killed):
            run([one])
    write_store(tmp_path, {SITE: 16}, rows=3072)
    (again,) = run([one], resume=True)
    assert weights(again) == weights(whole)
    assert untimed(again) == untimed(whole)
    assert "has grown: the run goes on" in (said := capsys.readouterr().err)
    assert "2,048 of 3,072 rows" in said
    (new,) = run([settings("new", store=url, steps=40)])  # a new run sees all of them
    assert weights(new) != weights(whole)
