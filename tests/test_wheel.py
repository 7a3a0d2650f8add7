"""A wheel built from the repository works outside it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = (".git", ".venv", "build", "dist", "demo", "*.egg-info", "__pycache__", ".*_cache")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a fresh virtual environment that holds the wheel, and sees our dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*LEFT_OUT))
    pip = [sys.executable, "-m", "pip", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build, str(folder / "source")], check=True)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("scopeworks-*.whl")
    install = ["--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True)
    (site,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return python


def _run(command: list[str], folder: Path) -> str:
    """What a command prints when it is run outside the repository."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_package_is_the_installed_one(installed: Path, tmp_path: Path):
    where = _run([str(installed), "-c", "import scopeworks; print(scopeworks.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parents[1])


def test_version_and_types_are_in_the_wheel(installed: Path, tmp_path: Path):
    code = """
import scopeworks
from importlib import metadata, resources
print(scopeworks.__version__ == metadata.version("scopeworks"))
print(resources.files("scopeworks").joinpath("py.typed").is_file())
"""
    assert _run([str(installed), "-c", code], tmp_path).split() == ["True", "True"]


def test_command_answers_outside_the_repository(installed: Path, tmp_path: Path):
    shown = _run([str(installed.parent / "scopeworks"), "--help"], tmp_path)
    for command in ("tokenize", "harvest", "store", "train", "sweep", "evaluate", "export", "demo"):
        assert command in shown


@pytest.mark.parametrize("name", ["tiny_gemma2", "tiny_gemma2_it"])
def test_tiny_models_are_in_the_wheel_and_load_with_plain_transformers(
    installed: Path, tmp_path: Path, name: str
):
    code = f"""
from importlib.resources import files
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = str(files("scopeworks.pipelines") / "{name}")
model = AutoModelForCausalLM.from_pretrained(folder)
ids = AutoTokenizer.from_pretrained(folder)("import os", return_tensors="pt").input_ids
print(type(model).__name__, model(ids).logits.isfinite().all().item(), ids[0, 0].item())
"""
    assert _run([str(installed), "-c", code], tmp_path).split() == [
        "Gemma2ForCausalLM",
        "True",
        "2",
    ]


def test_bfloat16_arrays_open_in_zarr_without_importing_us(installed: Path, tmp_path: Path):
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [3],
        "data_type": "bfloat16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3]}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 1.5,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
    }
    (tmp_path / "g" / "a").mkdir(parents=True)
    for folder, document in ((tmp_path / "g", group), (tmp_path / "g" / "a", array)):
        (folder / "zarr.json").write_text(json.dumps(document), encoding="utf-8")
    code = "import zarr; print(zarr.open_group('g', mode='r')['a'][:].astype(float).tolist())"
    assert _run([str(installed), "-c", code], tmp_path).strip() == "[1.5, 1.5, 1.5]"
