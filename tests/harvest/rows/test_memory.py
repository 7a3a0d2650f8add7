"""What a harvest holds on its way to the store stays within `memory_gib`, whatever the sites."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scopeworks.harvest.model.vocabulary import tokenizer_fingerprint
from scopeworks.harvest.settings import HarvestSettings
from scopeworks.store import TokenStore
from scopeworks.tests.reference.gemma_models import VOCABULARY, build_tokenizer

GIB = 2**30
CONTEXT = 64


@pytest.fixture(scope="module")
def wide_model_dir(tmp_path_factory) -> Path:
    """8 layers, d_model 256: 24 sites of three kinds are 12 KiB a row."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    path = tmp_path_factory.mktemp("models") / "wide"
    config = Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
    )
    Gemma2ForCausalLM(config).save_pretrained(path)
    build_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tokens_dir(tmp_path_factory) -> Path:
    """600,000 tokens, no special ones among them."""
    url = tmp_path_factory.mktemp("tokens") / "tokens"
    origin = {"tokenizer": tokenizer_fingerprint(build_tokenizer())}
    tokens = TokenStore.create(url, context=CONTEXT, bos=2, eos=1, pad=0, provenance=origin)
    shape = 600_000 // CONTEXT, CONTEXT
    tokens.write({"train": np.random.default_rng(0).integers(3, VOCABULARY, shape)})
    return url


CASES = {
    # name: (sites, rows a bucket, buckets)
    "1 site, buckets in memory": (["resid_post.0"], 176_000, 3),
    "24 sites, buckets in memory": (["attn_out.*", "mlp_out.*", "resid_post.*"], 7_360, 4),
    "24 sites, one bucket fits in memory, two do not": (
        ["attn_out.*", "mlp_out.*", "resid_post.*"],
        15_000,
        3,
    ),
    "24 sites, buckets in files": (["attn_out.*", "mlp_out.*", "resid_post.*"], 24_576, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_memory_stays_within_the_setting(wide_model_dir, tokens_dir, tmp_path, case):
    sites, bucket_rows, buckets = CASES[case]
    settings = HarvestSettings(
        model=str(wide_model_dir),
        tokens=str(tokens_dir),
        store=str(tmp_path / "store"),
        site=sites,
        rows=bucket_rows * buckets,
        bucket_rows=bucket_rows,
        batch_sequences=16,
        device="cpu",
        memory_gib=0.25,
    )
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    script = Path(__file__).with_name("peak_memory.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "settings.json")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    taken = int(done.stdout.split()[-1])
    print(f"{case}: {taken / settings.memory_gib / GIB:.2f} of memory_gib")
    assert taken <= 1.1 * settings.memory_gib * GIB
