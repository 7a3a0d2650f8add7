"""The dry run: its counts against the harvest itself and against counted operations."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scopeworks.harvest.model.hooks import forward_until
from scopeworks.harvest.rows.bucket_job import BucketHarvester
from scopeworks.harvest.rows.estimate import estimate_harvest, flops_per_token
from scopeworks.harvest.rows.prepare import prepare
from scopeworks.harvest.rows.run import harvest_rows
from scopeworks.harvest.settings import HarvestSettings
from scopeworks.harvest.tokens.run import TokenizeSettings, tokenize_text
from scopeworks.store.format.chunks.codecs import PRESETS


@pytest.fixture(scope="module")
def tokens_dir(model_dir, tmp_path_factory):
    folder, out = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("out") / "tokens"
    (folder / "a.txt").write_text("".join(f"line {i}, of many\n" for i in range(200)))
    tokenize_text(
        TokenizeSettings(
            model=str(model_dir), text=[str(folder)], out=str(out), context=48, held_out=0.0
        )
    )
    return out


def settings(model_dir, tokens_dir, store, *sites, **changes) -> HarvestSettings:
    return HarvestSettings(
        model=str(model_dir),
        tokens=str(tokens_dir),
        store=str(store),
        site=list(sites),
        device="cpu",
        batch_sequences=4,
        **changes,
    )


@pytest.mark.parametrize("codec", list(PRESETS))
def test_estimate_is_near_what_the_harvest_writes_and_writes_nothing(
    model_dir, tokens_dir, tmp_path, codec
):
    store = tmp_path / "store"
    wanted = settings(model_dir, tokens_dir, store, "resid_post.1", "attn_out.2", codec=codec)
    expected = estimate_harvest(wanted)
    assert estimate_harvest(**wanted.model_dump()).site_bytes.keys() == expected.site_bytes.keys()
    assert list(tmp_path.iterdir()) == []
    spec = harvest_rows(wanted).spec
    assert (expected.rows, expected.hours > 0) == (spec.rows, True)
    for site, size in expected.site_bytes[codec].items():
        written = sum(p.stat().st_size for p in (store / "sites" / site / "c").rglob("0"))
        # In so small a store the last chunks, padded, are a sixth of what fast writes.
        assert size == pytest.approx(written, rel=0.2 if codec == "fast" else 0.15)


@pytest.mark.parametrize(
    "site", ["attn_out.2", "transcoder_in.1", "mlp_in.1", "mlp_out.0", "resid_post.3"]
)
def test_flops_are_those_that_torch_counts(model_dir, tokens_dir, tmp_path, site):
    job, _ = prepare(settings(model_dir, tokens_dir, tmp_path / "store", site, dtype="float32"))
    ids = torch.from_numpy(np.asarray(job.sequences[:2]).astype(np.int64))
    with FlopCounterMode(display=False) as counter:
        forward_until(job.model, ids, job.sites)
    counted = counter.get_total_flops() / ids.numel()
    assert flops_per_token(job, 48) == pytest.approx(counted, rel=0.01)


class SlowModel:
    """A clock that only the model's work moves: so many seconds a token, and 2 s at the start."""

    def __init__(self, monkeypatch, seconds_per_token):
        self.now, self.passes, self.seconds_per_token = 0.0, 0, seconds_per_token
        plain = BucketHarvester.forward

        def forward(job, block, buffers=None):
            self.now += 2.0 * (self.passes == 0) + seconds_per_token * block.tokens.size
            self.passes += 1
            return plain(job, block, buffers)

        monkeypatch.setattr("scopeworks.harvest.rows.estimate.time.perf_counter", lambda: self.now)
        monkeypatch.setattr(BucketHarvester, "forward", forward)


@pytest.mark.parametrize("rows", [300, None])
@pytest.mark.parametrize("seconds_per_token", [1e-5, 0.003, 0.04, 0.1, 0.3])
def test_estimate_takes_20_s_or_a_tenth_of_the_harvest(
    model_dir, tokens_dir, tmp_path, monkeypatch, rows, seconds_per_token
):
    wanted = settings(model_dir, tokens_dir, tmp_path / "store", "resid_post.1", rows=rows)
    wanted = wanted.model_copy(update={"batch_sequences": 16})
    clock = SlowModel(monkeypatch, seconds_per_token)
    found = estimate_harvest(wanted)
    harvest_s = found.sequences * 48 * seconds_per_token
    # The start counts only where there was no time for a second batch.
    assert found.hours * 3600 == pytest.approx(harvest_s, rel=0.5 if clock.passes == 1 else 1e-9)
    assert clock.now <= max(20, 0.1 * harvest_s)
