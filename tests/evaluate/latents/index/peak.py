"""A process of its own that makes an index and prints what it took: `python -m
scopeworks.tests.evaluate.latents.index.peak FOLDER ROWS …`.

Prints one JSON object: for every number of rows the bytes of anonymous memory that the pass over
them took at most, above what the process held before the first.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from scopeworks.evaluate.latents.index.firing import Pass, firings
from scopeworks.evaluate.latents.index.inputs import Inputs
from scopeworks.evaluate.latents.index.on_dask import doing
from scopeworks.evaluate.latents.index.settings import IndexSettings
from scopeworks.store import StoreSpec, StoreWriter, TokenStore
from scopeworks.tests.train.peak import anonymous_bytes, peak_while
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

SITE, D, WIDTH, CONTEXT = "resid_post.2", 64, 1024, 128


def write(folder: Path, rows: int) -> dict[str, str]:
    """Random rows, and random directions of which about 30 fire in each."""
    draw = np.random.default_rng(0)
    ids = draw.integers(3, 200, (rows // CONTEXT, CONTEXT))
    tokens = TokenStore.create(folder / "tokens", context=CONTEXT, bos=2, eos=1, pad=0)
    tokens.write({"train": ids})
    origin = {"model_fingerprint": "f00d", "tokens": tokens.fingerprint, "split": "train"}
    spec = StoreSpec(sites={SITE: D}, rows=rows, bucket_rows=rows // 16, provenance=origin)
    with StoreWriter.open(str(folder / "store"), spec) as writer:
        for number in range(writer.n_buckets):
            start, stop = writer.bucket_range(number)
            at = np.arange(start, stop)
            x = torch.from_numpy(draw.normal(size=(len(at), D))).float()
            with writer.bucket(number) as bucket:
                bucket.append({SITE: x}, ids.reshape(-1)[at], at // CONTEXT, at % CONTEXT)
    W_enc = torch.randn(D, WIDTH, generator=torch.Generator().manual_seed(0)) * D**-0.5
    config = SAEConfig(d_in=D, d_sae=WIDTH, d_out=D, site=SITE)
    zeros = torch.zeros(WIDTH), torch.zeros(D)
    sae = SAE(config, W_enc, zeros[0], W_enc.T.contiguous(), zeros[1], torch.full((WIDTH,), 1.9))
    sae.save(folder / "sae")
    return {name: str(folder / name) for name in ("tokens", "store", "sae")} | {"model": "none"}


def main(folder: Path, rows: list[int]) -> None:
    """Makes an index of each number of rows; one before, for what is compiled."""
    given = write(folder, max(rows))

    def run(n: int, name: str) -> None:
        values = given | {"out": folder / name, "rows": n, "device": "cpu"}
        work = Pass(Inputs.load(IndexSettings.model_validate(values)))
        with doing(work) as do:
            firings(work, do, {})

    run(CONTEXT, "first")
    base = anonymous_bytes()
    print(json.dumps([peak_while(lambda n=n: run(n, f"{n}")) - base for n in rows]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(n) for n in sys.argv[2:]])
