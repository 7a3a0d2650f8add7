"""How much a busy process slows harvest and training on the same machine.

    python benchmarks/busy.py                             a minute or two, on a quiet machine
    python benchmarks/busy.py --policies passive active   both waiting policies
    python benchmarks/busy.py --threads 1 2

With the demo's model and shapes: a harvest of `resid_post.3`, and four SAEs of width 2,048 on one
stream, each in its own process, alone and beside one process that never sleeps. `passive` and
`active` are OpenMP's waiting policies: threads that wait for each other sleep, or spin on a core
that the other thread may need. `share` is the speed beside the busy process divided by the speed
alone, for the same policy and threads.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROWS, WARM_UP_ROWS = 100_000, 10_000
STEPS, WARM_UP_STEPS, BATCH = 120, 20, 1024
SITE = "resid_post.3"
PACKAGES = ("torch", "transformers", "numba")


def prepare(folder: Path) -> None:
    """Makes the tokens, and a store to train from."""
    from demo_case import demo_case

    from scopeworks.harvest.text.stdlib import stdlib_sources
    from scopeworks.harvest.tokens.run import TokenizeSettings, tokenize_text

    text = [str(path) for path in stdlib_sources()][:300]
    model = demo_case(folder).model
    tokenize_text(TokenizeSettings(model=model, text=text, out=str(folder / "tokens"), context=256))
    harvest_rows(folder, "store", ROWS)


def harvest_rows(folder: Path, name: str, rows: int) -> None:
    """A harvest as the demo makes it."""
    from demo_case import demo_case

    from scopeworks.harvest.rows.run import harvest_rows
    from scopeworks.harvest.settings import HarvestSettings

    harvest_rows(
        HarvestSettings(
            model=demo_case(folder).model,
            tokens=str(folder / "tokens"),
            store=str(folder / name),
            site=[SITE],
            rows=rows,
        )
    )


def train_steps(folder: Path, name: str, steps: int) -> None:
    """The first `steps` updates of a sweep as the demo makes it."""
    from demo_case import demo_case

    from scopeworks.train.sweeps.sweep import expand, sweep

    demo = demo_case(folder)
    sweep(
        expand(
            folder / name,
            lists={"sparsity": list(demo.sparsity)},
            store=str(folder / "store"),
            site=SITE,
            width=demo.width,
            steps=steps,
            batch=BATCH,
            lr=demo.lr,
            lr_warmup_steps=steps // 4,
            sparsity_warmup_steps=steps // 4,
            theta_start=demo.theta_start,
            bandwidth=demo.bandwidth,
            measure_rows=BATCH,
        ),
        folder / name,
    )


def child(folder: Path) -> None:
    """Prints rows per second of both stages; the first, short run of each warms up."""
    found = {}
    for stage, run, few, many, rows in (
        ("harvest", harvest_rows, WARM_UP_ROWS, ROWS, ROWS),
        ("train", train_steps, WARM_UP_STEPS, STEPS, STEPS * BATCH),
    ):
        with tempfile.TemporaryDirectory(dir=folder) as own:
            run(folder, f"{Path(own).name}/few", few)
            started = time.perf_counter()
            run(folder, f"{Path(own).name}/many", many)
            found[stage] = rows / (time.perf_counter() - started)
    print(json.dumps(found))


@contextmanager
def busy_process() -> Iterator[None]:
    """A process that never sleeps."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measured(folder: Path, policy: str, threads: int | None) -> dict[str, float]:
    """Rows per second of both stages, measured in a new process."""
    environment = os.environ | {"OMP_WAIT_POLICY": policy}
    environment |= {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--child", str(folder)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Runs the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--policies", nargs="+", default=["passive"])
    parser.add_argument("--threads", nargs="+", type=int, default=[None])
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments.child)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for policy in arguments.policies:
            for threads in arguments.threads:
                quiet = measured(folder, policy, threads)
                with busy_process():
                    busy = measured(folder, policy, threads)
                report(policy, threads, quiet, busy)


def report(
    policy: str, threads: int | None, quiet: dict[str, float], busy: dict[str, float]
) -> None:
    """Prints a line per stage and appends it to the CSV file."""
    from recording import record, surroundings

    for stage, before in quiet.items():
        share = busy[stage] / before
        print(
            f"{stage:8} {policy:8} threads {threads or 'all':>3}: {before:8,.0f} rows/s quiet, "
            f"{busy[stage]:8,.0f} beside a busy process, {share:.2f}"
        )
        row = {
            "stage": stage,
            "policy": policy,
            "threads": threads or "all",
            "quiet_rows_per_s": f"{before:.0f}",
            "busy_rows_per_s": f"{busy[stage]:.0f}",
            "share": f"{share:.3f}",
        }
        record("busy", row | surroundings("cpu", PACKAGES))


if __name__ == "__main__":
    main()
