"""The time of harvesting beyond the forward pass, and the speed of writing rows to disk.

    python benchmarks/harvest.py                      d_model 512, 8 layers, 16,384 rows, 3 repeats
    python benchmarks/harvest.py --shape 2b-cut       Gemma 2 2B's shape, its first 3 layers
    python benchmarks/harvest.py --device cuda --dtype bfloat16

Random weights and tokens. `forward` is the model's decoder alone on the same batches, all layers,
without lm_head. The harvests run forward pass, selection, shuffle, compression and commits, by the
code of `scopeworks harvest`; `overhead` is their time divided by the forward pass's, minus one.
`until middle` runs the decoder to the residual stream of the middle layer, without a store. Cases
take turns within a repeat, so that a change of the machine's load affects all of them. `overhead`
is the median of the repeats' ratios, of wall-clock and of processor time (which other processes
hardly change).

`write` writes ready rows of one site to disk, by two writers: this project's store writer
(bfloat16, as Gemma 2 computes; shuffled, checksummed, flushed to the disk), and the shard writer of
SAELens's CacheActivationsRunner with the same rows (as float32, made before) in its own buffers,
with the consolidation that ends its run, not flushed.
"""

import argparse
import importlib.util
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import record, surroundings

from scopeworks.harvest.model.hooks import decoder_of, forward_until
from scopeworks.harvest.model.loading import LanguageModel
from scopeworks.harvest.model.sites import Site, expand_sites, site_width
from scopeworks.harvest.rows.bucket_job import BucketHarvester
from scopeworks.harvest.rows.plan import Mask, Plan
from scopeworks.store import StoreSpec, StoreWriter

CONTEXT, BATCH = 256, 16
SHAPES: dict[str, dict[str, Any]] = {
    "small": {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "query_pre_attn_scalar": 64,
        "vocab_size": 4096,
    },
    "2b-cut": {"num_hidden_layers": 3},
    "2b": {},  # transformers' defaults are Gemma 2 2B's
}
PACKAGES = ("torch", "transformers", "zarr", "sae-lens", "datasets")


@dataclass(frozen=True)
class Case:
    """A function to time, and the rows that it handles in one call."""

    name: str
    rows: int
    run: Callable[[Path], None]


def build(shape: str, device: str, dtype: str) -> LanguageModel:
    """A random Gemma 2 of a shape."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(**SHAPES[shape])
    config._attn_implementation = "eager"
    previous = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = Gemma2ForCausalLM(config)
    finally:
        torch.set_default_dtype(previous)
    model.eval().requires_grad_(False)
    tokenizer: Any = None
    return LanguageModel(
        model, tokenizer, shape, "random", torch.device(device), dtype, attention="eager"
    )


def tokens(rows: int, vocabulary: int) -> np.ndarray:
    """Sequences [n, CONTEXT] of random ids, BOS first, that give at least `rows` rows."""
    n = -(-rows // (CONTEXT - 1))
    ids = np.random.default_rng(0).integers(3, vocabulary, (n, CONTEXT)).astype(np.uint32)
    ids[:, 0] = 2
    return ids


def harvest_case(name: str, lm: LanguageModel, sites: list[Site], rows: int) -> Case:
    """The harvest of some sites to a local store."""
    job = BucketHarvester(lm, tokens(rows, lm.config.vocab_size), Mask((0, 1, 2)),
                          tuple(sites), BATCH, torch.bfloat16)  # fmt: skip
    plan = Plan(job.sequences, job.mask, rows)
    spec = StoreSpec.model_validate(
        {
            "sites": {str(site): site_width(site, lm.config) for site in sites},
            "rows": rows,
            # Sequences on a border are computed for both buckets: 1 in 32 here, 1 in 4,000 with
            # buckets of 2^20 rows.
            "bucket_rows": max(1024, rows // 2),
        }
    )

    def run(folder: Path) -> None:
        with StoreWriter.open(folder / "store", spec, background=True) as writer:
            parts = {i: plan.part(*writer.bucket_range(i)) for i in range(writer.n_buckets)}
            job.fill_all(writer, parts, lambda _bucket, _n: None)

    return Case(name, rows, run)


def forward_case(name: str, lm: LanguageModel, rows: int, until: Site | None = None) -> Case:
    """The decoder alone, all of it or up to a site."""
    ids = torch.from_numpy(tokens(rows, lm.config.vocab_size).astype(np.int64)).to(lm.device)

    @torch.no_grad()
    def run(_folder: Path) -> None:
        for start in range(0, len(ids), BATCH):
            if until is None:
                decoder_of(lm)(input_ids=ids[start : start + BATCH], use_cache=False)
            else:
                forward_until(lm, ids[start : start + BATCH], [until])
        if lm.device.type == "cuda":
            torch.cuda.synchronize()

    return Case(name, rows, run)


def cases(lm: LanguageModel, rows: int) -> Iterator[Case]:
    """All cases that run the model."""
    n_layers = lm.config.num_hidden_layers
    last, middle = n_layers - 1, n_layers // 2 - 1
    three = [f"{kind}.{last}" for kind in ("attn_out", "mlp_out", "resid_post")]
    every = ["attn_out.*", "mlp_out.*", "resid_post.*"]
    yield forward_case("forward", lm, rows)
    if middle >= 0:
        yield forward_case("until middle", lm, rows, Site("resid_post", middle))
    for name, patterns in (("1 site", three[2:]), ("3 sites", three), ("all sites", every)):
        sites = expand_sites(patterns, n_layers)
        yield harvest_case(f"harvest {name} ({len(sites)})", lm, sites, rows)


def write_cases(rows: int, width: int) -> Iterator[Case]:
    """Cases that write ready tensors of one site: our writer and, if installed, SAELens's."""
    rows -= rows % (BATCH * CONTEXT)
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(0)).bfloat16()
    number = np.arange(rows)
    spec = StoreSpec.model_validate(
        {"sites": {"x": width}, "rows": rows, "bucket_rows": max(1024, rows // 4)}
    )

    def ours(folder: Path) -> None:
        with StoreWriter.open(folder / "store", spec, background=True) as writer:
            for i in range(writer.n_buckets):
                start, stop = writer.bucket_range(i)
                with writer.bucket(i) as bucket:
                    for first in range(start, stop, BATCH * CONTEXT):
                        own = slice(first, min(first + BATCH * CONTEXT, stop))
                        labels = number[own] % 7, number[own] // CONTEXT, number[own] % CONTEXT
                        bucket.append({"x": x[own]}, *labels)

    yield Case("write ours", rows, ours)
    if importlib.util.find_spec("sae_lens") is not None:
        yield Case("write SAELens", rows, saelens_writer(x.float(), width))


def saelens_writer(x: torch.Tensor, width: int) -> Callable[[Path], None]:
    """SAELens's runner without its model: one shard per batch, then their consolidation."""
    import datasets
    from sae_lens import CacheActivationsRunner
    from sae_lens.config import CacheActivationsRunnerConfig

    datasets.disable_progress_bars()
    cfg = CacheActivationsRunnerConfig(
        dataset_path="",
        model_name="",
        model_batch_size=BATCH,
        hook_name="x",
        d_in=width,
        training_tokens=len(x),
        context_size=CONTEXT,
        buffer_size_gb=4 * BATCH * CONTEXT * width * 4 / 1e9,
    )
    runner = CacheActivationsRunner.__new__(CacheActivationsRunner)
    runner.cfg, runner.context_size = cfg, CONTEXT
    runner.features = datasets.Features(
        {
            "x": datasets.Array2D(shape=(CONTEXT, width), dtype="float32"),
            "token_ids": datasets.Sequence(datasets.Value(dtype="int32"), length=CONTEXT),
        }
    )
    ids = torch.arange(len(x)) % 7

    def run(folder: Path) -> None:
        shards = folder / "activations" / ".tmp_shards"
        shards.mkdir(parents=True)
        step = cfg.n_seq_in_buffer * CONTEXT
        for i, first in enumerate(range(0, len(x), step)):
            own = slice(first, first + step)
            shard = runner._create_shard((x[own], ids[own]))
            shard.save_to_disk(f"{shards}/shard_{i:05d}", num_shards=1)
        runner._consolidate_shards(shards, shards.parent, copy_files=False)

    return run


def measure(timed: list[Case], repeats: int, scratch: Path | None) -> dict[str, np.ndarray]:
    """Wall-clock and processor seconds [repeats, 2] of every case, after a round to warm up."""
    seconds: dict[str, list[tuple[float, float]]] = {case.name: [] for case in timed}
    for repeat in range(repeats + 1):
        for case in timed:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                started = time.perf_counter(), time.process_time()
                case.run(Path(folder))
                wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
                if repeat:
                    seconds[case.name].append((wall, cpu))
    return {name: np.array(own) for name, own in seconds.items()}


def report(
    timed: list[Case], seconds: dict[str, np.ndarray], arguments: argparse.Namespace
) -> None:
    """Prints a line per case and appends it to the CSV file."""
    base = seconds.get("forward")
    for case in timed:
        own = seconds[case.name]
        wall, cpu = np.median(own, axis=0)
        over = ["", ""]
        if base is not None and case.name != "forward":
            over = [f"{ratio:.3f}" for ratio in np.median(own / base - 1, axis=0)]
        rate = case.rows / wall
        print(f"{case.name:22} {rate:10,.0f} rows/s, overhead {over[0]}, of CPU {over[1]}")
        row = {
            "shape": arguments.shape,
            "dtype": arguments.dtype,
            "case": case.name,
            "rows": case.rows,
            "seconds": f"{wall:.3f}",
            "fastest": f"{own[:, 0].min():.3f}",
            "slowest": f"{own[:, 0].max():.3f}",
            "cpu_seconds": f"{cpu:.3f}",
            "rows_per_s": f"{rate:.0f}",
            "overhead": over[0],
            "cpu_overhead": over[1],
            "peak_gib": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f}",
        }
        record("harvest", row | surroundings(arguments.device, PACKAGES))


def main() -> None:
    """Runs the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--rows", type=int, default=16_384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--scratch", type=Path, help="where stores are written [temporary folder]")
    parser.add_argument("--only", choices=["model", "write"], help="one half of the cases")
    arguments = parser.parse_args()
    if arguments.only != "write":
        lm = build(arguments.shape, arguments.device, arguments.dtype)
        timed = list(cases(lm, arguments.rows))
        report(timed, measure(timed, arguments.repeats, arguments.scratch), arguments)
    if arguments.only != "model":
        timed = list(write_cases(arguments.rows, SHAPES[arguments.shape].get("hidden_size", 2304)))
        report(timed, measure(timed, arguments.repeats, arguments.scratch), arguments)


if __name__ == "__main__":
    main()
