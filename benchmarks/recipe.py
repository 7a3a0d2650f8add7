"""The search behind the recipe: which lr, warm-ups, decay, β2, θ and ε suit a run's length.

    python benchmarks/recipe.py --out DIR [--updates 300 1500] [--site mlp_out.3]

Our trainer on the rows of `quality.py`, λ steered to L0 24, one seed. Each length has base
settings, and one setting at a time is changed (`TRIED`). Prints rows and appends them to
benchmarks/results/recipe.csv; a trial that has a row is not trained again. 1,500 updates take half
a minute to two minutes on two idle cores, and 6,000 four times as long. --jobs and --device cuda
are those of `quality.py`.
"""

import argparse
import csv
import functools
import math
import tempfile
from pathlib import Path
from typing import Any

from quality_case import Case, Run
from quality_peers import ours
from recording import RESULTS, record, surroundings
from side_by_side import side_by_side

LRS = {300: 1e-2, 1_500: 6e-3, 6_000: 4e-3, 25_000: 1e-3}
TRIED: tuple[dict[str, Any], ...] = (
    {},
    {"lr": 0.4},
    {"lr": 0.6},
    {"lr": 1.7},
    {"beta2": 0.95},
    {"beta2": 0.97},
    {"beta2": 0.999},
    {"bandwidth": 0.2},
    {"theta_start": 0.1, "bandwidth": 0.05},
    {"lr_decay_share": 0.5},
    {"sparsity_warmup_steps": 1 / 3},
    {"target_l0": 8.0},
    {"target_l0": 64.0},
    {"bandwidth": 0.02},
    {"bandwidth": 0.01},
    {"target_l0": 64.0, "bandwidth": 0.02},
    {"target_l0": 64.0, "bandwidth": 0.01},
    {"target_l0": 64.0, "lr": 0.5},
)
"""Changes to the base settings; lr as a factor, warm-ups as a share of the updates."""

KEYS = ("site", "updates", "target_l0", "lr", "theta_start", "bandwidth", "beta2")
KEYS += ("lr_decay_share", "lr_warmup_steps", "sparsity_warmup_steps")


def settings_of(updates: int, site: str, change: dict[str, Any]) -> dict[str, Any]:
    """One trial's settings, in the order of `KEYS`."""
    values = {"site": site, "updates": updates, "target_l0": 24.0, "theta_start": 0.15}
    values |= {"bandwidth": 0.1, "beta2": 0.99, "lr_decay_share": 0.2}
    values |= change
    values["lr"] = float(f"{LRS[updates] * change.get('lr', 1):.2g}")
    values["lr_warmup_steps"] = updates // 15
    values["sparsity_warmup_steps"] = round(updates * change.get("sparsity_warmup_steps", 0.1))
    return {name: values[name] for name in KEYS}


def rows_of(path: Path) -> set[tuple[str, ...]]:
    """The rows of earlier trials."""
    if not path.exists():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        return {tuple(row[name] for name in KEYS) for row in csv.DictReader(file)}


def tried(settings: dict[str, Any], out: Path, device: str) -> dict[str, Any]:
    """Trains and measures one trial; prints and returns its row."""
    case = _case(out, settings["site"], device)
    lr, target_l0, updates = (settings[name] for name in ("lr", "target_l0", "updates"))
    changes = tuple((name, settings[name]) for name in KEYS[4:])
    with tempfile.TemporaryDirectory(dir=out) as folder:
        sae = ours(Run("ours", lr, target_l0, updates, 0, changes), case, Path(folder) / "trial")
    found = case.on_rows(sae)
    row = settings | {name: f"{found[name]:.5g}" for name in ("l0", "fvu", "dead_share")}
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return row | surroundings(device, ("torch", "numba"))


@functools.cache
def _case(out: Path, site: str, device: str) -> Case:
    """The case, made once per process."""
    return Case(out, site, device)


def main() -> None:
    """Runs the trials that have no row yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for stores and SAEs")
    parser.add_argument("--updates", type=int, nargs="*", choices=list(LRS), default=list(LRS))
    parser.add_argument("--site", nargs="*", default=["resid_post.3"])
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no trial after these"
    )
    parser.add_argument("--jobs", type=int, default=1, help="trials at once")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    args = parser.parse_args()

    def missing() -> list[dict[str, Any]]:
        made = rows_of(RESULTS / "recipe.csv")
        wanted = (
            settings_of(updates, site, change)
            for updates in args.updates
            for change in TRIED
            for site in args.site
        )
        return [trial for trial in wanted if tuple(map(str, trial.values())) not in made]

    for site in args.site:
        _case(args.out, site, args.device)  # its stores are there before several ask for them
    do = functools.partial(tried, out=args.out, device=args.device)
    for row in side_by_side(missing, do, args.jobs, args.minutes):
        record("recipe", row)


if __name__ == "__main__":
    main()
