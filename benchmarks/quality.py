"""How good are SAEs after equal training? Ours beside those of SAELens and dictionary_learning.

    make peers                                                an environment with the peers, once
    .venv/peers/bin/python benchmarks/quality.py --out DIR    the campaign, or its missing runs

All train on the demo's store (the tiny model's resid_post.3): the same rows in the same order,
width 2,048, 1,024 rows an update. FVU, L0 and dead share are over 65,536 rows of sequences that no
training has seen; Δ loss is that of `evaluate` over 64 such sequences. Each run appends a row to
benchmarks/results/quality.csv; a run that has a row is not made again. The campaign, in this order:

    grid      every peer's learning rates at 1,500 updates and L0 24, one seed
    sparsity  each at its best rate: L0 8 and 64 at 1,500 updates
    longer    each at its best rate: L0 24 at 6,000 updates
    seeds     the best peer: two more seeds of the runs before
    longest   the best peer: L0 24 at 25,000 updates

Our own runs take seconds and come first: at the same L0 and updates, and also steered to the L0
that each peer has reached, so that FVUs are compared at equal L0.

A peer's 1,500 updates take two to three minutes on two idle cores: the grid takes 0.7 hours,
sparsity 0.5, longer 0.7, seeds 0.9, longest 0.8, ours 0.3; about four hours in all. After --minutes
no run begins any more; --list shows the missing runs. On cores that other processes use too,
OMP_NUM_THREADS=1 is faster. --jobs makes several runs at once, the longest first. --device cuda
trains on a GPU; eight jobs suit one GPU and sixteen cores.
"""

import argparse
import csv
import functools
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from quality_case import Case, Run
from quality_peers import PEERS
from recording import RESULTS, record, surroundings
from side_by_side import side_by_side

Row = dict[str, str]

LRS = (3e-3, 6e-3, 1e-3)
COEFFICIENTS = {8: 1.3, 24: 0.38, 64: 0.1}
TRIES = 3
NEAR = 0.05
PACKAGES = ("torch", "sae-lens", "dictionary-learning")
RIVALS = tuple(name for name in PEERS if name != "ours")


def wanted(rows: list[Row]) -> Iterator[Run]:
    """Every run of the campaign in order, as far as the existing rows decide it."""
    for lr in LRS:
        yield from (_run(peer, lr, 24, 1500, 0, rows) for peer in RIVALS)
    for target in (8, 64):
        yield from _at_best(RIVALS, target, 1500, 0, rows)
    yield from _at_best(RIVALS, 24, 6000, 0, rows)
    best = best_rival(rows)
    for seed in (1, 2):
        for target, updates in ((24, 1500), (8, 1500), (64, 1500), (24, 6000)):
            yield from _at_best((best,) if best else (), target, updates, seed, rows)
    yield from _at_best((best,) if best else (), 24, 25_000, 0, rows)


def ours(rows: list[Row]) -> Iterator[Run]:
    """Our runs: the peers' runs, and one at every L0 that a peer has reached."""
    yield Run("ours", 0.0, 24, 1500)
    for row in rows:
        if row["peer"] != "ours" and abs(off_target(row)) < 0.3:
            l0 = float(f"{float(row['l0']):.3g}")
            yield Run("ours", 0.0, l0, int(row["updates"]), int(row["seed"]))
    yield from (Run("ours", 0.0, target, 1500) for target in (8, 64))
    yield Run("ours", 0.0, 24, 6000)
    for seed in (1, 2):
        for target, updates in ((24, 1500), (8, 1500), (64, 1500), (24, 6000)):
            yield Run("ours", 0.0, target, updates, seed)
    yield Run("ours", 0.0, 24, 25_000)


def _at_best(peers, target: float, updates: int, seed: int, rows: list[Row]) -> Iterator[Run]:
    """Each peer's run at its best learning rate, if its grid is complete."""
    for peer in peers:
        lr = best_lr(peer, rows)
        if lr is not None:
            yield _run(peer, lr, target, updates, seed, rows)


def _run(peer: str, lr: float, target: float, updates: int, seed: int, rows: list[Row]) -> Run:
    """A peer's run. For SAELens's JumpReLU up to `TRIES` runs search the coefficient that gives
    L0."""
    run = Run(peer, lr, target, updates, seed)
    if peer != "sae_lens jumprelu":
        return run
    tried = [row for row in rows if _same_question(row, run)]
    similar = [
        row
        for row in rows
        if row["peer"] == peer and float(row["target_l0"]) == target and float(row["lr"]) == lr
    ]
    price = _coefficient(target, tried, similar)
    return Run(peer, lr, target, updates, seed, (("l0_coefficient", price),))


def _same_question(row: Row, run: Run) -> bool:
    """Whether a row is of a run, apart from changed settings."""
    asked = (run.peer, run.lr, run.target_l0, run.updates, run.seed)
    return asked == (
        row["peer"],
        float(row["lr"] or 0),
        float(row["target_l0"]),
        int(row["updates"]),
        int(row["seed"]),
    )


def _coefficient(target: float, tried: list[Row], similar: list[Row]) -> float:
    """The next sparsity coefficient to try; the best one if L0 is within 5% or tries are used up.

    L0 falls about as the coefficient to the power of 0.85. The first try is the one that `similar`
    runs, of another seed or length, would try next.
    """
    if not similar:
        return COEFFICIENTS.get(int(target), 0.38)
    nearest = min(tried or similar, key=lambda row: abs(off_target(row)))
    price = float(nearest["settings"].partition("l0_coefficient=")[2])
    if abs(off_target(nearest)) < NEAR or len(tried) >= TRIES:
        return price
    return float(f"{price * (1 + off_target(nearest)) ** 1.2:.3g}")


def off_target(row: Row) -> float:
    """Relative distance of L0 from its target."""
    return float(row["l0"]) / float(row["target_l0"]) - 1


def best_lr(peer: str, rows: list[Row]) -> float | None:
    """The learning rate with the lowest FVU, scaled to L0 24, if the grid is complete.

    FVU falls about as L0^-0.5 here, which is good enough for runs that missed L0 by little.
    """
    grid = _grid(peer, rows)
    if not {float(row["lr"]) for row in grid} >= set(LRS):
        return None
    return float(min(grid, key=brought_to_target)["lr"])


def _grid(peer: str, rows: list[Row]) -> list[Row]:
    """A peer's rows of the grid, from which its learning rate is chosen."""
    case = ("24", "1500", "0")
    return [
        row
        for row in rows
        if row["peer"] == peer and (row["target_l0"], row["updates"], row["seed"]) == case
    ]


def brought_to_target(row: Row) -> float:
    """FVU scaled to the target L0."""
    fvu = float(row["fvu"])
    return fvu * (1 + off_target(row)) ** 0.5 if math.isfinite(fvu) else math.inf


def best_rival(rows: list[Row]) -> str | None:
    """The peer with the lowest FVU at 1,500 updates and L0 24."""
    found = {
        peer: min(map(brought_to_target, _grid(peer, rows)))
        for peer in RIVALS
        if best_lr(peer, rows) is not None
    }
    return min(found, key=lambda peer: found[peer]) if len(found) == len(RIVALS) else None


def rows_of(folder: Path) -> list[Row]:
    """The existing rows."""
    path = folder / "quality.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def missing(rows: list[Row], names: list[str]) -> list[Run]:
    """The runs without a row, in the campaign's order, our own first."""
    made = {
        (
            r["peer"],
            float(r["lr"] or 0),
            float(r["target_l0"]),
            r["updates"],
            r["seed"],
            r["settings"],
        )
        for r in rows
    }
    runs = [run for find in (ours, wanted) for run in find(rows) if run.peer in names]
    runs = list(dict.fromkeys(runs))
    keys = [(r.peer, r.lr, r.target_l0, str(r.updates), str(r.seed), r.settings) for r in runs]
    return [run for run, key in zip(runs, keys, strict=True) if key not in made]


def made(run: Run, out: Path, device: str) -> Row:
    """Makes a run and prints its row; its files are in a temporary folder in `out`."""
    case, started = _case(out, device), time.monotonic()
    with tempfile.TemporaryDirectory(dir=out) as folder:
        sae = PEERS[run.peer](run, case, Path(folder) / "training")
        seconds = time.monotonic() - started
        found = case.measured(sae, Path(folder) / "sae")
    row = {
        "peer": run.peer,
        "lr": f"{run.lr:g}" if run.lr else "",
        "settings": run.settings,
        "target_l0": f"{run.target_l0:g}",
        "updates": str(run.updates),
        "seed": str(run.seed),
        "l0": f"{found['l0']:.3f}",
        "fvu": f"{found['fvu']:.5f}",
        "delta_loss": f"{found['delta_loss']:.5f}",
        "dead_share": f"{found['dead_share']:.4f}",
        "seconds": f"{seconds:.0f}",
    }
    print("  ".join(f"{name} {value}" for name, value in row.items() if value), flush=True)
    return row | surroundings(device, PACKAGES)


@functools.cache
def _case(out: Path, device: str) -> Case:
    """The case, made once per process."""
    return Case(out, device=device)


def main() -> None:
    """Runs the campaign."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for stores and SAEs")
    parser.add_argument("--peer", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after these")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--list", action="store_true", help="show what is missing and do nothing")
    args = parser.parse_args()
    if args.list:
        for run in missing(rows_of(RESULTS), args.peer):
            print(run)
        return
    _case(args.out, args.device)  # its stores are there before several ask for them
    do = functools.partial(made, out=args.out, device=args.device)

    def following() -> list[Run]:
        runs = missing(rows_of(RESULTS), args.peer)
        return sorted(runs, key=lambda run: -run.updates) if args.jobs > 1 else runs

    for row in side_by_side(following, do, args.jobs, args.minutes):
        record("quality", row)


if __name__ == "__main__":
    main()
