"""The time and memory of making an index of all latents, and its bytes per latent.

    python benchmarks/latents_index.py          2,048 latents, a million rows of 128
    python benchmarks/latents_index.py --width 16384 --d 2304 --rows 65536 --context 1024
    python benchmarks/latents_index.py --cold   nothing is compiled yet

Rows are sums of a few random directions, which are an SAE's decoder rows, plus noise: about `--l0`
latents fire. Tokens are drawn by Zipf's law from the tiny model's vocabulary. If `--d` is not the
tiny model's width, a random model of one layer with that vocabulary is used. The function behind
`scopeworks latents index` makes the index in its own process. `peak_mib` is its largest anonymous
memory, minus what the process had after all imports.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import record, surroundings

from scopeworks.evaluate.latents.files import tables
from scopeworks.evaluate.latents.index.run import TIMING, index
from scopeworks.evaluate.latents.index.settings import IndexSettings
from scopeworks.harvest.model.loading import load_model, load_tokenizer
from scopeworks.harvest.model.vocabulary import tokenizer_fingerprint
from scopeworks.harvest.rows.plan import Mask, Plan
from scopeworks.store import StoreSpec, StoreWriter, TokenStore
from scopeworks.tests.train.peak import anonymous_bytes, peak_while
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

MODEL = Path(__file__).resolve().parent.parent / "pipelines" / "tiny_gemma2"
SITE = "resid_post.0"
PACKAGES = ("torch", "numba", "pyarrow")


def main() -> None:
    """Prepares the inputs, measures in another process, appends a row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (("width", 2048), ("d", 128), ("rows", 2**20), ("l0", 26), ("context", 256)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--cold", action="store_true", help="with no compiled code at hand")
    parser.add_argument("--folder", type=Path, help="keeps the inputs here for the next time")
    parser.add_argument("--device", default="cpu", help="where the encoder's products are made")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measured(IndexSettings.model_validate_json(args.measure))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        given = prepared(folder, args) | {"out": f"{scratch}/index", "device": args.device}
        cold = {"NUMBA_CACHE_DIR": f"{scratch}/numba"} if args.cold else {}
        command = [sys.executable, __file__, "--measure", json.dumps(given)]
        done = subprocess.run(
            command, env=os.environ | cold, capture_output=True, text=True, check=True
        )
    shape = {name: getattr(args, name) for name in ("width", "d", "rows", "context", "cold")}
    row = shape | json.loads(done.stdout.splitlines()[-1]) | surroundings(args.device, PACKAGES)
    print(row)
    record("latents_index", row)


def measured(settings: IndexSettings) -> dict[str, Any]:
    """Makes the index; returns its figures."""
    if tables.available():
        importlib.import_module("pyarrow.parquet")
    importlib.import_module("scopeworks.evaluate.latents.index.tally.kernels")
    importlib.import_module("transformers").Gemma2ForCausalLM  # noqa: B018  (imports its module)
    base, started = anonymous_bytes(), time.monotonic()
    peak = peak_while(lambda: index(settings)) - base
    seconds = time.monotonic() - started
    manifest = json.loads((settings.out / "index.json").read_text())
    times = json.loads((settings.out / TIMING).read_text())
    features = sum(n for name, n in manifest["files"].items() if name.startswith("features/layer"))
    d_sae = manifest["sae"]["d_sae"]
    names = ("inputs", "weights", "pass", "examples", "together", "writing")
    return {
        "alive": manifest["n_alive"],
        "seconds": round(seconds, 1),
        **{f"{name}_s": round(times[name], 1) for name in names},
        "processor_s": round(time.process_time(), 1),
        "peak_mib": round(peak / 2**20),
        "feature_bytes": round(features / d_sae),
        "other_bytes": round((sum(manifest["files"].values()) - features) / d_sae),
    }


def prepared(folder: Path, args: argparse.Namespace) -> dict[str, str]:
    """Tokens, rows, SAE and model in a folder; makes those that are missing."""
    given = {name: str(folder / name) for name in ("tokens", "store", "sae", "model")}
    if (folder / "sae" / "config.json").exists():
        return given
    write_model(folder / "model", args.d)
    lm = load_model(given["model"], dtype="float32", device="cpu")
    draw = np.random.default_rng(0)
    ids = 3 + draw.zipf(1.2, (-(-args.rows // (args.context - 1)), args.context)) % 4000
    ids[draw.random(ids.shape) < 1 / 500], ids[:, 0] = 1, 2
    said = {"tokenizer": tokenizer_fingerprint(lm.tokenizer)}
    said |= {"settings": {"packing": "concatenate", "seed": 0}}
    tokens = TokenStore.create(
        given["tokens"], context=args.context, bos=2, eos=1, pad=0, provenance=said
    )
    tokens.write({"train": ids})
    origin = {"model": "random", "model_fingerprint": lm.fingerprint, "split": "train"}
    origin |= {"tokens": tokens.fingerprint, "tokenizer": said["tokenizer"]}
    directions = torch.randn(args.width, args.d, generator=torch.Generator().manual_seed(0))
    directions = torch.nn.functional.normalize(directions, dim=1)
    write_store(given["store"], ids.astype(np.uint32), directions, origin, args)
    write_sae(given["sae"], given["store"], directions, lm.fingerprint, args)
    return given


def write_model(folder: Path, d: int) -> None:
    """The tiny model, or a random one of another width with one layer and the same tokenizer."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tokenizer, config = load_tokenizer(MODEL)
    if d == config.hidden_size:
        shutil.copytree(MODEL, folder)
        return
    torch.manual_seed(0)
    values = {"vocab_size": config.vocab_size, "hidden_size": d, "intermediate_size": 64}
    values |= {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    Gemma2ForCausalLM(Gemma2Config(**values, head_dim=64)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_store(
    url: str,
    ids: np.ndarray,
    directions: torch.Tensor,
    origin: dict[str, Any],
    args: argparse.Namespace,
) -> None:
    """Rows that are sums of `l0` directions and noise."""
    mask = Mask((0, 1, 2))
    plan = Plan(ids, mask, min(args.rows, int(0.99 * args.rows)))
    spec = StoreSpec(sites={SITE: args.d}, rows=plan.rows, provenance=origin)
    generator = torch.Generator().manual_seed(1)
    with StoreWriter.open(url, spec) as writer:
        for number in range(writer.n_buckets):
            with writer.bucket(number) as bucket:
                at_once = max(1, 2**22 // (args.context * args.d))
                part = plan.part(*writer.bucket_range(number))
                for block in part.blocks(ids, mask, at_once):
                    n = len(block.flat)
                    which = torch.randint(len(directions), (n, args.l0), generator=generator)
                    size = 1 + torch.rand(n, args.l0, 1, generator=generator)
                    x = (directions[which] * size).sum(1)
                    x += 0.1 * torch.randn(x.shape, generator=generator)
                    bucket.append({SITE: x}, block.token, block.sequence, block.position)


def write_sae(
    folder: str, store: str, directions: torch.Tensor, fingerprint: str, args: argparse.Namespace
) -> None:
    """Writes an SAE whose encoder columns and decoder rows are the directions; θ gives `l0`."""
    from scopeworks import ActivationStore

    z = ActivationStore.open(store).read(SITE, 0, 2048) @ directions.T
    theta = z.flatten().kthvalue(z.numel() - args.l0 * len(z)).values
    config = SAEConfig(
        d_in=args.d,
        d_sae=args.width,
        d_out=args.d,
        site=SITE,
        model="random",
        model_fingerprint=fingerprint,
    )
    zeros = torch.zeros(args.width), torch.zeros(args.d)
    encoder = directions.T.contiguous()
    SAE(config, encoder, zeros[0], directions, zeros[1], theta.repeat(args.width)).save(folder)


if __name__ == "__main__":
    main()
