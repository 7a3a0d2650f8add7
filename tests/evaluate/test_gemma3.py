"""The whole road on a Gemma 3: text, tokens, rows, SAEs, Gemma Scope 2's files, figures, latents.

The model is random, of both kinds that are released; the figures are those of the float64 twin.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from scopeworks.harvest.model.loading import load_model
from scopeworks.pipelines.cli import app
from scopeworks.store import ActivationStore, TokenStore
from scopeworks.tests.reference.evaluate_metrics import evaluate_sae
from scopeworks.tests.reference.gemma3_models import SHAPES, build_gemma3, build_seeing
from scopeworks.tests.reference.gemma_models import build_tokenizer
from scopeworks.train.sae.sae import SAE

NAME, CONTEXT = "grouped", 16
HEADS = SHAPES[NAME][1].heads_out
SPECIAL = {0, 1, 2}


def scopeworks(*arguments: object) -> str:
    """Runs a command as a user would; its output."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output or done.exception
    return done.output


@dataclass(frozen=True)
class Road:
    """What the commands before have left in a folder."""

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def evaluated(self, sae: Path, *more: object) -> dict[str, Any]:
        """The evaluation of one SAE's folder."""
        out = self / f"{sae.name}.evaluation.json"
        places = ("--model", self / "model", "--tokens", self / "tokens", "--out", out)
        scopeworks(
            "evaluate", "--sae", sae, "--dtype", "float32", *places, "--n-sequences", 4, *more
        )
        return json.loads(out.read_text())

    def held_out(self) -> torch.Tensor:
        """Token ids of the held-out sequences that are evaluated."""
        found = TokenStore.open(self / "tokens").sequences("held_out")[:4]
        return torch.from_numpy(np.asarray(found).astype(np.int64))


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> Road:
    """A Gemma 3 that also sees images, rows of two of its sites, an SAE and a transcoder."""
    folder = tmp_path_factory.mktemp("gemma3")
    build_seeing(NAME).save_pretrained(folder / "model")
    build_tokenizer().save_pretrained(folder / "model")
    text = [f"line {i} of {i * i} many: {'abc' * (i % 5)}\n" for i in range(400)]
    (folder / "text").mkdir()
    for part in range(40):
        (folder / "text" / f"{part}.txt").write_text("".join(text[10 * part : 10 * part + 10]))
    model = ("--model", folder / "model")
    scopeworks(
        "tokenize", *model, "--text", folder / "text", "--out", folder / "tokens",
        "--context", CONTEXT, "--held-out", 0.02,
    )  # fmt: skip
    scopeworks(
        "harvest", *model, "--tokens", folder / "tokens", "--store", folder / "store",
        "--site", "resid_post.2", "--site", "transcoder_in.1", "--site", "mlp_out.1",
        "--bucket-rows", 1000, "--dtype", "float32",
    )  # fmt: skip
    common = ("--store", folder / "store", "--width", 48, "--steps", 30, "--batch", 256)
    common += ("--set", "recipe=auto", "--sparsity", 1e-3)
    scopeworks("train", *common, "--site", "resid_post.2", "--out", folder / "sae")
    transcoder = ("--site", "transcoder_in.1", "--target-site", "mlp_out.1", "--set", "skip=true")
    scopeworks("train", *common, *transcoder, "--out", folder / "transcoder")
    return Road(folder)


def check_figures(entry: dict[str, Any], sae: SAE, site: str, target: str, ids: torch.Tensor):
    """Against the twin, whose only knowledge of Gemma 3 is its formulas."""
    model = build_gemma3(NAME)
    twin = evaluate_sae(model, sae, site, target, ids, SPECIAL, heads=HEADS)
    assert entry["n_tokens"] == twin["n_tokens"]
    for name in ("l0", "mse", "fvu", "cosine", "norm_ratio", "spliced_loss"):
        assert entry[name] == pytest.approx(twin[name], rel=1e-4), name
    for name in ("delta_loss", "kl"):
        assert entry[name] == pytest.approx(twin[name], rel=1e-3, abs=5e-5), name


def test_rows_are_the_language_model_s_and_say_so(road: Road):
    store = ActivationStore.open(road / "store")
    ids = TokenStore.open(road / "tokens").sequences("train")
    _, sequence, position = (np.asarray(part) for part in store.labels(0, 64))
    unique, inverse = np.unique(sequence, return_inverse=True)
    tokens = torch.from_numpy(np.stack([ids[int(i)] for i in unique]).astype(np.int64))
    expected = SHAPES[NAME][1].sites(build_gemma3(NAME), tokens)
    for site in store.sites:
        rows = expected[site][torch.from_numpy(inverse), torch.from_numpy(position.astype(int))]
        torch.testing.assert_close(store.read(site, 0, 64).double(), rows, rtol=0.01, atol=1e-4)
    lm = load_model(road / "model", "float32", "cpu")
    assert store.provenance["model_fingerprint"] == lm.fingerprint
    assert store.provenance["attention"] == "sdpa"


def test_trained_sae_has_the_twin_s_figures_and_its_export_the_same(road: Road):
    result = road.evaluated(road / "sae")
    sae, (entry,) = SAE.load(road / "sae"), result["saes"]
    assert result["settings"]["attention"] == "sdpa"
    assert 1 < entry["l0"] < 47 and entry["fvu"] < 1
    check_figures(entry, sae, "resid_post.2", "resid_post.2", road.held_out())
    scopeworks(
        "export", "--sae", road / "sae", "--format", "gemma-scope-2", "--out", road / "exported"
    )
    (weights,) = (road / "exported").rglob("params.safetensors")
    (exported,) = road.evaluated(weights.parent)["saes"]
    assert exported["site"] == "resid_post.2"
    for name in ("l0", "fvu", "delta_loss"):
        assert exported[name] == pytest.approx(entry[name], rel=1e-5), name


def test_transcoder_is_exported_with_the_norm_s_gain_of_the_model_inside(road: Road):
    (entry,) = road.evaluated(road / "transcoder")["saes"]
    ids = road.held_out()
    check_figures(entry, SAE.load(road / "transcoder"), "transcoder_in.1", "mlp_out.1", ids)
    scopeworks(
        "export", "--sae", road / "transcoder", "--format", "gemma-scope-2",
        "--out", road / "transcoders", "--model", road / "model",
    )  # fmt: skip
    (weights,) = (road / "transcoders").rglob("params.safetensors")
    (exported,) = road.evaluated(weights.parent)["saes"]
    assert (exported["site"], exported["target_site"]) == ("mlp_in.1", "mlp_out.1")
    for name in ("l0", "fvu", "delta_loss"):
        assert exported[name] == pytest.approx(entry[name], rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize(
    ("kind", "into", "out", "sites"),
    [
        ("sae", "layers.3.output", None, ("resid_post.3", "resid_post.3")),
        ("sae", "language_model.layers.3.output", None, ("resid_post.3", "resid_post.3")),
        ("sae", "layers.1.self_attn.o_proj.input", None, ("attn_out.1", "attn_out.1")),
        ("sae", "layers.2.post_feedforward_layernorm.output", None, ("mlp_out.2", "mlp_out.2")),
        (
            "transcoder",
            "layers.2.pre_feedforward_layernorm.output",
            "layers.2.post_feedforward_layernorm.output",
            ("mlp_in.2", "mlp_out.2"),
        ),
    ],
)
def test_folder_as_google_writes_it_is_evaluated(road: Road, tmp_path, kind, into, out, sites):
    """Written by hand: the six tensors and the entries of config.json."""
    site, target = sites
    d_in, d_out = (64 if name.startswith("attn_out") else 32 for name in sites)
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=generator)

    tensors = {
        "w_enc": normal(d_in, 40, scale=d_in**-0.5),
        "b_enc": normal(40, scale=0.1),
        "w_dec": normal(40, d_out, scale=0.1),
        "b_dec": normal(d_out, scale=0.1),
        "threshold": 0.2 + normal(40, scale=0.1).abs(),
    }
    if kind == "transcoder":
        tensors["affine_skip_connection"] = normal(d_in, d_out, scale=0.1)
    folder = tmp_path / f"layer_{site[-1]}_width_40_l0_medium"
    folder.mkdir()
    save_file(tensors, folder / "params.safetensors")
    config = {
        "architecture": "jump_relu",
        "model_name": str(road / "model"),
        "hf_hook_point_in": f"model.{into}",
        "hf_hook_point_out": f"model.{out or into}",
        "width": 40,
        "l0": 13,
        "affine_connection": kind == "transcoder",
        "type": kind,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (entry,) = road.evaluated(folder)["saes"]
    assert (entry["site"], entry["target_site"] or site) == sites
    check_figures(entry, SAE.load(folder), site, target, road.held_out())


def test_latents_are_indexed_by_the_model_inside(road: Road):
    scopeworks(
        "latents", "index", "--sae", road / "sae", "--store", road / "store",
        "--model", road / "model", "--tokens", road / "tokens", "--out", road / "index",
    )  # fmt: skip
    assert (road / "index" / "index.html").is_file()


def test_sae_of_one_class_is_taken_on_the_other(road: Road, tmp_path):
    """The same weights saved as a text model alone are the same model."""
    build_gemma3(NAME).save_pretrained(tmp_path / "alone")
    build_tokenizer().save_pretrained(tmp_path / "alone")
    (one,) = road.evaluated(road / "sae")["saes"]
    (other,) = road.evaluated(road / "sae", "--model", tmp_path / "alone")["saes"]
    assert (other["fvu"], other["delta_loss"]) == (one["fvu"], one["delta_loss"])
    inside = load_file(road / "model" / "model.safetensors")
    alone = load_file(tmp_path / "alone" / "model.safetensors")
    assert len(alone) == sum("language_model" in name for name in inside) < len(inside)
