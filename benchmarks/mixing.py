"""Does the order of rows matter? SAEs trained on the same rows in four orders.

    python benchmarks/mixing.py --out DIR            the tiny model, 900 updates, three seeds each

The Gemma Scope report shuffles within buckets of about 10^6 rows, guesses that a perfect shuffle
would not help, and did not check (section 3.1). Here the same rows of the tiny model are read in
four orders, each row once: `sequence` as the model makes them; `bucket` permuted within windows of
65,536 rows; `stream` as this project's store and stream mix them; `perfect` permuted over all rows.
The same SAE is trained from each with the demo's settings and several seeds, and measured on rows
of sequences that no training has seen. Prints rows and appends them to
benchmarks/results/mixing.csv.

Trainer and stream run unchanged. The stream's order is known beforehand, so each store is written
in such an order that the stream gives the wanted one.
"""

import argparse
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from demo_case import demo_case
from recording import record, surroundings

from scopeworks.store import ActivationStore, StoreSpec, StoreWriter
from scopeworks.store.read.stream_order import Order
from scopeworks.train.sae.sae import SAE
from scopeworks.train.sweeps.sweep import expand, sweep

ORDERS = ("sequence", "bucket", "stream", "perfect")
BUCKET = 65_536
TEST_SHARE = 0.05


def harvested(out: Path, demo: SimpleNamespace) -> ActivationStore:
    """The demo's store of the tiny model."""
    from scopeworks.harvest.rows.run import harvest_rows
    from scopeworks.harvest.settings import HarvestSettings
    from scopeworks.harvest.tokens.run import TokenizeSettings, tokenize_text

    tokens, store = str(out / "tokens"), str(out / "store")
    tokenize_text(
        TokenizeSettings(model=demo.model, text=demo.text, out=tokens, context=demo.context)
    )
    harvest_rows(
        HarvestSettings(
            model=demo.model, tokens=tokens, store=store, site=[demo.site], rows=demo.rows
        )
    )
    return ActivationStore.open(store)


def wanted(order: str, sequence: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Row numbers in the order in which the trainer is to see them."""
    rows = np.lexsort((position, sequence))
    generator = np.random.default_rng(0)
    if order == "bucket":
        parts = [generator.permutation(rows[i : i + BUCKET]) for i in range(0, len(rows), BUCKET)]
        return np.concatenate(parts)
    return generator.permutation(rows) if order == "perfect" else rows


def streamed(spec: StoreSpec) -> np.ndarray:
    """Stored row number of every row of the first epoch of a stream with seed 0."""
    ranges = [spec.bucket_range(bucket) for bucket in range(spec.n_buckets)]
    order = Order([stop - start for start, stop in ranges], spec.chunk_rows, 0)
    return np.concatenate(
        [
            ranges[piece.bucket][0]
            + piece.chunk * spec.chunk_rows
            + np.arange(piece.first, piece.first + piece.rows)
            for piece in order.pieces(0, spec.rows)
        ]
    )


def write(url: Path, site: str, x: torch.Tensor, sequence: np.ndarray, position: np.ndarray):
    """Writes a store from which a stream with seed 0 gives these rows in this order."""
    spec = StoreSpec(sites={site: x.shape[1]}, rows=len(x))
    at = np.argsort(streamed(spec))
    with StoreWriter.open(url, spec) as writer:
        for bucket in sorted(set(range(writer.n_buckets)) - writer.committed):
            start, stop = writer.bucket_range(bucket)
            rows = at[start:stop]
            with writer.bucket(bucket, in_stored_order=True) as opened:
                opened.append(
                    {site: x[rows]},
                    token=np.zeros(len(rows), dtype=np.int64),
                    sequence=sequence[rows],
                    position=position[rows],
                )


def pair_share(sequence: np.ndarray, batch: int) -> float:
    """Share of row pairs of a batch that come from one sequence, over the first 64 batches."""
    shares = []
    for first in range(0, min(64 * batch, len(sequence) - batch + 1), batch):
        n = np.unique(sequence[first : first + batch], return_counts=True)[1].astype(float)
        shares.append((n * (n - 1)).sum() / (batch * (batch - 1)))
    return statistics.fmean(shares)


def train(out: Path, store: Path, demo: SimpleNamespace, steps: int, sparsity: float, seeds: int):
    """Trains the SAEs of one order, one per seed."""
    members = expand(
        out,
        lists={"seed": list(range(seeds))},
        store=str(store),
        site=demo.site,
        sparsity=sparsity,
        width=demo.width,
        steps=steps,
        batch=demo.batch,
        lr=demo.lr,
        lr_warmup_steps=demo.lr_warmup_steps,
        lr_decay_share=demo.lr_decay_share,
        beta2=demo.beta2,
        theta_start=demo.theta_start,
        bandwidth=demo.bandwidth,
        sparsity_warmup_steps=min(demo.sparsity_warmup_steps, steps // 2),
        stream_seed=0,
        checkpoint_every=steps,
    )
    return sweep(members, out)


def measured(sae_dir: Path, x: torch.Tensor) -> tuple[float, float]:
    """FVU and L0 on rows that were not trained on."""
    sae = SAE.load(sae_dir)
    error, active = 0.0, 0
    with torch.no_grad():
        for block in x.split(4096):
            f = sae.encode(block)
            active += int((f > 0).sum())
            error += float((block - sae.decode(f)).double().square().sum())
    variance = float((x.double() - x.double().mean(0)).square().sum())
    return error / variance, active / len(x)


def row_of(order: str, found: list[tuple[float, float]], share: float, args, rows: int) -> dict:
    """One CSV row."""
    fvu, l0 = ([pair[i] for pair in found] for i in range(2))
    return {
        "order": order,
        "fvu": round(statistics.fmean(fvu), 5),
        "fvu_sd": round(statistics.stdev(fvu), 5) if len(fvu) > 1 else "",
        "l0": round(statistics.fmean(l0), 2),
        "l0_sd": round(statistics.stdev(l0), 2) if len(l0) > 1 else "",
        "pairs_of_one_sequence": f"{share:.2e}",
        "seeds": len(found),
        "rows": rows,
        "steps": args.steps,
        "sparsity": args.sparsity,
    } | surroundings("cpu", ("torch",))


def show(row: dict) -> None:
    """Prints a row and records it."""
    print("  ".join(f"{name} {row[name]}" for name in list(row)[:7]), flush=True)
    record("mixing", row)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains SAEs from differently ordered rows.")
    parser.add_argument("--out", type=Path, required=True, help="folder for stores and SAEs")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--sparsity", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--order", nargs="*", choices=ORDERS, default=ORDERS)
    args = parser.parse_args()
    demo = demo_case(args.out)
    store = harvested(args.out, demo)
    labels = store.labels(0, store.rows)
    bound = np.quantile(labels.sequence, 1 - TEST_SHARE)
    x = store.read(demo.site, 0, store.rows)
    test = x[torch.from_numpy(labels.sequence > bound)]
    rows = np.flatnonzero(labels.sequence <= bound)[: args.steps * demo.batch]
    if len(rows) < args.steps * demo.batch:
        raise SystemExit(f"--steps must be at most {len(rows) // demo.batch}, got {args.steps}")
    for order in args.order:
        spec = StoreSpec(sites={demo.site: x.shape[1]}, rows=len(rows))
        if order == "stream":  # the harvest's own buckets and permutation, as the stream mixes them
            chosen = rows[streamed(spec)]
        else:
            chosen = rows[wanted(order, labels.sequence[rows], labels.position[rows])]
        sequence, position = labels.sequence[chosen], labels.position[chosen]
        place = args.out / order
        write(place / "store", demo.site, x[torch.from_numpy(chosen)], sequence, position)
        saes = train(place / "saes", place / "store", demo, args.steps, args.sparsity, args.seeds)
        found = [measured(sae, test) for sae in saes]
        show(row_of(order, found, pair_share(sequence, demo.batch), args, len(rows)))


if __name__ == "__main__":
    main()
