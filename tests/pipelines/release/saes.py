"""Trained folders and evaluations of them, as `train` and `evaluate` write them."""

import json
from pathlib import Path
from typing import Any

import torch

from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

D_IN, D_SAE, CONTEXT = 24, 4096, 8  # a width that other projects' loaders know


def trained(
    folder: Path,
    site: str = "resid_post.5",
    target_site: str | None = None,
    sparsity: float = 1e-3,
    seed: int = 0,
    skip: bool = False,
) -> Path:
    """A trained SAE's folder whose record names this machine, as real ones do."""
    generator = torch.Generator().manual_seed(seed)
    d_out = 10 if target_site else D_IN

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    config = SAEConfig(
        d_in=D_IN,
        d_sae=D_SAE,
        d_out=d_out,
        site=site,
        target_site=target_site,
        model=str(folder / "models" / "tiny_gemma2"),
        model_fingerprint="abc",
        context=CONTEXT,
        tokens=str(folder / "tokens"),
        normaliser=30.0,
        sparsity=sparsity,
        l0=round(0.05 / sparsity, 3),
        fvu=200 * sparsity,
        dead_share=0.25,
        measured_rows=512,
        trained_rows=2048,
    )
    sae = SAE(
        config,
        W_enc=draw(D_IN, D_SAE),
        b_enc=draw(D_SAE),
        W_dec=draw(D_SAE, d_out),
        b_dec=draw(d_out),
        theta=draw(D_SAE).abs(),
        W_skip=draw(D_IN, d_out) if skip else None,
    )
    settings = {"store": str(folder / "store"), "out": str(folder), "sparsity": sparsity}
    sae.save(folder, settings | {"steps": 100, "batch": 64, "seed": seed, "skip": skip})
    return folder


def evaluation(out: Path, *saes: Path, **changes: Any) -> Path:
    """An evaluation of trained folders: L0 is a tenth above what training measured."""
    tokens = {"url": str(out.parent / "tokens"), "fingerprint": "t", "split": "held_out"}
    counts = {"n_sequences": 6, "n_sequences_asked": 8, "fewer_than_asked": True}
    entries = [_entry(path) for path in saes]
    document = {
        "settings": {"out": str(out), "seed": 0},
        "model": {"name": str(out.parent / "m"), "fingerprint": "abc", "dtype": "float32"},
        "tokens": {**tokens, "context": CONTEXT, **counts},
        "clean": {
            "loss": 2.5,
            "n_predictions": 42,
            "by_position": {"n_predictions": [0] + [6] * (CONTEXT - 1)},
        },
        "baselines": {
            entry["target_site"]: {"mean_ablation_loss": 9.0, "zero_ablation_loss": 10.0}
            for entry in entries
        },
        "saes": entries,
        "subsets": {},
        "seconds": 1.5,
    }
    out.write_text(json.dumps(document | changes))
    return out


def _entry(path: Path) -> dict[str, Any]:
    config = SAE.load(path).config
    assert config.l0 is not None and config.sparsity is not None
    curve = [None] + [0.5] * (CONTEXT - 1)
    return {
        "name": path.name,
        "path": str(path),
        "site": config.site,
        "target_site": config.target_site or config.site,
        "config": config.model_dump(mode="json"),
        "training": None,
        "d_sae": config.d_sae,
        "n_tokens": 42,
        "l0": 1.1 * config.l0,
        "mse": 3.0,
        "fvu": 210 * config.sparsity,
        "spliced_loss": 2.75,
        "delta_loss": 40 * config.sparsity,
        "delta_loss_stderr": 0.01,
        "recovered_share": 0.96,
        "recovered_share_of_zero_ablation": 0.97,
        "dead_share": 0.125,
        "firing": {"n_tokens": 42, "log10_edges": [-3, -2, -1, 0], "histogram": [9, 6, 1]},
        "by_position": {"error": curve, "delta_loss": curve, "l0": curve},
    }
