"""A suite on Gemma 2 2B's shape cut to four layers: 901M random weights, from text to release.

Its SAEs mean nothing. What is tested is that widths, memory and files of the real size go through.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import psutil
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from scopeworks import SAE
from scopeworks.tests.pipelines.small_suite import write_text

pytestmark = pytest.mark.slow

SUITE = """\
name = "cut"
model = "{model}"
out = "{out}"
[text]
sources = ["{text}"]
context = 128
held_out = 0.2
[harvest]
rows = 8_192
[train]
steps = 12
batch = 1024
lr_warmup_steps = 2
sparsity_warmup_steps = 4
theta_start = 0.03
bandwidth = 0.02
lr = 1e-3
[[sae]]
site = ["resid_post.2"]
width = 1024
sparsity = 1e-3
[[sae]]
site = "transcoder_in.1"
target_site = "mlp_out"
width = 1024
sparsity = 1e-3
[evaluate]
n_sequences = 4
batch = 2
top_latents = 1
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The model with the tiny one's tokenizer, filled up to 256,000 tokens that no text has."""
    folder = tmp_path_factory.mktemp("cut")
    tiny = Path(str(files("scopeworks.pipelines") / "tiny_gemma2"))
    config = Gemma2Config(num_hidden_layers=4, pad_token_id=0, eos_token_id=1, bos_token_id=2)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        made = Gemma2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    assert sum(p.numel() for p in made.parameters()) == 901_290_240
    made.save_pretrained(folder)
    for path in (*tiny.glob("tokenizer_config*"), *tiny.glob("chat_template*")):
        shutil.copy(path, folder)
    tokenizer = json.loads((tiny / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {f"<unused{i}>": i for i in range(len(vocabulary), config.vocab_size)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


def test_a_suite_of_the_real_shape_ends_in_a_release(model, tmp_path, record_property):
    text = write_text(tmp_path / "text", 12)
    path = tmp_path / "suite.toml"
    path.write_text(SUITE.format(model=model, out=tmp_path / "out", text=text))
    began, peak = time.monotonic(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "scopeworks", "run", str(path)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.2)
    assert process.wait() == 0
    record_property("seconds", round(time.monotonic() - began, 1))
    record_property("peak_bytes", peak)
    print(f"{time.monotonic() - began:.0f} s, peak {peak / 1e9:.2f} GB")
    # Float32 weights, the harvest's buffers (2 GiB) and one pass with logits over 256,000 tokens.
    assert peak < 10e9
    released = sorted((tmp_path / "out" / "release").rglob("params.npz"))
    assert len(released) == 2
    assert {SAE.load(path).config.d_in for path in released} == {2304}
