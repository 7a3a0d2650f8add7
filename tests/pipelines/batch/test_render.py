"""Rendered jobs: what is in them, what is refused, and that shells read back what was meant."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from scopeworks.pipelines.batch.jobs import dns_name
from scopeworks.pipelines.batch.submit import render, submit
from scopeworks.pipelines.batch.targets.table import TARGETS
from scopeworks.pipelines.cli import app
from scopeworks.pipelines.suite.settings import SuiteFile, presets
from scopeworks.tests.pipelines.small_suite import files_below, write_suite, write_text

BATCH = (
    "batch.image=ghcr.io/lab/scopeworks:1",
    "batch.gpu=L4",
    'batch.mounts={"/mnt/run"="gs://bucket/run"}',
    "batch.shares=4",
)


def suite(folder: Path, *changes: str, out: str = "run") -> SuiteFile:
    """A small suite with what every target needs."""
    return SuiteFile(write_suite(folder, out=out), (*BATCH, *changes))


@pytest.mark.parametrize("preset", presets())
@pytest.mark.parametrize("target", TARGETS)
def test_presets_render_for_every_target(target: str, preset: str, tmp_path: Path):
    text = write_text(tmp_path / "text", 1)
    file = SuiteFile(Path(preset), (*BATCH, f'text.sources=["{text}"]', "out=run"))
    plan = render(file, target, tmp_path / "jobs")
    names = {job.stem for job in plan.jobs}
    assert {Path(name).stem for name in files_below(tmp_path / "jobs")} >= names
    assert [job.step for job in plan.jobs][:3] == ["tokenize", "harvest", "train"]


@pytest.mark.parametrize("target", TARGETS)
def test_equal_suites_give_equal_bytes_and_old_jobs_go(target: str, tmp_path: Path):
    file = suite(tmp_path)
    render(file, target, tmp_path / "a")
    (tmp_path / "a" / "07-gone.json").write_text("{}")
    (tmp_path / "a" / "notes.json").write_text("{}")
    render(file, target, tmp_path / "a")
    render(file, target, tmp_path / "b")
    found = files_below(tmp_path / "a")
    assert found.pop("notes.json") == b"{}"
    assert found == files_below(tmp_path / "b")


def test_a_readme_of_something_else_is_not_written_over(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("# My project")
    with pytest.raises(ValueError, match=r"out must be a new file or the README.md of jobs"):
        render(suite(tmp_path), "slurm", tmp_path / "mine")
    assert files_below(tmp_path / "mine") == {"README.md": b"# My project"}


@pytest.mark.parametrize("target", TARGETS)
def test_submit_script_is_a_shell_script(target: str, tmp_path: Path):
    render(suite(tmp_path), target, tmp_path / "jobs")
    for path in (tmp_path / "jobs").glob("*.s*h"):
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_google_has_spot_drivers_retries_and_secrets_by_reference(tmp_path: Path):
    secret = "projects/p/secrets/hf/versions/latest"
    changes = ["batch.spot=true", f'batch.gcp-batch.secrets={{HF_TOKEN="{secret}"}}']
    render(suite(tmp_path, *changes), "gcp-batch", tmp_path / "jobs")
    job = json.loads((tmp_path / "jobs" / "02-harvest.json").read_text())
    group, instance = job["taskGroups"][0], job["allocationPolicy"]["instances"][0]
    assert (group["taskCount"], group["parallelism"]) == (4, 4)
    assert instance["installGpuDrivers"]
    assert instance["policy"]["provisioningModel"] == "SPOT"
    assert instance["policy"]["machineType"] == "g2-standard-8"
    codes = group["taskSpec"]["lifecyclePolicies"][0]["actionCondition"]["exitCodes"]
    assert {50001, 75} <= set(codes) and 2 not in codes
    assert group["taskSpec"]["environment"]["secretVariables"] == {"HF_TOKEN": secret}
    cpu = json.loads((tmp_path / "jobs" / "01-tokenize.json").read_text())
    assert "installGpuDrivers" not in cpu["allocationPolicy"]["instances"][0]


def test_kubernetes_ignores_what_gave_way_and_fails_what_a_user_must_repair(tmp_path: Path):
    changes = [
        'batch.kubernetes.claims={"/mnt/run"="disk"}',
        'batch.kubernetes.secrets={HF_TOKEN="hf/token"}',
        "batch.steps.train.gpus=2",
    ]
    render(suite(tmp_path, *changes), "kubernetes", tmp_path / "jobs")
    job = yaml.safe_load((tmp_path / "jobs" / "03-train.yaml").read_text())
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert [(r["action"], r["onExitCodes"]["values"]) for r in rules[1:]] == [
        ("Ignore", [75, 143]),
        ("FailIndex", [2]),
    ]
    pod = job["spec"]["template"]["spec"]
    task = pod["containers"][0]
    assert task["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert task["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "hf", "key": "token"}
    assert pod["volumes"][1]["persistentVolumeClaim"] == {"claimName": "disk"}
    config = yaml.safe_load((tmp_path / "jobs" / "00-suite.yaml").read_text())
    assert config["data"]["suite.toml"] == suite(tmp_path).text.decode()


@pytest.mark.parametrize("target", ["gcp-batch", "skypilot"])
def test_odd_words_reach_the_program_unchanged(target: str, tmp_path: Path):
    program = tmp_path / 'odd $x\'s "program"'
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\ncat "$2"\n')
    program.chmod(0o755)
    folder = tmp_path / "a b'c$(touch bad)"
    changes = [
        f"batch.command={json.dumps([str(program)])}",
        f"batch.mounts={{{json.dumps(str(folder))}='gs://b'}}",
        "train.steps=13",
        "name=it.is-Odd",
    ]
    render(suite(tmp_path, *changes), target, tmp_path / "jobs")
    if target == "gcp-batch":
        job = json.loads((tmp_path / "jobs" / "02-harvest.json").read_text())
        command = job["taskGroups"][0]["taskSpec"]["runnables"][0]["container"]["commands"]
        variable = "BATCH_TASK_INDEX"
    else:
        task = yaml.safe_load((tmp_path / "jobs" / "02-harvest.yaml").read_text())
        command, variable = ["/bin/sh", "-c", task["run"]], "TASK"
    env = {"PATH": "/usr/bin:/bin", variable: "3"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    words, text = done.stdout.split("\n", 11)[:11], suite(tmp_path).text.decode()
    assert words[0] == "run" and words[2:8] == [
        *["--share", "3/4", "--only", "harvest", "--wait", "30"]
    ]
    assert "train.steps=13" in done.stdout and done.stdout.endswith(text)
    assert folder.is_dir() and not list(tmp_path.rglob("bad"))


def test_only_missing_shares_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    missing = {"harvest": [0, 2, 3], "train": [1]}
    monkeypatch.setattr("scopeworks.pipelines.batch.submit.missing_shares", lambda *_: missing)
    plan = render(suite(tmp_path), "slurm", tmp_path / "jobs", missing_only=True)
    script = (tmp_path / "jobs" / "02-harvest.sbatch").read_text()
    assert [job.step for job in plan.jobs] == ["harvest", "train"]
    assert "--array=0,2-3%3" in script.replace("'", "")
    assert "afterok:$job_harvest" in (tmp_path / "jobs" / "submit.sh").read_text()
    plan = render(suite(tmp_path), "gcp-batch", tmp_path / "g", missing_only=True, ready_only=True)
    assert [job.step for job in plan.jobs] == ["harvest"]
    job = json.loads((tmp_path / "g" / "02-harvest.json").read_text())
    script = job["taskGroups"][0]["taskSpec"]["runnables"][0]["container"]["commands"][2]
    assert 'set -- 0 2 3\nshift "$BATCH_TASK_INDEX"\nshare=$1\n' in script


def test_missing_client_is_named_and_the_files_stay(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="needs the program sbatch, which is not here"):
        submit(suite(tmp_path, out=str(tmp_path / "out")), "slurm", tmp_path / "jobs")
    assert (tmp_path / "jobs" / "submit.sh").is_file()


@pytest.mark.parametrize(
    ("target", "change", "words"),
    [
        ("slurm", "batch.gpuss=1", "unknown setting 'gpuss'; did you mean 'gpus'"),
        ("slurm", "batch.slurm.partitio=x", "did you mean 'partition'"),
        ("slurm", "batch.gcp-batch.regio=x", "did you mean 'region'"),
        ("slurm", "batch.steps.train.memory=1", "unknown setting 'memory'"),
        ("slurm", "batch.steps.trian.gpus=1", r"no step 'trian'; did you mean 'train'"),
        ("slrum", "seed=1", "target must be one of .*did you mean 'slurm'"),
        ("kubernetes", 'batch.image=""', "image must be given for kubernetes"),
        ("gcp-batch", "out=/elsewhere", "out must be on a mount of the jobs, got /elsewhere"),
        ("gcp-batch", 'batch.gpu="H300"', "gpu must be one of .*got 1 of H300"),
        ("skypilot", 'batch.gpu=""', "gpu must be given for skypilot"),
        ("slurm", 'batch.environment={HF_TOKEN="abc"}', "must hold no secret, got HF_TOKEN"),
        ("slurm", 'storage_options={secret="abc"}', "would travel in the jobs' text"),
        ("slurm", 'stores="s3://me:word@host/b"', "a URL holds a password"),
        ("slurm", 'batch.slurm.secrets={A="hf_value"}', "where A is kept, as an absolute path"),
        ("kubernetes", "batch.spot=true", "spot_node_selector must be given where spot is true"),
        ("skypilot", 'batch.mounts={"/m"="nfs://h/x"}', "skypilot mounts gs:// and s3://"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(target, change, words, tmp_path: Path):
    with pytest.raises(ValueError, match=words):
        render(suite(tmp_path, change), target, tmp_path / "jobs")
    assert not (tmp_path / "jobs").exists()


def test_names_fit_every_batch_system():
    assert dns_name("demo", "train") == "demo-train"
    names = [dns_name("Demo_1.x", "train"), dns_name("Demo.1_x", "train"), dns_name("9b" * 60, "t")]
    assert len(set(names)) == 3
    assert all(len(name) <= 50 and name[0].isalpha() and name.islower() for name in names)


def test_the_commands_render_and_explain(tmp_path: Path):
    path = str(write_suite(tmp_path))
    done = CliRunner().invoke(
        app, ["batch", "render", path, "--target", "slurm", "--out", str(tmp_path / "jobs")]
    )
    assert done.exit_code == 0 and "6 jobs" in done.output
    assert "| `01-tokenize` |" in (tmp_path / "jobs" / "README.md").read_text()
