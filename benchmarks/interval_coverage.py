"""How often an evaluation's 95% intervals contain the value of a large pool of text.

    python benchmarks/interval_coverage.py              about five minutes on one thread
    python benchmarks/interval_coverage.py --folder F   keeps tokens and SAE in F for the next run

An SAE like the demo's (width 512, 300 updates) is measured once on a pool of 512 held-out
sequences, cut to 64 tokens. Then many evaluations are simulated: each draws as many sequences as an
evaluation has, with replacement, and estimates its own E x, as an evaluation does. `covered` is the
share of draws whose interval contains the pool's value; 95% if the intervals are right.

This tests intervals for other sequences of the same documents. A second kind of draw tests them for
other text: it draws documents, each with all its sequences, as many documents as have that many
sequences on average.
"""

import argparse
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from recording import ROOT, record, surroundings
from torch import Tensor

from scopeworks.console import progress
from scopeworks.evaluate.measure.inputs import HeldOut, PlacedSAE, candidate, open_held_out
from scopeworks.evaluate.measure.intervals import Estimate, ratio
from scopeworks.evaluate.measure.metrics import MeanActivation
from scopeworks.evaluate.measure.passes import MainPass
from scopeworks.evaluate.run.clean_runs import CleanRuns
from scopeworks.harvest.model.hooks import forward_until
from scopeworks.harvest.model.loading import LanguageModel, load_model
from scopeworks.harvest.text.documents import is_held_out, read_files
from scopeworks.harvest.text.stdlib import stdlib_sources
from scopeworks.pipelines.run.runner import run_suite
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.train.sae.sae import SAE

POOL, TOKENS, DRAWS = 512, 64, (200, 2000)
SIZES = (16, 32, 128)
HELD_OUT = 0.3
SUITE = """\
name = "coverage"
model = "tiny_gemma2"
out = "{out}"
[text]
sources = ["python:stdlib"]
context = 256
held_out = {held_out}
[harvest]
rows = 131_072
bucket_rows = 65_536
[train]
steps = 300
batch = 1024
lr = 2e-3
lr_warmup_steps = 20
beta2 = 0.99
sparsity_warmup_steps = 100
theta_start = 0.15
bandwidth = 0.1
[[sae]]
site = "resid_post.3"
width = 512
sparsity = 3e-3
"""
BATCH = 32
PACKAGES = ("torch", "transformers")


@dataclass(frozen=True)
class Pool:
    """The sums of each of S sequences, float64."""

    sums: dict[str, Tensor]
    """Σ_t of every value, and the counts of positions behind it, [S]."""
    totals: Tensor
    """Σ_t x, [S, d]."""
    mean: Tensor
    """E x over the pool, [d]."""

    def estimates(self, rows: Tensor) -> dict[str, Estimate]:
        """The headline numbers that an evaluation of these sequences gives."""
        s = {name: values[rows] for name, values in self.sums.items()}
        costs = {name: s[name] for name in ("mean", "zero")}
        return {
            "l0": ratio(s["l0"], s["n_l0"]),
            "mse": ratio(s["error"], s["n_l0"]),
            "fvu": ratio(s["error"], self.deviations(rows)),
            "cosine": ratio(s["cosine"], s["n_l0"]),
            "delta_loss": ratio(s["delta"], s["n_delta"]),
            "kl": ratio(s["kl"], s["n_delta"]),
            "recovered_share": ratio(-s["delta"], costs["mean"], offset=1.0),
            "recovered_share_of_zero_ablation": ratio(-s["delta"], costs["zero"], offset=1.0),
        }

    def deviations(self, rows: Tensor) -> Tensor:
        """Σ_t ‖x − m‖² of each sequence, where m is the mean of these sequences; computed from the
        same sum about the pool's mean."""
        n, totals = self.sums["n_deviation"][rows], self.totals[rows]
        moved = totals.sum(0) / n.sum() - self.mean
        about = totals - n[:, None] * self.mean
        return self.sums["deviation"][rows] - 2 * about @ moved + n * moved.square().sum()


@torch.no_grad()
def measured(lm: LanguageModel, one: PlacedSAE, held_out: HeldOut, batch: int = BATCH) -> Pool:
    """Runs the evaluation's own pass over the pool."""
    totals, mean = [], MeanActivation(one.sae.W_dec.shape[1])
    with progress("pool", 2 * held_out.n, "sequences") as bar:
        for part in held_out.batches(batch, lm.device):
            x = forward_until(lm, part.ids, [one.target])[str(one.target)]
            mean.add(x, part.keep)
            totals.append(torch.where(part.keep[..., None], x.double(), 0.0).sum(1).cpu())
            bar.advance(len(part))
        main = MainPass(lm, [one], {one.target: mean.value}, held_out.context, False)
        sites = {one.site, one.target}
        for part, clean, x in CleanRuns(lm, held_out, batch, sites, [one.target]).losses():
            main.add(part, clean, x)
            bar.advance(len(part))
    own, site = main.saes[0].sequences, main.baselines[one.target].sequences
    names = ("l0", "error", "cosine", "delta", "kl", "n_l0", "n_delta")
    sums = {name: own[name] for name in names}
    sums |= {name: site[name] for name in ("mean", "zero", "deviation", "n_deviation")}
    return Pool(sums, torch.cat(totals), mean.value)


def owners(sequences: np.ndarray, tokenizer: Any, texts: Iterable[str]) -> Tensor:
    """The number of each sequence's document: that of its longest run of tokens that are no special
    tokens.

    A sequence whose run is in no text counts as a document of its own.
    """
    special = set(tokenizer.all_special_ids)
    known = [np.array(tokenizer(text, add_special_tokens=False).input_ids, "<u4") for text in texts]
    ends = np.cumsum([4 * len(ids) for ids in known])
    everything = np.concatenate(known).tobytes()
    found = []
    for number, row in enumerate(np.asarray(sequences, "<u4")):
        cuts = [-1, *(i for i, token in enumerate(row.tolist()) if token in special), len(row)]
        runs = [row[a + 1 : b] for a, b in pairwise(cuts)]
        at = everything.find(max(runs, key=len).tobytes())
        own = len(known) + number
        found.append(own if at < 0 or at % 4 else int(np.searchsorted(ends, at, side="right")))
    return torch.tensor(found)


def documents_of(owner: Tensor) -> list[Tensor]:
    """The sequences of each document."""
    return [torch.nonzero(owner == one).flatten() for one in owner.unique()]


def drawn(n: int, size: int, documents: list[Tensor] | None, generator: torch.Generator) -> Tensor:
    """Numbers of sequences, drawn with replacement: `size` of n, or all sequences of so many
    documents that they have `size` on average."""
    if documents is None:
        return torch.randint(n, (size,), generator=generator)
    k = max(2, round(size * len(documents) / n))
    picked = torch.randint(len(documents), (k,), generator=generator)
    return torch.cat([documents[i] for i in picked.tolist()])


def coverage(
    pool: Pool, size: int, draws: int, documents: list[Tensor] | None = None, seed: int = 0
) -> dict[str, dict[str, float]]:
    """For every headline number, the share of draws whose interval contains the pool's value, and
    half the mean width of the interval.

    A draw without an interval (too few sequences) counts as not covering, and is left out of the
    mean.
    """
    n = len(pool.totals)
    truth = pool.estimates(torch.arange(n))
    generator = torch.Generator().manual_seed(seed)
    hits = dict.fromkeys(truth, 0)
    halves: dict[str, list[float]] = {name: [] for name in truth}
    for _ in range(draws):
        rows = drawn(n, size, documents, generator)
        for name, found in pool.estimates(rows).items():
            if (interval := found.interval) is not None:
                hits[name] += interval[0] <= truth[name].value <= interval[1]
                halves[name].append((interval[1] - interval[0]) / 2)
    return {
        name: {
            "value": truth[name].value,
            "covered": hits[name] / draws,
            "half": float(np.mean(halves[name] or [float("nan")])),
        }
        for name in truth
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where tokens and SAE are or are made")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = given or Path(temporary)
        suite = Path(temporary) / "suite.toml"
        suite.write_text(SUITE.format(out=folder, held_out=HELD_OUT), encoding="utf-8")
        run_suite(SuiteFile(suite), last="train")
        (tokens,) = (path for path in (folder / "tokens").iterdir() if path.is_dir())
        (sae,) = (path for path in (folder / "saes").iterdir() if path.is_dir())
        lm = load_model(str(ROOT / "pipelines" / "tiny_gemma2"), "float32", "cpu")
        one = candidate("sae", SAE.load(sae), lm)
        held_out = open_held_out(str(tokens), lm, POOL)[1]
        cut = replace(held_out, sequences=np.asarray(held_out.sequences[:POOL])[:, :TOKENS])
        pool = measured(lm, one, cut)
    texts = (document.text for document in read_files(stdlib_sources()))
    held_out_texts = (text for text in texts if is_held_out(text, HELD_OUT))
    documents = documents_of(owners(cut.sequences, lm.tokenizer, held_out_texts))
    print(f"{len(documents)} documents, the largest with {max(map(len, documents))} sequences")
    for what, groups in (("sequences", None), ("documents", documents)):
        for size in SIZES:
            for draws in DRAWS:
                for name, found in coverage(pool, size, draws, groups).items():
                    write(name, what, size, draws, len(pool.totals), found)


def write(name: str, what: str, size: int, draws: int, pool: int, found: dict[str, float]) -> None:
    """Appends one headline number at one size as a row."""
    row = {
        "number": name,
        "drawn": what,
        "sequences": size,
        "draws": draws,
        "pool": pool,
        "value": f"{found['value']:.6g}",
        "half_interval": f"{found['half']:.4g}",
        "covered": f"{found['covered']:.4f}",
        **surroundings("cpu", PACKAGES),
    }
    print(f"{name:34} {what:9} {size:5} of {pool} x {draws}: {found['covered']:.1%}")
    record("interval_coverage", row)


if __name__ == "__main__":
    main()
