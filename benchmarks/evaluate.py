"""The time of an evaluation, compared with the bare forward passes that it needs.

    python benchmarks/evaluate.py                          the tiny model, 200,000 tokens
    python benchmarks/evaluate.py --shape 2b-cut --width 131072 --sequences 8 --saes 1 --repeats 1
    python benchmarks/evaluate.py --device cuda --dtype bfloat16

`bare` is transformers' own forward pass and the cross-entropy of its logits, as in a hand-written
loop, over the same batches. An SAE's delta loss needs two such passes, a clean one and a spliced
one, so `of_two_bare` is a case's time divided by twice the bare pass's: the median of the repeats'
ratios, of wall-clock and of processor time (which other processes hardly change). `an_sae` is the
time that each SAE after the first adds, in bare passes. The evaluations are those of `scopeworks
evaluate` from loaded inputs to the finished figures, with default settings (top activations
included). Cases take turns within a repeat. `peak_gib` is the process's largest memory until the
case's end, with model and SAEs; to get the peak of one case, run it alone (`--only`).

SAEs are random directions with thresholds for which about 24 latents are active. The tiny model
reads the standard library's sources, random models of Gemma 2's shape read random tokens.
"""

import argparse
import importlib
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import record, surroundings
from torch.nn import functional

from scopeworks.evaluate.measure.inputs import HeldOut, candidate
from scopeworks.evaluate.run import evaluate_many
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.harvest.model.hooks import forward_until
from scopeworks.harvest.model.loading import LanguageModel, load_model
from scopeworks.harvest.model.sites import parse_site, site_width
from scopeworks.harvest.text.stdlib import stdlib_sources
from scopeworks.machine import keep_freed_memory
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

harvest: Any = importlib.import_module("harvest")  # the benchmark of that name
L0 = 24
PACKAGES = ("torch", "transformers")


@dataclass(frozen=True)
class Case:
    """A function to time, and how many SAEs it measures."""

    name: str
    n_saes: int
    run: Callable[[], object]


def text_of(lm: LanguageModel, n: int) -> np.ndarray:
    """Sequences [n, context] of the standard library's sources, BOS first."""
    context, ids = lm.config.max_position_embeddings, []
    for path in stdlib_sources():
        ids += lm.tokenizer(path.read_text(encoding="utf-8"), add_special_tokens=False).input_ids
        if len(ids) >= n * (context - 1):
            break
    rows = np.array(ids[: n * (context - 1)], dtype=np.uint32).reshape(n, context - 1)
    return np.pad(rows, ((0, 0), (1, 0)), constant_values=lm.config.bos_token_id)


def random_sae(lm: LanguageModel, site: str, width: int, seed: int, probe: torch.Tensor) -> SAE:
    """An SAE of random directions; each latent's threshold is a quantile of it on probe rows."""
    generator = torch.Generator().manual_seed(seed)
    d = probe.shape[1]
    W_enc = torch.randn(d, width, generator=generator) * d**-0.5
    theta = torch.cat([(probe @ part).quantile(1 - L0 / width, 0) for part in W_enc.split(4096, 1)])
    config = SAEConfig(d_in=d, d_sae=width, d_out=d, site=site, model=lm.name)
    return SAE(
        config,
        W_enc=W_enc,
        b_enc=torch.zeros(width),
        W_dec=W_enc.T.contiguous(),
        b_dec=probe.mean(0),
        theta=theta.clamp_min(1e-6),
    )


def bare_pass(lm: LanguageModel, held_out: HeldOut, batch: int) -> None:
    """transformers' own forward pass and the loss of every token, in float32."""
    for sequences in held_out.batches(batch, lm.device):
        ids = sequences.ids
        logits = lm.model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1)
        functional.cross_entropy(logits.float(), ids[:, 1:].flatten(), reduction="none")


def cases(
    lm: LanguageModel, held_out: HeldOut, arguments: argparse.Namespace, settings: EvaluateSettings
) -> list[Case]:
    """The bare pass, and an evaluation for each number of SAEs."""
    site = parse_site(arguments.site or f"resid_post.{lm.config.num_hidden_layers // 2}")
    probe_ids = next(held_out.batches(4, lm.device)).ids
    probe = forward_until(lm, probe_ids, [site])[str(site)][:, 1:].flatten(0, 1).float().cpu()
    assert probe.shape[1] == site_width(site, lm.config)
    candidates = [
        candidate(f"sae{i}", random_sae(lm, str(site), arguments.width, i, probe), lm)
        for i in range(max(arguments.saes))
    ]
    batch = settings.batch_for(held_out.context, lm.device)
    found = [Case("bare", 0, lambda: bare_pass(lm, held_out, batch))]
    for n in arguments.saes:
        own = candidates[:n]
        run = lambda own=own: evaluate_many(lm, own, held_out, settings)  # noqa: E731
        found.append(Case(f"{n} SAE{'s' * (n > 1)} of {site}", n, run))
    return [case for case in found if arguments.only in (None, case.n_saes)]


@torch.no_grad()
def measure(timed: list[Case], repeats: int, device: str) -> dict[str, np.ndarray]:
    """Wall-clock and processor seconds [repeats, 2] of every case, after one pass to warm up."""
    seconds: dict[str, list[tuple[float, float]]] = {case.name: [] for case in timed}
    timed[0].run()
    for _ in range(repeats):
        for case in timed:
            started = time.perf_counter(), time.process_time()
            case.run()
            if device == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter(), time.process_time()
            seconds[case.name].append((now[0] - started[0], now[1] - started[1]))
    return {name: np.array(own) for name, own in seconds.items()}


def report(
    timed: list[Case], seconds: dict[str, np.ndarray], shape: dict[str, Any], device: str
) -> None:
    """Prints a line per case and appends it to the CSV file."""
    base, one = seconds.get("bare"), next((c.name for c in timed if c.n_saes == 1), None)
    for case in timed:
        own, ratios, added = seconds[case.name], ["", ""], ""
        if base is not None and case.n_saes:
            ratios = [f"{ratio:.2f}" for ratio in np.median(own / base / 2, axis=0)]
        if base is not None and one is not None and case.n_saes > 1:
            more = (own - seconds[one]) / base / (case.n_saes - 1)
            added = f"{np.median(more[:, 1] if device == 'cpu' else more[:, 0]):.3f}"
        wall, cpu = np.median(own, axis=0)
        print(
            f"{case.name:24} {wall:8.2f} s, {cpu:8.2f} s of CPU; of two bare passes {ratios[0]}, "
            f"of CPU {ratios[1]}; an SAE more {added}"
        )
        row = shape | {
            "case": case.name,
            "seconds": f"{wall:.3f}",
            "fastest": f"{own[:, 0].min():.3f}",
            "slowest": f"{own[:, 0].max():.3f}",
            "cpu_seconds": f"{cpu:.3f}",
            "tokens_per_s": f"{int(shape['tokens']) / wall:.0f}",
            "of_two_bare": ratios[0],
            "cpu_of_two_bare": ratios[1],
            "an_sae": added,
            "peak_gib": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f}",
        }
        record("evaluate", row | surroundings(device, PACKAGES))


def main() -> None:
    """Runs the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--shape", choices=["tiny", *harvest.SHAPES], default="tiny")
    parser.add_argument("--sequences", type=int, default=784)
    parser.add_argument("--saes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--site", help="read and replaced [the middle layer's resid_post]")
    parser.add_argument("--batch", type=int, help="sequences a forward pass [evaluate's own]")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--only", type=int, help="the case of so many SAEs alone; 0: the bare pass")
    arguments = parser.parse_args()
    keep_freed_memory()  # evaluate does so too; the bare pass must not be at a disadvantage
    if arguments.shape == "tiny":
        lm = load_model("pipelines/tiny_gemma2", arguments.dtype, arguments.device)
        ids = text_of(lm, arguments.sequences)
    else:
        lm = harvest.build(arguments.shape, arguments.device, arguments.dtype)
        ids = harvest.tokens(arguments.sequences * 255, lm.config.vocab_size)
    held_out = HeldOut(ids, len(ids), torch.tensor([0, 1, 2], device=lm.device))
    settings = EvaluateSettings(
        sae=("sae",), model="m", tokens="t", out=Path("e.json"), n_sequences=len(ids),
        batch=arguments.batch,
        top_latents=12 if arguments.shape == "tiny" else 0,
    )  # fmt: skip
    shape = {
        "shape": arguments.shape,
        "context": ids.shape[1],
        "tokens": ids.size,
        "width": arguments.width,
        "dtype": arguments.dtype,
    }
    timed = cases(lm, held_out, arguments, settings)
    report(timed, measure(timed, arguments.repeats, arguments.device), shape, arguments.device)


if __name__ == "__main__":
    main()
