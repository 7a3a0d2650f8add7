"""Rows from several stores: the same run as from one, bit for bit, and what is said of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scopeworks.store import ActivationStore
from scopeworks.store.tools.copy import copy_store
from scopeworks.train.run.memory import bytes_for
from scopeworks.train.run.rows import TrainingRows
from scopeworks.train.run.trainer import run
from scopeworks.train.settings import TrainSettings

from ..conftest import sparse_rows, write_store

Make = Callable[..., TrainSettings]
WIDTHS = {"transcoder_in.3": 16, "mlp_out.3": 8}
TRANSCODER = {"site": "transcoder_in.3", "target_site": "mlp_out.3"}


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A store of both sites, and one of each."""
    folder = tmp_path_factory.mktemp("stores")
    values = {site: sparse_rows(2048, d, seed=d) for site, d in WIDTHS.items()}
    found = {"both": write_store(folder / "both", WIDTHS, values=values)}
    for site, d in WIDTHS.items():
        found[site] = write_store(folder / site, {site: d}, values={site: values[site]})
    return found


def weights(folder: Path) -> bytes:
    return (folder / "sae.safetensors").read_bytes()


def test_a_transcoder_from_two_stores_equals_one_from_one(settings: Make, urls: dict[str, str]):
    pair = [urls["mlp_out.3"], urls["transcoder_in.3"]]
    (one,) = run([settings("one", store=urls["both"], **TRANSCODER)])
    (two,) = run([settings("two", store=pair, **TRANSCODER)])
    assert weights(one) == weights(two)


def test_a_run_goes_on_from_one_store_to_two_and_back(settings: Make, urls: dict[str, str]):
    """The rows are the same bytes: a run's identity does not say how many stores they are in."""
    pair = [urls["transcoder_in.3"], urls["mlp_out.3"]]
    steady = TRANSCODER | {"lr_warmup_steps": 9, "sparsity_warmup_steps": 9}
    (whole,) = run([settings("whole", store=pair, **steady)])
    for steps, store in ((10, urls["both"]), (20, pair), (30, urls["both"])):
        (parts,) = run([settings("parts", store=store, steps=steps, **steady)], resume=steps > 10)
    assert weights(parts) == weights(whole)


def test_other_codecs_are_read_each_in_its_own(
    settings: Make, urls: dict[str, str], tmp_path: Path
):
    copy_store(urls["mlp_out.3"], str(tmp_path / "exact"), codec="exact", chunk_rows=128)
    pair = [urls["transcoder_in.3"], str(tmp_path / "exact")]
    source = TrainingRows.open(settings(store=pair, **TRANSCODER))
    alone = ActivationStore.open(tmp_path / "exact")
    assert source.store.layout("mlp_out.3").chunk_rows == 128
    assert source.store.spec.chunk_rows == 64
    assert source.store.normaliser("mlp_out.3") == alone.normaliser("mlp_out.3")
    one = settings(store=urls["both"], **TRANSCODER)
    smaller = bytes_for([one], TrainingRows.open(one), torch.device("cpu"))
    assert bytes_for([one], source, torch.device("cpu")) > smaller


def test_rows_in_the_order_of_their_sequences_train_another_sae_of_the_same_rows(settings: Make):
    steady = {"lr_warmup_steps": 9, "sparsity_warmup_steps": 9}
    (usual,) = run([settings("usual", steps=20, **steady)])
    (ordered,) = run([settings("ordered", steps=20, shuffle_rows=1, **steady)])
    assert weights(usual) != weights(ordered)
    run([settings("parts", steps=10, shuffle_rows=1, **steady)])
    (parts,) = run([settings("parts", steps=20, shuffle_rows=1, **steady)], resume=True)
    assert weights(parts) == weights(ordered)
    with pytest.raises(ValueError, match="shuffle_rows: 1 → None"):
        run([settings("parts", steps=30, **steady)], resume=True)


def test_rows_that_stay_in_memory_are_counted(settings: Make):
    source, one = TrainingRows.open(settings()), settings(shuffle_rows=1)
    kept = bytes_for([one], source, torch.device("cpu"))
    kept -= bytes_for([settings()], source, torch.device("cpu"))
    assert kept < 4 * source.store.rows * source.d_in * 1.1


def test_other_computing_is_said(
    settings: Make, urls: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = write_store(tmp_path, {"mlp_out.3": 8}, dtype="bfloat16")
    TrainingRows.open(settings(store=[urls["transcoder_in.3"], other], **TRANSCODER))
    said = capsys.readouterr().err
    assert said.startswith(f"note: stores {other} and {urls['transcoder_in.3']} were computed diff")
    assert "(dtype: 'bfloat16' → 'float32')" in said


def test_a_site_in_two_stores_is_refused(settings: Make, urls: dict[str, str], tmp_path: Path):
    other = write_store(tmp_path, {"mlp_out.3": 8}, rows=1024)
    source = TrainingRows.open(settings(store=[urls["transcoder_in.3"], other], **TRANSCODER))
    assert source.store.rows == 1024
    with pytest.raises(ValueError, match=r"site mlp_out\.3 must be in one of the stores"):
        TrainingRows.open(settings(store=[urls["both"], other], **TRANSCODER))
