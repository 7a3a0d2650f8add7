"""int8 and rows that outgrow bucket 0: refused when written, warned of when read."""

from pathlib import Path

import pytest
import torch

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.tools.verify import verify_store
from scopeworks.store.write import saturation
from scopeworks.store.write.saturation import warn_of_saturation
from scopeworks.tests.store.making import fill, make_store, rows_of, spec_of

SPEC = spec_of(codec="int8")
SITE = "resid_post.1"


def louder(factor: float, start: int) -> dict[str, torch.Tensor]:
    """The usual rows, of one site larger from some row on."""
    rows = rows_of(SPEC)
    rows[SITE][start:] *= factor
    return rows


def write(url: Path, rows: dict[str, torch.Tensor], buckets: list[int]) -> None:
    with StoreWriter.open(url, SPEC) as writer:
        for bucket in buckets:
            fill(writer, rows, bucket)


@pytest.mark.parametrize("background", [False, True])
def test_a_bucket_that_int8_would_cut_is_refused_and_the_store_stays_valid(tmp_path, background):
    url, rows = tmp_path / "a", louder(50, 384)
    write(url, rows, [0, 1])
    message = (
        r"^codec must not cut more than 6\.2% of a bucket's values, got 9\d\.\d% in bucket 2, site"
        rf" {SITE}: .* with codec exact$"
    )
    with (
        pytest.raises(ValueError, match=message),
        StoreWriter.open(url, SPEC, background=background) as writer,
    ):
        fill(writer, rows, 2)
    assert ActivationStore.open(url).rows == 384
    assert verify_store(url).problems == []
    write(url, rows_of(SPEC), [2, 3])
    assert ActivationStore.open(url).complete


def test_rows_like_those_of_bucket_0_are_written_with_few_values_cut(tmp_path, capsys):
    made = make_store(tmp_path / "a", codec="int8", bucket_rows=320)
    store = ActivationStore.open(made.url)
    assert 0 < sum(store.saturated.values()) < 0.01 * store.rows * sum(store.sites.values())
    warn_of_saturation(made.url, store.commits, store.spec, store.sites)
    assert capsys.readouterr().err == ""


def test_a_store_of_cut_values_is_warned_of_wherever_it_is_read(tmp_path, capsys, monkeypatch):
    from typer.testing import CliRunner

    from scopeworks.store.cli import app
    from scopeworks.train.run.rows import TrainingRows
    from scopeworks.train.settings import TrainSettings

    with monkeypatch.context() as patch:
        patch.setattr(saturation, "MOST_SATURATED", 1.0)  # as earlier writers wrote it
        write(tmp_path / "a", louder(50, 384), [0, 1, 2, 3])
    warning = rf"warning: site {SITE} of store {tmp_path / 'a'}: int8 has cut 9"
    for command in ("info", "verify", "stats"):
        found = CliRunner().invoke(app, [command, str(tmp_path / "a")])
        assert found.exit_code == 0
        assert found.stderr.count(warning) == 1
        assert "mlp_out.0 of store" not in found.stderr
    for site, count in ((SITE, 1), ("mlp_out.0", 0)):
        settings = TrainSettings(
            store=str(tmp_path / "a"), site=site, out=tmp_path / "run", steps=10, batch=64,
            width=32, sparsity=1e-3, lr_warmup_steps=1, sparsity_warmup_steps=1,
        )  # fmt: skip
        TrainingRows.open(settings)
        assert capsys.readouterr().err.count(warning) == count


def test_rows_too_small_for_a_step_become_zero(tmp_path):
    rows = {site: torch.full_like(x, 1e-44) for site, x in rows_of(SPEC).items()}
    write(tmp_path / "a", rows, [0, 1, 2, 3])
    assert not ActivationStore.open(tmp_path / "a").read(SITE, 0, 700).any()
    assert verify_store(tmp_path / "a").problems == []
