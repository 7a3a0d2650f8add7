"""Rows of any size give the same SAE in their own units; constant ones are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scopeworks.train.run import measure as measure_module
from scopeworks.train.run.rows import TrainingRows
from scopeworks.train.run.trainer import run
from scopeworks.train.sae.sae import SAE
from scopeworks.train.settings import TrainSettings

from ..conftest import SITE, sparse_rows, write_store

Make = Callable[..., TrainSettings]


def trained(settings: Make, folder: Path, scale: float) -> SAE:
    """The SAE of the same rows in other units."""
    url = write_store(folder, {SITE: 16}, values={SITE: sparse_rows(2048, 16, seed=0) * scale})
    (out,) = run([settings(str(folder / "run"), store=url)])
    return SAE.load(out)


@pytest.mark.parametrize("power", [-96, 96])
def test_units_of_a_power_of_two_change_no_bit(settings: Make, tmp_path: Path, power: int):
    one, other = (trained(settings, tmp_path / str(p), 2.0**p) for p in (0, power))
    assert torch.equal(one.W_enc, other.W_enc)
    assert torch.equal(one.W_dec, other.W_dec)
    assert torch.equal(one.theta * 2.0**power, other.theta)
    assert (one.config.l0, one.config.fvu) == (other.config.l0, other.config.fvu)


@pytest.mark.parametrize("scale", [1e-30, 1e-24, 1e-12, 1e12, 1e19, 1e30])
def test_units_change_neither_fvu_nor_l0(settings: Make, tmp_path: Path, scale: float):
    one, other = (trained(settings, tmp_path / str(s), s) for s in (1.0, scale))
    assert other.config.fvu == pytest.approx(one.config.fvu, rel=1e-2)
    assert other.config.l0 == pytest.approx(one.config.l0, rel=1e-2)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 75.0, 1e30])
def test_constant_rows_are_refused_before_anything_is_written(
    settings: Make, tmp_path: Path, size: float
):
    row = torch.randn(16, generator=torch.Generator().manual_seed(0)) * size
    url = write_store(tmp_path, {SITE: 16}, values={SITE: row.repeat(2048, 1)})
    one = settings(store=url)
    with pytest.raises(ValueError, match=rf"site {SITE} of store .* must vary, got the same row"):
        run([one])
    assert not one.out.exists()


def test_transcoder_of_a_constant_input_is_refused(settings: Make, tmp_path: Path):
    url = write_store(
        tmp_path,
        {"transcoder_in.3": 16, "mlp_out.3": 8},
        values={"transcoder_in.3": torch.ones(2048, 16)},
    )
    with pytest.raises(ValueError, match=r"site transcoder_in\.3 of store .* must vary"):
        run([settings(store=url, site="transcoder_in.3", target_site="mlp_out.3")])


def test_normaliser_that_leaves_rows_far_from_one_is_refused(settings: Make, tmp_path: Path):
    url = write_store(tmp_path, {SITE: 16}, values={SITE: sparse_rows(2048, 16, 0) * 1e-24})
    with pytest.raises(ValueError, match=r"normaliser must bring .*; pass --set normaliser=measur"):
        run([settings(store=url, normaliser="sqrt_width")])


def test_start_at_the_mean_is_the_mean_of_the_scaled_target(settings: Make, tmp_path: Path):
    values = {SITE: sparse_rows(2048, 16, 0) + 100 * torch.eye(16)[3]}
    url = write_store(tmp_path, {SITE: 16}, values=values)
    zero, mean = settings("zero", store=url), settings("mean", store=url, b_dec_start="mean")
    source = TrainingRows.open(mean)
    expected = values[SITE].double().mean(0) / values[SITE].double().square().sum(1).mean().sqrt()
    torch.testing.assert_close(source.target_mean(), expected)
    from_zero, from_mean = (SAE.load(out).config.fvu or 0 for out in run([zero, mean]))
    assert 0 < from_mean < 0.5 * from_zero


def test_measure_names_a_reconstruction_that_is_not_finite(
    settings: Make, monkeypatch: pytest.MonkeyPatch
):
    one = settings()
    monkeypatch.setattr(measure_module, "_reconstructed", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(ValueError, match=r"loss of .* must be finite, got a squared error of inf"):
        run([one])
    assert not (one.out / "sae.safetensors").exists()
