"""A random model, SAEs for it, and held-out sequences with special tokens in them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scopeworks.evaluate.measure.inputs import HeldOut
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.store import TokenStore
from scopeworks.tests.evaluate.saes import random_sae
from scopeworks.tests.reference.gemma_models import build_model, build_tokenizer

PAD, EOS, BOS = 0, 1, 2
CONTEXT = 11
VOCABULARY_USED = 250


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """These tensors are too small to share out; on a busy machine waiting for threads takes all the
    time.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def lm():
    """A random float32 Gemma 2 (4 layers, d_model 32) as `load_model` would hand it over."""
    model = build_model("grouped")
    return SimpleNamespace(
        model=model,
        config=model.config,
        tokenizer=build_tokenizer(),
        name="grouped",
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="session")
def ids(lm) -> torch.Tensor:
    """Six sequences: BOS first, an EOS inside two of them, PAD at the end of one.

    The ordinary tokens are drawn from the model itself, so that it predicts them better than an
    ablated one does.
    """
    generator = torch.Generator().manual_seed(5)
    ids = torch.full((6, 1), BOS)
    for position in range(1, CONTEXT):
        logits = lm.model(input_ids=ids).logits[:, -1, 3:VOCABULARY_USED]
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        ids = torch.cat([ids, 3 + drawn], dim=1)
        if position in (4, 7):
            ids[1 if position == 4 else 3, -1] = EOS
    ids[4, 8:] = PAD
    return ids


@pytest.fixture
def held_out(ids) -> HeldOut:
    """The sequences as an evaluation reads them."""
    return HeldOut(ids.numpy().astype(np.uint32), len(ids), torch.tensor([PAD, EOS, BOS]))


@pytest.fixture(scope="session")
def many(ids) -> HeldOut:
    """Enough sequences for intervals: those of `ids` cut to 11 tokens at other ends."""
    rows = np.concatenate([np.roll(ids.numpy()[:, 1:], k, axis=1) for k in range(4)])
    rows = np.concatenate([np.full((len(rows), 1), BOS), rows], axis=1)
    return HeldOut(rows.astype(np.uint32), len(rows), torch.tensor([PAD, EOS, BOS]))


@pytest.fixture
def settings(tmp_path: Path) -> EvaluateSettings:
    """Settings for tests that call the evaluation with objects in memory."""
    return EvaluateSettings(
        sae=(Path("sae"),), model="m", tokens="t", out=tmp_path / "e.json", batch=4, top_latents=0
    )


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    """The random model, saved with its tokenizer."""
    path = tmp_path_factory.mktemp("models") / "grouped"
    build_model("grouped").save_pretrained(path)
    build_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def tokens_url(tmp_path: Path, ids) -> str:
    """A token store with the sequences held out."""
    url = str(tmp_path / "tokens")
    tokens = TokenStore.create(url, context=CONTEXT, bos=BOS, eos=EOS, pad=PAD, provenance={})
    tokens.write({"train": ids.numpy()[:1], "held_out": ids.numpy()})
    return url


@pytest.fixture
def sae_dir(tmp_path: Path) -> Path:
    """A saved SAE of resid_post.1."""
    random_sae("resid_post.1").save(tmp_path / "runs" / "sae")
    return tmp_path / "runs" / "sae"
