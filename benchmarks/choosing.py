"""L0, FVU and dead latents by λ, θ, ε and learning rate, for short and middle runs.

    python benchmarks/choosing.py              about six minutes on one thread
    python benchmarks/choosing.py --folder F   keeps the store in F for the next run

SAEs of width 1,024 (8·d) at the demo's site and on its rows, 256 rows an update. `short` is 1,200
updates, `middle` 5,000. The recipes differ in the settings that docs/tutorials/choosing.md
compares. L0, FVU and the dead share are measured on the rows after the last batch. Rows are scaled
to E‖x‖² = 1.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from recording import record, surroundings

from scopeworks.pipelines.run.runner import run_suite
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.train.run.trainer import run as train
from scopeworks.train.sae.sae import SAE
from scopeworks.train.settings import TrainSettings

LENGTHS = {"short": 1_200, "middle": 5_000}
RECIPES: dict[str, dict[str, Any]] = {
    "report": {"theta_start": 1e-3, "bandwidth": 1e-3, "lr": 7e-5, "beta2": 0.999},
    "report, faster": {"theta_start": 1e-3, "bandwidth": 1e-3, "lr": 1e-3, "beta2": 0.99},
    "between": {"theta_start": 0.03, "bandwidth": 0.02, "lr": 1e-3, "beta2": 0.99},
    "demo": {"theta_start": 0.15, "bandwidth": 0.1, "lr": 2e-3, "beta2": 0.99},
}
SPARSITIES = (1.5e-3, 6e-3)
WIDTH, BATCH = 1_024, 256
PACKAGES = ("torch", "numba")


def members(length: str, store: str, out: Path) -> list[TrainSettings]:
    """The settings of one run length: warm-ups of the learning rate and of λ over a fifteenth and a
    third of the updates, decay over a fifth."""
    steps = LENGTHS[length]
    common: dict[str, Any] = {
        "store": store,
        "site": "resid_post.3",
        "width": WIDTH,
        "batch": BATCH,
        "steps": steps,
        "lr_warmup_steps": steps // 15,
        "sparsity_warmup_steps": steps // 3,
        "lr_decay_share": 0.2,
    }
    return [
        TrainSettings(
            **common, **recipe, sparsity=sparsity, out=out / length / f"{name} {sparsity}"
        )
        for name, recipe in RECIPES.items()
        for sparsity in SPARSITIES
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the demo's store is or is made")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = given or Path(temporary)
        run_suite(SuiteFile(Path("demo"), [f"out={folder / 'demo'}"]), last="harvest")
        (store,) = (path for path in (folder / "demo" / "stores").iterdir() if path.is_dir())
        for length in LENGTHS:
            for one in train(members(length, str(store), Path(temporary))):
                write(length, one)


def write(length: str, folder: Path) -> None:
    """Appends one SAE as a row."""
    name, _, sparsity = folder.name.rpartition(" ")
    recipe, config = RECIPES[name], SAE.load(folder).config
    row = {
        "length": length,
        "steps": LENGTHS[length],
        "recipe": name,
        **recipe,
        "sparsity": sparsity,
        "l0": f"{config.l0:.1f}",
        "fvu": f"{config.fvu:.4f}",
        "dead_share": f"{config.dead_share:.4f}",
    }
    record("choosing", row | surroundings("cpu", PACKAGES))
    print(*row.values(), flush=True)


if __name__ == "__main__":
    main()
