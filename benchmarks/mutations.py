"""Feeds readers thousands of damaged files and counts what they do.

    python benchmarks/mutations.py chunks --count 100000 --seed 0

Every case is made and read in a child process, so that a reader that crashes or hangs is counted
and reported with the number of its case. Prints a table of outcomes by kind and appends it to
benchmarks/results/mutations.csv. Exit code 1 if a case gave wrong values without an error, gave an
error that is not the reader's own, crashed or hung.

Parts:

- `chunks` (tests/store/mutations.py): shards of every codec, with old or new checksums, read by a
  store's reader and checked by `store verify`.
- `documents` (tests/document_mutations.py): commits, roots, SAEs' configs of every format, npz,
  safetensors and evaluations, each within 10 s of processor time and 2 GiB.
- `stores` (tests/store/forged_stores.py): roots and commit records with valid checksums; `verify`
  must find whatever a reader refuses.
"""

import argparse
import multiprocessing
from collections import Counter
from collections.abc import Callable
from ctypes import c_int64
from importlib import import_module
from multiprocessing.connection import Connection

from recording import record, surroundings

Outcome = Callable[[int, int], tuple[str, str]]
"""(seed, case) -> kind of file, outcome."""

PARTS = {
    "chunks": "scopeworks.tests.store.mutations",
    "documents": "scopeworks.tests.document_mutations",
    "stores": "scopeworks.tests.store.forged_stores",
}
"""Part -> module whose `outcome` makes and checks a case."""

BATCH, PATIENCE_S = 1000, 300
CRASHED, HUNG, OTHER = "CRASHED", "HUNG", "OTHER ERROR"
_FORK = multiprocessing.get_context("fork")


def campaign(outcome: Outcome, seed: int, count: int) -> Counter[tuple[str, str]]:
    """Numbers of cases 0 … count - 1 by (kind, outcome); prints each bad case."""
    total: Counter[tuple[str, str]] = Counter()
    start = 0
    while start < count:
        stop = min(start + BATCH, count)
        found, reached, end = _batch(outcome, seed, start, stop)
        total += found
        if end is not None:
            print(f"case {reached}: {end}", flush=True)
            total["unknown", end] += 1
            # The lost child's earlier cases are counted again, without the bad one.
            total += _batch(outcome, seed, start, reached)[0]
            stop = reached + 1
        start = stop
    return total


def _batch(
    outcome: Outcome, seed: int, start: int, stop: int
) -> tuple[Counter[tuple[str, str]], int, str | None]:
    """Counts of some cases from a child process; if it was lost, at which case and how."""
    at = _FORK.Value(c_int64, start)
    ours, theirs = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_work, args=(outcome, seed, start, stop, at, theirs))
    child.start()
    theirs.close()
    end = None
    found: Counter[tuple[str, str]] = Counter()
    try:
        if ours.poll(PATIENCE_S):
            found = ours.recv()
        else:
            end = HUNG
            child.kill()
    except EOFError:
        end = CRASHED
    child.join()
    return found, at.value, end


def _work(outcome: Outcome, seed: int, start: int, stop: int, at, answers: Connection) -> None:
    """The child process: makes and reads its cases, and reports each before it begins."""
    found: Counter[tuple[str, str]] = Counter()
    for case in range(start, stop):
        at.value = case
        try:
            found[outcome(seed, case)] += 1
        except Exception as error:  # the kind of error is the result
            print(f"case {case}: {type(error).__name__}: {error}", flush=True)
            found["unknown", OTHER] += 1
    answers.send(found)


def main() -> int:
    """Runs a part, prints and records its outcomes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--count", type=int, default=100_000, help="cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-record", action="store_true", help="print only")
    arguments = parser.parse_args()
    outcome = import_module(PARTS[arguments.part]).outcome
    total = campaign(outcome, arguments.seed, arguments.count)
    machine = surroundings("cpu", ("numcodecs", "numpy", "pydantic"))
    for (kind, end), cases in sorted(total.items()):
        print(f"{cases:>8,}  {kind}: {end}")
        row = {"part": arguments.part, "seed": arguments.seed, "kind": kind, "outcome": end}
        if not arguments.no_record:
            record("mutations", row | {"cases": cases} | machine)
    bad = sum(cases for (_, end), cases in total.items() if end.isupper() or "NOT" in end)
    print(f"{total.total():>8,}  cases, {bad} of them bad")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
