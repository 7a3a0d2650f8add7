"""Proves that a refactoring changed no number: sha256 of everything the pipeline computes.

    python scripts/same_numbers.py --write before.json      # before the change
    python scripts/same_numbers.py --compare before.json    # after it; ends 1 if they differ

Owns the list of what is hashed: a harvest with each codec (rows and labels as stored), a trained
SAE for every way the step can be computed on this machine and for the interpreted Triton kernels,
a sweep, and the figures of an evaluation. Everything goes through the command line, so that moved
modules need no change here. Hashes compare on one kind of machine only.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "pipelines" / "tiny_gemma2"
SITE = "resid_post.1"
BUCKET_ROWS, N_BUCKETS = 4096, 3
CODECS = ("exact", "fast", "float32", "int8")
WAYS: dict[str, list[str]] = {
    "float32": ["encoder=float32"],
    "screened": ["encoder=screened"],
    "bfloat16": ["encoder=bfloat16"],
    "reference": ["backend=reference"],
    "steered": ["target_l0=12"],
    "quadratic": ["target_l0=12", "penalty=quadratic"],
    "frequency": ["frequency_penalty=0.5"],
    "log_theta": ["theta_form=log"],
}
"""Settings of one run each; those without `target_l0` have a sparsity."""
NOT_FIGURES = {"path", "config", "training", "name"}
"""Of an evaluated SAE: what says where it came from, and no number of the evaluation."""


def main() -> None:
    """Computes all hashes; writes or compares them."""
    parser = argparse.ArgumentParser(description="Hashes all numbers.")
    parser.add_argument("--write", type=Path, help="JSON file for the hashes")
    parser.add_argument("--compare", type=Path, help="JSON file of an earlier run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = hashes(Path(folder))
    if arguments.write:
        arguments.write.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
    if arguments.compare:
        earlier = json.loads(arguments.compare.read_text(encoding="utf-8"))
        different = [name for name in earlier if found.get(name) != earlier[name]]
        print(f"{len(earlier) - len(different)} equal, {len(different)} differ: {different}")
        sys.exit(bool(different))


def hashes(out: Path) -> dict[str, str]:
    """Name of a result -> its sha256."""
    _text(out / "text")
    run("tokenize", model=MODEL, text=out / "text", out=out / "tokens", context=64, held_out=0.1)
    found = {}
    for codec in CODECS:
        store = out / f"store_{codec}"
        sites = [SITE, "mlp_out.1", "attn_out.1", "transcoder_in.1"]
        run(
            "harvest", model=MODEL, tokens=out / "tokens", store=store, site=sites, codec=codec,
            rows=BUCKET_ROWS * N_BUCKETS, bucket_rows=BUCKET_ROWS, dtype="float32",
            batch_sequences=16,
        )  # fmt: skip
        found[f"harvest {codec}"] = _sha256(_chunks(store))
    store = out / "store_exact"
    for way, settings in WAYS.items():
        price = [] if any("target_l0" in s for s in settings) else ["sparsity=3e-3"]
        _train(out / way, store, settings + price, site=SITE, width=512)
        found[f"train {way}"] = _sha256([out / way / "sae.safetensors"])
    _train(
        out / "transcoder", store, ["skip=true"],
        site="transcoder_in.1", target_site="mlp_out.1", width=384, sparsity=3e-3,
    )  # fmt: skip
    found["train transcoder"] = _sha256([out / "transcoder" / "sae.safetensors"])
    if _interpreter_works():
        _train(
            out / "triton", store, ["backend=triton", "theta_start=0.3"],
            site=SITE, width=96, sparsity=3e-3, steps=3, batch=16, TRITON_INTERPRET="1",
        )  # fmt: skip
        found["train triton"] = _sha256([out / "triton" / "sae.safetensors"])
    _train(out / "sweep", store, [], "sweep", site=SITE, width=[256, 320], sparsity=[2e-3, 8e-3])
    saes = sorted((out / "sweep").glob("*/sae.safetensors"))
    found["sweep"] = _sha256(saes)
    run(
        "evaluate", "--importance", sae=[path.parent for path in saes], model=MODEL,
        tokens=out / "tokens", out=out / "evaluation.json", n_sequences=24, dtype="float32",
    )  # fmt: skip
    found["evaluate"] = _figures(json.loads((out / "evaluation.json").read_text(encoding="utf-8")))
    return found


def run(command: str, *switches: str, **options: Any) -> None:
    """One `scopeworks` command; options in capitals are environment variables."""
    environment = {name: value for name, value in options.items() if name.isupper()}
    words = list(switches)
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [] if name.isupper() else [f"--{name.replace('_', '-')}", str(one)]
    line = [sys.executable, "-m", "scopeworks", command, *words]
    done = subprocess.run(
        line, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(line)}\n{done.stderr}")


def _train(
    out: Path, store: Path, settings: list[str], command: str = "train", **options: Any
) -> None:
    """A short run whose warm-ups fit it."""
    own = {name.partition("=")[0] for name in settings}
    common = {
        "lr_warmup_steps": 10, "sparsity_warmup_steps": 15, "bandwidth": 0.1, "theta_start": 0.15,
        "beta2": 0.99, "measure_rows": 2048,
    }  # fmt: skip
    if options.get("steps", 40) < 20:
        common |= {"lr_warmup_steps": 1, "sparsity_warmup_steps": 1}
    more = settings + [f"{name}={value}" for name, value in common.items() if name not in own]
    given = {"steps": 40, "batch": 512, "lr": 2e-3, "device": "cpu"} | options
    run(command, store=store, out=out, set=more, **given)


def _text(folder: Path) -> None:
    """Documents of words that depend on a seed and on nothing else of this machine."""
    draw = random.Random(0)
    words = ["def", "return", "self", "value", "for", "in", "range", "(", ")", ":", "=", "0", "1"]
    words += ["".join(draw.choices("abcdefghij", k=draw.randint(1, 9))) for _ in range(200)]
    folder.mkdir()
    for i in range(60):
        text = " ".join(draw.choices(words, k=400))
        (folder / f"{i:02}.txt").write_text(text.replace(" : ", ":\n    "), encoding="utf-8")


def _chunks(store: Path) -> list[Path]:
    """The objects with rows and labels, without the documents around them."""
    return sorted(path for path in store.rglob("*") if path.is_file() and "c" in path.parts)


def _figures(evaluation: dict[str, Any]) -> str:
    """The numbers of an evaluation."""
    saes = [
        {name: value for name, value in sae.items() if name not in NOT_FIGURES}
        for sae in evaluation["saes"]
    ]
    numbers = [evaluation["clean"], evaluation["baselines"], saes]
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


def _sha256(paths: list[Path]) -> str:
    """One hash over the files' contents, in order."""
    if not paths:
        sys.exit("nothing was written that could be hashed")
    return hashlib.sha256(b"".join(_digests(paths))).hexdigest()


def _digests(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        yield hashlib.sha256(path.read_bytes()).digest()


def _interpreter_works() -> bool:
    """Whether Triton is installed, which only the interpreted run needs."""
    import importlib.util

    return importlib.util.find_spec("triton") is not None


if __name__ == "__main__":
    main()
