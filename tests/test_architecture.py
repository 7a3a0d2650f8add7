"""The rules of the house: who may import whom, and what may not be imported at the top."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "store": set(),
    "harvest": {"store"},
    "train": {"store"},
    "evaluate": {"store", "harvest", "train"},
    "pipelines": {"store", "harvest", "train", "evaluate"},
}
GROUND = {"settings", "console", "foreign", "machine"}
KERNEL_IMPORTS = {"torch", "numpy", "numba", "llvmlite", "triton"}


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """(level, module) of every import in a file; `from .. import x` counts as module x."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module is None:
                yield from ((node.level, alias.name) for alias in node.names)
            else:
                yield node.level, node.module


def _files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def _climbs(path: Path, room: str) -> list[str]:
    """Imports that leave the room for one it may not know."""
    depth = len(path.relative_to(ROOT).parts) - 1
    allowed = ROOMS[room] | GROUND
    bad = []
    for level, module in _imports(path):
        top = module.split(".")[0]
        leaves_room = level == depth + 1
        if (level == 0 and top == "scopeworks") or (leaves_room and top not in allowed | {room}):
            bad.append(f"{path.relative_to(ROOT)} imports {'.' * level}{module}")
    return bad


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_rooms_above_them(room: str):
    files = _files(room)
    assert files
    assert [line for path in files for line in _climbs(path, room)] == []


def test_climbing_import_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "store" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("from ...train import sae\nfrom ...settings import Settings\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert _climbs(folder / "a.py", "store") == ["store/deep/a.py imports ...train"]


def test_kernels_import_only_what_a_bare_gpu_machine_has():
    foreign = {
        (path.name, module)
        for path in _files("train/kernels")
        for level, module in _imports(path)
        if level == 0
        and (top := module.split(".")[0]) not in KERNEL_IMPORTS
        and top not in sys.stdlib_module_names
    }
    assert foreign == set()


def test_modules_import_only_what_make_demo_installs():
    """At their top, that is: what is optional is imported where it is used."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {re.split(r"[\[>; ]", name)[0].replace("-", "_") for name in table["dependencies"]}
    known |= {"distributed", "llvmlite", "google_crc32c", *sys.stdlib_module_names}
    assert "pytest" not in known and "sae_lens" not in known
    foreign = set()
    for path in (path for room in ROOMS for path in _files(room)):
        optional = {"triton"} if path.name.startswith("triton") else set()
        top = ast.parse(path.read_text(encoding="utf-8")).body
        for node in top:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            roots = {name.split(".")[0] for name in names} - known - optional
            foreign |= {(path.name, root) for root in roots}
    assert foreign == set()
    rule = (ROOT / "Makefile").read_text(encoding="utf-8").split("$(READY): ")[1]
    assert "--editable .\n" in rule.split("$(READY_DEV): ")[0]


def test_help_imports_nothing_heavy():
    code = (
        "import sys, scopeworks.pipelines.cli; "
        "print([m for m in ('torch', 'transformers', 'zarr', 'numba', 'dask', 'matplotlib')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_package_folder_is_in_the_wheel():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(table["tool"]["setuptools"]["packages"])
    found = {
        ".".join(("scopeworks", *path.parent.relative_to(ROOT).parts))
        for room in ROOMS
        for path in _files(room)
    }
    assert found | {"scopeworks"} == listed
