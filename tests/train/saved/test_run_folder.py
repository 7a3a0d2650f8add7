"""Finished means checked, and what is recorded is what was used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from scopeworks.train.cli import described
from scopeworks.train.run import member as member_module
from scopeworks.train.run.trainer import run
from scopeworks.train.sae.sae import SAE
from scopeworks.train.saved.metrics import read_metrics
from scopeworks.train.settings import TrainSettings
from scopeworks.train.sweeps.sweep import sweep

Make = Callable[..., TrainSettings]
WEIGHTS = "sae.safetensors"


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def other_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def other_shapes(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"[16,48]", b"[48,16]"))


def another_tensor(path: Path) -> None:
    tensors = load_file(path)
    save_file(tensors | {"extra": tensors["b_enc"].clone()}, path)


def gone(path: Path) -> None:
    path.unlink()


DAMAGES = [empty, cut, longer, other_header, other_shapes, another_tensor, gone]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_made_again_from_the_checkpoint(
    settings: Make, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
):
    (out,) = run([settings()])
    whole, lines = (out / WEIGHTS).read_bytes(), (out / "metrics.jsonl").read_bytes()
    damage(out / WEIGHTS)
    run([settings()])
    assert (out / WEIGHTS).read_bytes() == whole
    assert (out / "metrics.jsonl").read_bytes() == lines
    assert "sae.safetensors is damaged" in capsys.readouterr().err


def test_damaged_weights_without_a_checkpoint_are_an_error(settings: Make):
    (out,) = run([settings()])
    for path in (out / "checkpoints").iterdir():
        path.unlink()
    empty(out / WEIGHTS)
    with pytest.raises(
        ValueError, match=r"sae.safetensors is damaged .*; remove .* to train again"
    ):
        run([settings()])
    assert (out / WEIGHTS).read_bytes() == b""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"settings": {}, "sae": null}',
        '{"settings": {"steps": -1}, "sae": null}',
        '{"settings": {"steps": NaN}, "sae": null}',
        '{"settings": {"steps": 1e999}, "sae": null}',
        '{"settings": [], "sae": null}',
        '{"settings": {"steps": 30}, "sae": 7}',
        "[" * 100_000,
        "\x00\xff",
    ],
)
def test_config_of_something_else_is_refused_in_one_line(settings: Make, text: str):
    one = settings()
    one.out.mkdir()
    (one.out / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"out must be empty or hold a training run.*config.json"):
        run([one])
    assert (one.out / "config.json").read_text(encoding="utf-8") == text


def test_config_and_metrics_record_the_last_update(settings: Make):
    ramps = {"lr_decay_share": 0.5, "lr_warmup_steps": 10}
    fixed, steered = settings("fixed", **ramps), settings("steered", target_l0=4.0, **ramps)
    for out in run([fixed, steered]):
        record, last = json.loads((out / "config.json").read_text()), read_metrics(out)[-1]
        used = record["used"]
        assert used["lr"] == last["lr"] == pytest.approx(2e-3 / 15)
        assert record["sae"]["sparsity"] == used["sparsity"] == last["sparsity"]
        assert (used["backend"], used["device"], used["normaliser"]) == ("cpu", "cpu", "measured")
        assert used["path"] == last["path"]
        assert used["encoder"] in ("float32", "screened")
    assert json.loads((fixed.out / "config.json").read_text())["used"]["sparsity"] == 3e-3


def test_what_was_used_survives_a_kill_before_the_end(
    settings: Make, monkeypatch: pytest.MonkeyPatch
):
    (whole,) = run([settings("whole", target_l0=4.0)])
    with monkeypatch.context() as patch:
        patch.setattr(member_module, "measure", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run([settings("killed", target_l0=4.0)])
    (again,) = run([settings("killed", target_l0=4.0)])
    one, other = (json.loads((out / "config.json").read_text()) for out in (whole, again))
    assert one["used"] == other["used"]
    assert one["sae"] == other["sae"]


def test_missed_target_is_said_in_config_table_and_line(
    settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    members = [settings("s/missed", target_l0=40.0), settings("s/given")]
    missed, given = sweep(members, tmp_path / "s")
    config = SAE.load(missed).config
    assert config.l0 is not None
    assert config.target_l0 == 40.0
    assert config.l0_off_target == pytest.approx(config.l0 / 40 - 1)
    remark = f"{config.l0 / 40 - 1:+.0%} off the target 40"
    assert remark in described(missed)
    assert remark in capsys.readouterr().err
    (row,) = [
        r for r in json.loads((tmp_path / "s/sweep.json").read_text())["members"] if r["missed"]
    ]
    assert (row["name"], row["missed"]) == ("missed", remark)
    assert "off the target" not in described(given)


def test_target_that_was_met_is_not_remarked(settings: Make):
    config = SAE.load(run([settings()])[0]).config
    met = config.model_copy(update={"target_l0": 10.0, "l0_off_target": 0.049})
    assert met.missed == ""
    assert met.model_copy(update={"l0_off_target": -0.06}).missed == "-6% off the target 10"


def test_metrics_outlive_the_folder_beside_checkpoints_elsewhere(
    settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    place = {"checkpoints": f"memory://{tmp_path.name}/kept", "log_every": 1}
    (whole,) = run([settings("whole", log_every=1)])
    update = member_module.Member.update

    def killed(self: member_module.Member, *arguments: Any):
        if self.step == 23:
            raise KeyboardInterrupt
        return update(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(member_module.Member, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            run([settings("lost", **place)])
    (again,) = run([settings("found", **place)], resume=True)
    steps = [line["step"] for line in read_metrics(again)]
    assert steps == [line["step"] for line in read_metrics(whole)] == list(range(1, 31))


def test_damaged_line_of_the_metrics_is_named(settings: Make):
    (out,) = run([settings()])
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text(lines[0] + "\0\0\0\n" + lines[2])
    with pytest.raises(ValueError, match=r"metrics.jsonl line 2 is not valid JSON"):
        read_metrics(out)


def test_setting_that_did_not_exist_yet_had_its_default(settings: Make):
    (out,) = run([settings()])
    record = json.loads((out / "config.json").read_text())
    del record["settings"]["b_dec_start"]
    (out / "config.json").write_text(json.dumps(record))
    run([settings()])
    with pytest.raises(ValueError, match="b_dec_start: 'zero' → 'mean'"):
        run([settings(b_dec_start="mean")])


def test_parameters_that_are_not_finite_are_no_checkpoint(
    settings: Make, monkeypatch: pytest.MonkeyPatch
):
    step = member_module.kernel_step

    def poisoned(state: Any, *arguments: Any, **options: Any):
        result = step(state, *arguments, **options)
        if state.n_updates == 30:  # the last one: no later loss would tell
            state.parameters.b_dec[3] = float("nan")
        return result

    monkeypatch.setattr(member_module, "kernel_step", poisoned)
    one = settings()
    with pytest.raises(ValueError, match=r"got parameters with NaN .*last good .*step_000000028"):
        run([one])
    assert not (one.out / WEIGHTS).exists()
    assert [p.name for p in sorted((one.out / "checkpoints").iterdir())][-1].endswith(
        "28.safetensors"
    )


def test_nothing_is_written_before_all_is_checked(settings: Make, monkeypatch: pytest.MonkeyPatch):
    one = settings(wandb_project="p")
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ValueError, match="WANDB_MODE must be one of online, offline"):
        run([one])
    assert not one.out.exists()
