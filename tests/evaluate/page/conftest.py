"""An evaluation of three SAEs with all that a report can show."""

from pathlib import Path
from typing import Any

import pytest
import torch

from scopeworks.evaluate.measure.inputs import HeldOut, candidate
from scopeworks.evaluate.run import evaluate_many
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.tests.evaluate.saes import random_sae


@pytest.fixture(scope="package")
def evaluation(lm, ids) -> dict[str, Any]:
    """An evaluation of three SAEs with all that a report can show."""
    settings = EvaluateSettings(
        sae=(Path("a"),), model="m", tokens="t", out=Path("e.json"), top_latents=3, top_snippets=2
    )
    saes = [random_sae("resid_post.1", seed=i, d_sae=40 + 8 * i) for i in range(3)]
    candidates = [candidate(f"sae{i}", sae, lm) for i, sae in enumerate(saes)]
    result = evaluate_many(
        lm, candidates, HeldOut(ids.numpy(), 6, torch.tensor([0, 1, 2])), settings
    )
    for i, entry in enumerate(result["saes"]):
        steps = list(range(1, 6))
        entry["config"]["sparsity"] = 1e-3 * (1 + i // 2)
        entry["training"] = {
            "settings": {"target_l0": None},
            "metrics": {
                "step": steps,
                "fvu": [0.5 / s for s in steps],
                "l0": [9.0] * 5,
                "dead_share": [0.0] * 5,
            },
        }
    return {
        "settings": {"n_sequences": 2048},
        "model": {"name": "org/grouped", "fingerprint": "f" * 16, "dtype": "float32"},
        "tokens": {
            "fingerprint": "0" * 64, "split": "held_out", "context": 11,
            "n_sequences": 6, "n_sequences_asked": 2048, "fewer_than_asked": True,
        },
        "seconds": 1.0,
        **result,
    }  # fmt: skip
