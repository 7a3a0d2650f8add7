"""The whole command: its version, and a help that loads nothing heavy."""

import json
import subprocess
import sys

import scopeworks

HEAVY = "torch numba transformers triton dask distributed zarr jaxtyping matplotlib starlette"
CODE = f"""
import json, sys
import typer
from typer.testing import CliRunner
from scopeworks.pipelines.cli import app

found = {{}}
def ask(command, words):
    done = CliRunner().invoke(app, [*words, "--help"])
    loaded = [name for name in {HEAVY.split()!r} if name in sys.modules]
    found[" ".join(words)] = [done.exit_code, loaded, "Usage: " in done.output]
    for name, one in getattr(command, "commands", {{}}).items():
        ask(one, [*words, name])
ask(typer.main.get_command(app), [])
print(json.dumps(found))
"""


def test_help_of_every_command_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert {"", "train", "latents index", "store verify", "batch submit", "plan"} <= set(found)
    assert {words: said for words, said in found.items() if said != [0, [], True]} == {}


def test_version_is_the_package_s_and_nothing_more():
    for flag in ("--version", "-v"):
        done = subprocess.run(
            [sys.executable, "-m", "scopeworks", flag], capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == (f"{scopeworks.__version__}\n", "")
