"""A process of its own that evaluates and prints what it took: `python -m
scopeworks.tests.evaluate.peak FOLDER`.

SAEs of the tiny model over few sequences, then over five times as many. Prints one JSON object:
the bytes of anonymous memory that each took at most, above what the process held at first. Of the
clean passes, whose own bound is larger than both, one batch is kept.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from scopeworks.evaluate.run import clean_runs, evaluate_saes
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.harvest.model.loading import load_model
from scopeworks.harvest.model.vocabulary import tokenizer_fingerprint
from scopeworks.store import TokenStore
from scopeworks.tests.train.peak import anonymous_bytes, peak_while
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

MODEL = Path(__file__).parents[2] / "pipelines" / "tiny_gemma2"
SITE, D, WIDTH, CONTEXT = "resid_post.2", 128, 2048, 256
SAES, FEW, MANY = 4, 32, 160


def sae(seed: int) -> SAE:
    """Random directions of which some dozens are active."""
    W_enc = torch.randn(D, WIDTH, generator=torch.Generator().manual_seed(seed)) * D**-0.5
    config = SAEConfig(d_in=D, d_sae=WIDTH, d_out=D, site=SITE)
    zeros = torch.zeros(WIDTH), torch.zeros(D)
    return SAE(config, W_enc, zeros[0], W_enc.T.contiguous(), zeros[1], torch.full((WIDTH,), 8.0))


def main(folder: Path) -> None:
    """Evaluates twice."""
    clean_runs.MAX_KEPT_BYTES = 4 * 2**20
    lm = load_model(str(MODEL), device="cpu")
    ids = np.random.default_rng(0).integers(10, len(lm.tokenizer), (MANY, CONTEXT))
    origin = {"tokenizer": tokenizer_fingerprint(lm.tokenizer)}
    tokens = TokenStore.create(
        folder / "tokens", context=CONTEXT, bos=2, eos=1, pad=0, provenance=origin
    )
    tokens.write({"held_out": ids})
    for seed in range(SAES):
        sae(seed).save(folder / f"sae{seed}")

    def run(n: int) -> None:
        values = {"model": str(MODEL), "tokens": str(folder / "tokens"), "device": "cpu"}
        values |= {"sae": tuple(str(folder / f"sae{seed}") for seed in range(SAES))}
        values |= {"out": folder / f"{n}.json", "n_sequences": n, "batch": 4}
        evaluate_saes(EvaluateSettings.model_validate(values))

    base = anonymous_bytes()
    peaks = [peak_while(lambda n=n: run(n)) - base for n in (FEW, MANY)]
    print(json.dumps({"few": peaks[0], "many": peaks[1]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
