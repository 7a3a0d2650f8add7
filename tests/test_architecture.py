"""The rules of the house: who may import whom, and what may not be imported at the top."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
GROUND = (
    "arguments settings settings_errors options console foreign hub_errors machine caches "
    "control_groups moved public_names version verbs"
)
FLOORS = {
    "": [GROUND, "workers store", "harvest train", "evaluate", "pipelines", "__main__"],
    "store": [
        *["place", "format", "which_rows", "read write", "tokens", "tools", "bfloat16", "cli"]
    ],
    "store/format": ["chunks", "values bfloat16 permutations", "sums arrays", "*"],
    "harvest": ["text model", "settings", "settings_beside", "tokens", "rows", "cli"],
    "harvest/model": [
        "families",
        "files sites",
        "config hooks placement vocabulary weights",
        "loading tensors",
    ],
    "harvest/model/families": ["family", "*"],
    "train": ["kernels sae recipe", "settings ranks", "saved frontier", "run", "sweeps", "cli"],
    "train/sweeps": ["groups devices", "group_task prepare", "on_dask", "sweep", "training"],
    "train/sae": [
        "config tensor_file",
        "files",
        "formats",
        "norm_gain choice",
        "hub",
        "sae",
        "export",
    ],
    "train/sae/formats": ["shared", "*", "table"],
    "train/kernels": [
        "row_blocks",
        "settings state precision screen shards",
        "result",
        "reference",
        "cpu triton",
    ],
    "evaluate": [
        "settings saved",
        "measure",
        "run page",
        "study",
        "latents",
        "studies",
        "cli",
    ],
    "evaluate/run": [
        "clean_runs groups timing",
        "measuring saes",
        "job",
        "on_dask",
        "evaluation",
    ],
    "evaluate/study": ["study", "statistics", "entries axes pairs", "write"],
    "evaluate/studies": ["figures choices", "table"],
    "evaluate/latents": [
        "contents",
        "files weights samples",
        "explorer",
        "index explain",
        "score",
        "rate",
        "cli",
    ],
    "evaluate/latents/weights": ["readout largest", "stream nearest logits plane", "directions"],
    "evaluate/latents/files": [
        "manifest records",
        "gathered",
        "features pages scripts tables",
        "explanations",
        "folder",
        "counting",
    ],
    "evaluate/latents/samples": [
        "settings sample_set contexts",
        "samples_file sweep draw",
        "collect",
        "twin",
    ],
    "evaluate/latents/explain": [
        "asking",
        "settings templates shown",
        "explainers",
        "inputs",
        "run",
        "cli",
    ],
    "evaluate/latents/explain/asking": [
        "request settings",
        "answers endpoint local",
        "asker",
        "models",
    ],
    "evaluate/latents/score": [
        "statistics controls",
        "scorers",
        "baseline settings variants summary document",
        "run",
        "cli",
    ],
    "evaluate/latents/score/scorers": ["scorer unigrams", "detection fuzzing simulation", "table"],
    "pipelines": [
        "suite tiny_model",
        "plan release",
        "steps",
        "run",
        "studies batch",
        "cli",
    ],
}
"""Folder -> its entries from the ground up; those on one floor do not know each other. `*` are all
that are not named."""

BRIDGES = {("train/sae", "harvest/model/families")}
"""Arrows beside the floors: the names that a family's sites have elsewhere, and its norm, are
asked for where SAEs are read and written. What is crossed to imports nothing of its own stage."""

ROOMS = ("workers", "store", "harvest", "train", "evaluate", "pipelines")
MOST_ENTRIES = 10
KERNEL_IMPORTS = {"torch", "numpy", "numba", "llvmlite", "triton"}


class Modules:
    """The modules of a tree and what each imports, wherever in the file it does so.

    Attributes:
        imports: path below the root without `.py` -> paths of the modules of ours that it names.
        absolute: lines that import ours by the package's name.
    """

    def __init__(self, root: Path):
        rooms = [entry for entry in FLOORS[""] for entry in entry.split()]
        files = [path for room in rooms for path in sorted((root / room).rglob("*.py"))]
        files += [path for room in rooms if (path := root / f"{room}.py").is_file()]
        self._paths = {path.relative_to(root).with_suffix("").as_posix(): path for path in files}
        self.absolute: list[str] = []
        self.imports = {name: set(self._found(name)) for name in self._paths}

    def _found(self, name: str) -> Iterator[str]:
        package = PurePosixPath(name).parent
        for node in ast.walk(ast.parse(self._paths[name].read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom):
                continue
            if node.level == 0 and (node.module or "").split(".")[0] == "scopeworks":
                self.absolute.append(f"{name} imports {node.module}")
            if node.level == 0:
                continue
            base = package if node.level == 1 else package.parents[node.level - 2]
            base = base.joinpath(*(node.module or "").split("."))
            for alias in node.names:
                yield (
                    self._module((base / alias.name).as_posix())
                    or self._module(base.as_posix())
                    or base.as_posix()
                )

    def _module(self, path: str) -> str | None:
        package = f"{path}/__init__"
        return path if path in self._paths else package if package in self._paths else None


def _entry(path: str, folder: str) -> str | None:
    """The entry of a folder that a module belongs to; None for another folder's, and its own
    `__init__`."""
    prefix = f"{folder}/" if folder else ""
    name = path.removeprefix(prefix).split("/")[0]
    return name if path.startswith(prefix) and name != "__init__" else None


def _inside(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def _arrows(modules: Modules, folder: str) -> set[tuple[str, str]]:
    """Which entry of a folder imports which other."""
    pairs = (
        (_entry(name, folder), _entry(target, folder))
        for name, targets in modules.imports.items()
        for target in targets
        if not any(_inside(name, a) and _inside(target, b) for a, b in BRIDGES)
    )
    return {(a, b) for a, b in pairs if a is not None and b is not None and a != b}


def _climbs(modules: Modules, folder: str) -> list[str]:
    """Imports of a folder's entries that go up, or to another entry of the same floor."""
    floors = FLOORS[folder]
    floor = {name: i for i, names in enumerate(floors) for name in names.split()}
    rest = floor.get("*")
    bad = []
    for a, b in sorted(_arrows(modules, folder)):
        mine, other = floor.get(a, rest), floor.get(b, rest)
        assert mine is not None and other is not None, f"{folder}: {a} or {b} has no floor"
        free = mine == other == rest or (a in GROUND.split() and b in GROUND.split())
        if mine <= other and not free:
            bad.append(f"{folder or 'root'}: {a} imports {b}")
    return bad


def _folders(modules: Modules) -> dict[str, set[str]]:
    """Every folder with code, and its entries."""
    found: dict[str, set[str]] = {"": set()}
    for name in modules.imports:
        parts = name.split("/")
        for depth in range(len(parts)):
            folder = "/".join(parts[:depth])
            found.setdefault(folder, set())
            if parts[depth] != "__init__":
                found[folder].add(parts[depth])
    return found


@pytest.fixture(scope="module")
def modules() -> Modules:
    return Modules(ROOT)


@pytest.mark.parametrize("folder", FLOORS)
def test_entries_import_only_floors_below(modules: Modules, folder: str):
    assert _arrows(modules, folder)
    assert _climbs(modules, folder) == []


@pytest.mark.parametrize(("_start", "end"), BRIDGES)
def test_bridges_end_where_nothing_of_the_stage_is_known(modules: Modules, _start: str, end: str):
    stage = end.split("/", maxsplit=1)[0]
    known = {t for name, targets in modules.imports.items() if _inside(name, end) for t in targets}
    assert known and {t for t in known if _inside(t, stage) and not _inside(t, end)} == set()


def test_no_modules_import_each_other(modules: Modules):
    list(TopologicalSorter(modules.imports).static_order())


def test_ours_is_imported_relatively(modules: Modules):
    assert modules.absolute == []


def test_a_folder_reads_like_a_table_of_contents(modules: Modules):
    long = {name: len(entries) for name, entries in _folders(modules).items() if name}
    assert {name: n for name, n in long.items() if n > MOST_ENTRIES} == {}


def test_tests_mirror_the_folders(modules: Modules):
    code = set(_folders(modules)) | {"reference", "benchmarks", "docs"}
    tests = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*.py")}
    assert {path.as_posix() for path in tests} - {"."} - code == set()


def test_climbing_import_is_found(tmp_path: Path):
    folder = tmp_path / "store" / "read"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text(
        "def f():\n    from ..write import b\n    from ...train import sae\n"
    )
    (tmp_path / "store" / "write").mkdir()
    (tmp_path / "store" / "write" / "b.py").write_text("from ..read.a import f\n")
    (tmp_path / "harvest" / "model" / "families").mkdir(parents=True)
    for name in ("families/__init__", "hooks"):
        (tmp_path / "harvest" / "model" / f"{name}.py").write_text("")
    (tmp_path / "train" / "sae").mkdir(parents=True)
    (tmp_path / "train" / "sae" / "a.py").write_text(
        "from ...harvest.model.families import F\nfrom ...harvest.model.hooks import g\n"
    )
    found = Modules(tmp_path)
    assert _climbs(found, "store") == ["store: read imports write", "store: write imports read"]
    assert _climbs(found, "") == ["root: store imports train", "root: train imports harvest"]
    (tmp_path / "train" / "sae" / "a.py").write_text("from ...harvest.model.families import F\n")
    assert _climbs(Modules(tmp_path), "") == ["root: store imports train"]
    with pytest.raises(ValueError, match="cycle"):
        list(TopologicalSorter(found.imports).static_order())


def _foreign(path: Path) -> Iterator[str]:
    """Other people's modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def test_kernels_import_only_what_a_bare_gpu_machine_has():
    foreign = {
        (path.name, module)
        for path in (ROOT / "train/kernels").rglob("*.py")
        for module in _foreign(path)
        if (top := module.split(".")[0]) not in KERNEL_IMPORTS
        and top not in sys.stdlib_module_names
    }
    assert foreign == set()


def test_kernels_know_nothing_of_ours_but_the_machine(modules: Modules):
    kernels = {name for name in modules.imports if name.startswith("train/kernels/")}
    ours = {target for name in kernels for target in modules.imports[name]} - kernels
    assert ours == {"machine", "caches"}


def test_modules_import_only_what_make_demo_installs():
    """At their top, that is: what is optional is imported where it is used."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {re.split(r"[\[>; ]", name)[0].replace("-", "_") for name in table["dependencies"]}
    known |= {"distributed", "llvmlite", "google_crc32c", *sys.stdlib_module_names}
    assert "pytest" not in known and "sae_lens" not in known
    foreign = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        optional = {"triton"} if path.parent.name == "triton" else set()
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


WRITERS = {
    "store/place/partials.py",
    "store/read/cache.py",
    "train/saved/metrics.py",
    "evaluate/latents/rate/answers.py",
}
"""What writes files: all of them; a cache's, that may be lost; and lines at a file's end."""


def test_files_are_written_in_one_way():
    """By `store/place/files.py`, whose readers see an old file or all of a new one."""
    direct = re.compile(r"""\.write_(text|bytes)\(|open\(["'][wax]|\bsavez?\(path|savefig\(path""")
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    found = {path for path in paths if direct.search(path.read_text(encoding="utf-8"))}
    assert {path.relative_to(ROOT).as_posix() for path in found} == WRITERS


def test_help_imports_nothing_heavy():
    code = (
        "import sys, scopeworks.pipelines.cli, scopeworks.harvest.model.families; "
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
        for path in (ROOT / room).rglob("*.py")
    }
    assert found | {"scopeworks"} == listed


TWINS = {"ByRow", "Entries"}
"""Both backends of the kernels have them: the same things in other memory."""


def test_no_two_public_classes_share_a_name():
    found = Counter(
        node.name
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, n in found.items() if n > 1} == TWINS
