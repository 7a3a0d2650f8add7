"""Our figures beside those of sae-bench's own core evaluation, on the same tokens.

What agrees and why the rest does not is the table of docs/metrics.md.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scopeworks.evaluate.measure.inputs import HeldOut, candidate
from scopeworks.evaluate.run import evaluate_many
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.harvest.model.hooks import forward_until
from scopeworks.harvest.model.loading import LanguageModel, load_model
from scopeworks.harvest.model.sites import parse_site
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.export import export_sae
from scopeworks.train.sae.sae import SAE

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "pipelines" / "tiny_gemma2"
SITE, CONTEXT, N = "resid_post.3", 128, 24
BOS = 2
pytestmark = pytest.mark.slow


def sequences(lm: LanguageModel) -> np.ndarray:
    """Text of this repository: BOS first, and no other special token, for sae-bench counts a
    position by its own token alone, we by the next one too."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "evaluate").rglob("*.py")))
    ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"][: N * (CONTEXT - 1)]
    rows = np.array(ids).reshape(N, CONTEXT - 1)
    return np.concatenate([np.full((N, 1), BOS), rows], axis=1)


def dictionary_of_examples(lm: LanguageModel, ids: np.ndarray) -> SAE:
    """512 of the text's own activations as latents, which fire on 5% of all."""
    x = forward_until(lm, torch.from_numpy(ids), [parse_site(SITE)])[SITE][:, 1:].flatten(0, 1)
    mean, n = x.mean(0), 512
    chosen = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]] - mean
    directions = chosen / chosen.norm(dim=1, keepdim=True)
    b_enc = -(directions @ mean)
    z = x @ directions.T + b_enc
    return SAE(
        SAEConfig(d_in=128, d_sae=n, d_out=128, site=SITE, model="tiny_gemma2"),
        W_enc=directions.T.contiguous(),
        b_enc=b_enc,
        W_dec=0.06 * directions,
        b_dec=mean,
        theta=torch.full((n,), float(z.flatten().quantile(0.95))),
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Our entry, theirs with all categories in one, and the mean square of the site."""
    python = ROOT / ".venv" / "saebench" / "bin" / "python"
    if not python.exists():
        pytest.skip("saebench is not installed: `make acceptance` does that")
    folder = tmp_path_factory.mktemp("saebench")
    lm = load_model(str(MODEL), "float32", "cpu")
    ids = sequences(lm)
    sae = dictionary_of_examples(lm, ids)
    sae.save(folder / "sae")
    exported = export_sae(folder / "sae", "gemma-scope", folder / "out", l0=26.0)
    shutil.copy(exported / "params.npz", folder)
    shutil.copytree(MODEL, folder / "model")
    np.save(folder / "tokens.npy", ids)
    settings = EvaluateSettings(
        sae=(folder / "params.npz",), model="m", tokens="t", out=folder / "e.json", top_latents=0,
        splice_special=True,
    )  # fmt: skip
    held_out = HeldOut(ids, N, torch.tensor([0, 1, BOS]))
    one = candidate("params", SAE.load(folder / "params.npz"), lm, site=SITE)
    result = evaluate_many(lm, [one], held_out, settings)
    command = [str(python), "-W", "ignore", str(Path(__file__).with_name("check_saebench.py"))]
    done = subprocess.run(
        [*command, str(folder), SITE.rpartition(".")[2]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    theirs = {name: value for kind in found.values() for name, value in kind.items()}
    return result["saes"][0], theirs, result["baselines"][SITE]["mean_square"]


def test_what_is_defined_alike_agrees(both):
    ours, theirs, _ = both
    n = ours["n_tokens"]
    for name, value in (
        ("l0", ours["l0"]),
        ("mse", ours["mse"] / n),
        ("explained_variance_legacy", 1 - ours["token_fvu"]),
        ("cossim", ours["cosine"]),
        ("l2_ratio", ours["norm_ratio"]),
        ("ce_loss_with_sae", ours["spliced_loss"]),
        ("ce_loss_score", ours["recovered_share_of_zero_ablation"]),
    ):
        assert theirs[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    assert 0 < ours["fvu"] < 1
    assert 0 < ours["recovered_share_of_zero_ablation"] < 1


def test_kl_differs_by_the_last_position_which_they_count(both):
    ours, theirs, _ = both
    assert theirs["kl_div_with_sae"] == pytest.approx(ours["kl"], rel=0.05)


def test_explained_variance_takes_squares_for_the_mean(both):
    """Theirs is 1 − mse / (m − (m/d)²) with m = E‖x‖²: what should be ‖E x‖² is the square of the
    mean square of a dimension."""
    ours, theirs, m = both
    found = 1 - ours["mse"] / (m - (m / 128) ** 2)
    assert theirs["explained_variance"] == pytest.approx(found, rel=1e-3)
    assert abs(theirs["explained_variance"] - (1 - ours["fvu"])) > 2e-3
