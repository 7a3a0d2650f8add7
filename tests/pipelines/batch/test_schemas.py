"""Rendered jobs under the parsers and schemas of those who will read them."""

import os
import subprocess
from pathlib import Path

import pytest

from scopeworks.pipelines.batch.submit import render
from scopeworks.pipelines.suite.settings import SuiteFile, presets
from scopeworks.tests.pipelines.small_suite import write_suite, write_text

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
FULL = (
    "batch.image=ghcr.io/lab/scopeworks:1",
    "batch.gpu=L4",
    "batch.shares=4",
    "batch.spot=true",
    'batch.environment={MODE="a b"}',
    'batch.mounts={"/mnt/run"="gs://bucket/run"}',
    'batch.gcp-batch.secrets={HF_TOKEN="projects/p/secrets/s/versions/1"}',
    "batch.gcp-batch.service_account=me@p.iam.gserviceaccount.com",
    "batch.gcp-batch.network=projects/p/global/networks/n",
    'batch.kubernetes.claims={"/mnt/disk"="disk"}',
    'batch.kubernetes.secrets={HF_TOKEN="hf/token"}',
    'batch.kubernetes.spot_node_selector={"cloud.google.com/gke-spot"="true"}',
    'batch.kubernetes.tolerations=[{key="gpu", operator="Exists"}]',
    "batch.skypilot.infra=gcp",
    'batch.skypilot.secrets=["HF_TOKEN"]',
    "out=/mnt/run/out",
)


def program(environment: str, name: str) -> str:
    """A program of one of the clients' environments."""
    path = ROOT / ".venv" / environment / "bin" / name
    if not path.exists():
        pytest.skip(f"{environment} is not installed: `make acceptance` does that")
    return str(path)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every preset and a suite with all settings, rendered for every target."""
    folder = tmp_path_factory.mktemp("jobs")
    text = write_text(folder / "text", 1)
    suites = {name: Path(name) for name in presets()} | {"small": write_suite(folder)}
    for target in ("slurm", "gcp-batch", "kubernetes", "skypilot"):
        for name, path in suites.items():
            file = SuiteFile(path, (*FULL, f'text.sources=["{text}"]'))
            render(file, target, folder / target / name)
    return folder


def run(*command: str, home: Path) -> str:
    """A checker's output; it must have ended well."""
    env = os.environ | {"HOME": str(home), "HF_TOKEN": "from the environment"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("target", ["gcp-batch", "kubernetes"])
def test_google_and_kubernetes_take_every_job(target: str, jobs: Path, tmp_path: Path):
    python = program("clients", "python")
    n = run(python, str(HERE / "check_google_kubernetes.py"), str(jobs / target), home=tmp_path)
    files = [path for path in (jobs / target).rglob("*") if path.suffix in (".json", ".yaml")]
    assert int(n) == len(files) >= 6 * (len(presets()) + 1)


@pytest.mark.parametrize(("target", "old"), [("gcp-batch", "taskCount"), ("kubernetes", "args")])
def test_a_misspelt_key_is_refused(target: str, old: str, jobs: Path, tmp_path: Path):
    python = program("clients", "python")
    path = next((jobs / target / "small").glob("02-harvest.*"))
    (tmp_path / path.name).write_text(path.read_text().replace(old, f"{old}s"))
    with pytest.raises(AssertionError, match=f"{old}s"):
        run(python, str(HERE / "check_google_kubernetes.py"), str(tmp_path), home=tmp_path)


def test_skypilot_loads_every_task(jobs: Path, tmp_path: Path):
    python = program("skypilot", "python")
    n = run(python, str(HERE / "check_skypilot.py"), str(jobs / "skypilot"), home=tmp_path)
    assert int(n) >= 6 * (len(presets()) + 1)


def test_scripts_are_clean_under_shellcheck(jobs: Path):
    shellcheck = program("clients", "shellcheck")
    scripts = [*map(str, jobs.rglob("*.sbatch")), *map(str, jobs.rglob("submit.sh"))]
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_dockerfile_is_clean_under_hadolint():
    hadolint = program("clients", "hadolint")
    done = subprocess.run(
        [hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
