"""Old import paths give the modules that are there now."""

import subprocess
import sys
from importlib import import_module

import pytest

from scopeworks.moved import MOVED


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_old_paths_are_the_new_modules(old, new):
    there = import_module(f"scopeworks.{new}")
    assert import_module(f"scopeworks.{old}") is there
    assert there.__spec__ is not None
    assert there.__name__ == there.__spec__.name == f"scopeworks.{new}"


def test_old_paths_work_in_a_new_process_and_before_the_new_ones():
    code = (
        "from scopeworks.harvest.hooks import capture\n"
        "from scopeworks.harvest.model import load_model\n"
        "from scopeworks.train.sae import SAE\n"
        "import scopeworks.store.reader, scopeworks.store.bfloat16\n"
        "from scopeworks.store import ActivationStore\n"
        "assert scopeworks.store.reader.ActivationStore is ActivationStore\n"
        "print(capture.__module__, load_model.__module__, SAE.__module__)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "scopeworks.harvest.model.hooks",
        "scopeworks.harvest.model.loading",
        "scopeworks.train.sae.sae",
    ]


def test_other_names_are_still_not_there():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'scopeworks\.store\.guard'"):
        import_module("scopeworks.store.guard")
