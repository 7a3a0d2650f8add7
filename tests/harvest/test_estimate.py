"""The dry run: its counts against the harvest itself and against counted operations."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scopeworks.harvest.estimate import estimate, flops_per_token
from scopeworks.harvest.harvest import HarvestSettings, harvest, prepare
from scopeworks.harvest.hooks import forward_until
from scopeworks.harvest.tokenize import TokenizeSettings, tokenize
from scopeworks.store.codecs import PRESETS


@pytest.fixture(scope="module")
def tokens_dir(model_dir, tmp_path_factory):
    folder, out = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("out") / "tokens"
    (folder / "a.txt").write_text("".join(f"line {i}, of many\n" for i in range(200)))
    tokenize(
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
    expected = estimate(wanted)
    assert list(tmp_path.iterdir()) == []
    spec = harvest(wanted).spec
    assert (expected.rows, expected.hours > 0) == (spec.rows, True)
    for site, size in expected.site_bytes[codec].items():
        written = sum(p.stat().st_size for p in (store / "sites" / site / "c").rglob("0"))
        # In so small a store the last chunks, padded, are a sixth of what fast writes.
        assert size == pytest.approx(written, rel=0.2 if codec == "fast" else 0.15)


@pytest.mark.parametrize("site", ["attn_out.2", "transcoder_in.1", "mlp_out.0", "resid_post.3"])
def test_flops_are_those_that_torch_counts(model_dir, tokens_dir, tmp_path, site):
    job, _ = prepare(settings(model_dir, tokens_dir, tmp_path / "store", site, dtype="float32"))
    ids = torch.from_numpy(np.asarray(job.sequences[:2]).astype(np.int64))
    with FlopCounterMode(display=False) as counter:
        forward_until(job.model, ids, job.sites)
    counted = counter.get_total_flops() / ids.numel()
    assert flops_per_token(job, 48) == pytest.approx(counted, rel=0.01)
