"""The names that users import."""

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scopeworks

ROOT = Path(__file__).parents[1]


def test_public_names_are_the_real_classes():
    from scopeworks.store.read.reader import ActivationStore
    from scopeworks.train.sae.sae import SAE

    assert scopeworks.ActivationStore is ActivationStore
    assert scopeworks.SAE is SAE


def test_unknown_name_is_an_attribute_error_with_the_nearest_one():
    with pytest.raises(AttributeError, match=r"no attribute 'Nothing'$"):
        _ = scopeworks.Nothing  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError, match=r"'Activation'; did you mean ActivationStore\?"):
        _ = scopeworks.Activation  # pyright: ignore[reportAttributeAccessIssue]


def test_a_name_of_a_stage_is_an_attribute_error_that_names_the_stage():
    with pytest.raises(AttributeError, match=r"'score_latents'; it is in scopeworks\.evaluate$"):
        _ = scopeworks.score_latents  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError, match=r"'ReleaseFacts'; it is in scopeworks\.pipelines$"):
        _ = scopeworks.ReleaseFacts  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError, match=r"no attribute 'SAE'$"):
        _ = scopeworks.store.SAE  # pyright: ignore[reportAttributeAccessIssue]


def test_version_is_that_of_the_files_that_are_imported():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert scopeworks.__version__ == table["project"]["version"]


def test_import_and_dir_import_nothing_heavy():
    code = (
        "import sys, scopeworks; names = dir(scopeworks); assert 'SAE' in names; "
        "print([m for m in ('torch', 'numpy', 'pydantic', 'zarr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PACKAGES = ("", ".store", ".harvest", ".train", ".evaluate", ".pipelines")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_documented(package: str):
    module = importlib.import_module(f"scopeworks{package}")
    assert module.__all__ and set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        thing = getattr(module, name)
        assert len(inspect.getdoc(thing) or "") > 20, name
        if not inspect.ismodule(thing):
            assert thing.__name__ == name


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_names_that_are_there(package: str):
    module = importlib.import_module(f"scopeworks{package}")
    tree = ast.parse(Path(inspect.getsourcefile(module) or "").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        seen |= {alias.asname: (node.module, alias.name) for alias in node.names}
    (call,) = (node for node in ast.walk(block.orelse[0]) if isinstance(node, ast.Call))
    homes = ast.literal_eval(call.args[1])
    assert seen == {name: (home, name) for name, home in homes.items()}
