"""The kernels on a machine that has torch, numpy, numba and triton, and nothing else of ours."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
# numba and numpy are the kernels' own, torch brings fsspec along.
THERE = {"torch", "numpy", "numba", "fsspec"}
CODE = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import torch
from scopeworks.train.kernels import StepSettings, TrainState, available_backends
from scopeworks.train.kernels import initial_parameters, step

settings = StepSettings(lr=1e-3, sparsity=1e-3)
for backend in available_backends():
    state, x = TrainState.fresh(initial_parameters(3, 3, 5)), torch.ones(2, 3)
    print(step(state, x, x, settings, backend).path)
"""


def test_a_step_needs_no_other_package():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for names in table["optional-dependencies"].values() for name in names]
    names = {
        name.split(">")[0].split("[")[0].split(";")[0].strip()
        for name in (*table["dependencies"], *extras)
    }
    missing = {name.replace("-", "_") for name in names - THERE - {"triton"}}
    assert "pydantic" in missing
    code = CODE.format(missing=missing | {"distributed"})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "reference/dense" in done.stdout.splitlines()
