"""Evaluations made by hand, as far as studies read them."""

from typing import Any

from scopeworks.evaluate.study.study import Scene

SCENE = Scene(
    sites=("resid_post.3",),
    n_layers=6,
    widths=(2048,),
    prices={"sparsity": [1.5e-3, 3e-3, 6e-3, 1.2e-2]},
    sparsities=(1.5e-3, 3e-3, 6e-3, 1.2e-2),
    settings={"steps": 1200, "batch": 1024},
    seed=0,
    n_sequences=128,
    context=256,
)
"""The demo, as studies see it."""


def sae(
    site: str = "resid_post.3",
    width: int = 2048,
    l0: float = 20.0,
    *,
    delta_loss: float = 0.1,
    fvu: float = 0.2,
    half: float | None = 0.001,
    sparsity: float | None = 3e-3,
    seed: int = 0,
    **more: Any,
) -> dict[str, Any]:
    """An SAE's entry; `half` is half the length of its intervals."""
    figures = {"delta_loss": delta_loss, "fvu": fvu, "l0": l0}
    intervals = None
    if half is not None:
        intervals = {name: [value - half, value + half] for name, value in figures.items()}
    return {
        "name": f"{site}-{width}-{sparsity}-{seed}",
        "site": site,
        "target_site": site,
        "d_sae": width,
        "config": {"sparsity": sparsity},
        "training": {"settings": {"seed": seed}, "metrics": {}},
        **figures,
        "intervals": intervals,
        **more,
    }


def evaluation(*saes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An evaluation of some SAEs."""
    return {
        "model": {"name": "tiny", "fingerprint": "f", "dtype": "float32"},
        "tokens": {"n_sequences": 128, "context": 256},
        "saes": list(saes),
        **more,
    }
