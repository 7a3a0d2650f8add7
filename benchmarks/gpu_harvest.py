"""The time of harvesting a Gemma 2 2B on a GPU, beyond its forward pass. Called by gpu.py.

Random weights in bfloat16 and random tokens; cases and timing are those of `benchmarks/harvest.py`.
Skipped if a package that harvesting needs is missing.
"""

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from gpu_part import Part


def main() -> None:
    """Times the forward pass, one site and three sites in turns, while there is time."""
    part = Part("harvest")
    if not part.runs:
        return
    try:
        # By name: in this folder `harvest` is the benchmark, elsewhere the package's folder.
        harvest: Any = importlib.import_module("harvest")
        importlib.import_module("transformers")
    except ImportError as error:
        part.skip("everything", f"{error}; carry the wheels along (gpu.sh --gather)")
        return
    shape, dtype, rows, rounds = ("2b", "bfloat16", 65_280, 5)
    if part.toy:
        shape, dtype, rows, rounds = ("toy", "float32", 510, 1)
    harvest.SHAPES["toy"] = harvest.SHAPES["small"] | {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 8,
        "query_pre_attn_scalar": 8, "vocab_size": 64,
    }  # fmt: skip
    lm = harvest.build(shape, part.device, dtype)
    last = lm.config.num_hidden_layers - 1
    sites = [harvest.Site(kind, last) for kind in ("resid_post", "attn_out", "mlp_out")]
    timed = [
        harvest.forward_case("forward", lm, rows),
        harvest.harvest_case("harvest 1 site", lm, sites[:1], rows),
        harvest.harvest_case("harvest 3 sites", lm, sites, rows),
    ]
    seconds: dict[str, list[np.ndarray]] = {case.name: [] for case in timed}
    with tempfile.TemporaryDirectory() as folder:
        # `measure` runs every case once to warm up.
        while not seconds["forward"] or (part.left() > 0 and len(seconds["forward"]) < rounds):
            for name, found in harvest.measure(timed, 1, Path(folder)).items():
                seconds[name].append(found[0, 0])
    base = np.array(seconds["forward"])
    for case in timed:
        wall = np.array(seconds[case.name])
        over = "" if case.name == "forward" else f"{np.median(wall / base - 1):.3f}"
        row = {"case": case.name, "shape": shape, "dtype": dtype, "rows": case.rows}
        row |= {"seconds": f"{np.median(wall):.3f}", "fastest": f"{wall.min():.3f}"}
        row |= {"slowest": f"{wall.max():.3f}", "repeats": len(wall)}
        part.record(row | {"rows_per_s": f"{case.rows / np.median(wall):.0f}", "overhead": over})


if __name__ == "__main__":
    main()
