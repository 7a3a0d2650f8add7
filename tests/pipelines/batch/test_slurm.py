"""Rendered jobs, accepted and run by a real Slurm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scopeworks.pipelines.batch.submit import render
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.tests.pipelines.slurm_node import SlurmNode
from scopeworks.tests.pipelines.small_suite import files_below, write_suite
from scopeworks.tests.store.clouds import BUCKET

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

STAND_IN = """\
#!/bin/sh
# Writes its words down and ends with what the test wants of this step and share.
echo "$@" >> "$SEEN"
wanted="$CODES/$6.${4%%/*}"
[ -f "$wanted" ] || exit 0
read -r code < "$wanted"
sed -i 1d "$wanted"
[ -s "$wanted" ] || rm -f "$wanted"
exit "$code"
"""
SMALL = ("batch.gpus=0", "batch.cpus=1", "batch.memory_gib=1", "batch.shares=2", "batch.hours=1")


def send(slurm: SlurmNode, file: SuiteFile, folder: Path) -> dict[str, str]:
    """Renders and sends a suite; step -> number of its job."""
    plan = render(file, "slurm", folder / "jobs")
    done = subprocess.run(
        ["sh", str(folder / "jobs" / "submit.sh")],
        cwd=folder,
        env=slurm.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sent = [line.split(": job ") for line in done.stdout.splitlines()]
    assert [step for step, _ in sent] == [job.step for job in plan.jobs]
    return dict(sent)


def stand_in(folder: Path, **codes: str) -> SuiteFile:
    """A suite whose program ends with these codes: step_share="75 75" is twice 75, then 0."""
    folder.mkdir()
    (folder / "codes").mkdir()
    for name, text in codes.items():
        (folder / "codes" / name.replace("_", ".")).write_text(text.replace(" ", "\n") + "\n")
    program = folder / "the program"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    environment = f'{{SEEN={json.dumps(str(folder / "seen"))}, CODES="{folder / "codes"}"}}'
    changes = [
        f"batch.command={json.dumps([str(program)])}",
        f"batch.environment={environment}",
        "batch.retries=1",
        "batch.waits=2",
    ]
    return SuiteFile(write_suite(folder), (*SMALL, *changes))


def states(slurm: SlurmNode, jobs: dict[str, str]) -> dict[str, tuple[str, int]]:
    """Waits; step, with its share if it has several -> state and restarts."""
    ended = slurm.wait(jobs.values())
    steps = {number: step for step, number in jobs.items()}
    found = {}
    for name, job in ended.items():
        number, _, task = name.partition("_")
        key = f"{steps[number]}.{task}" if task else steps[number]
        found[key] = (job["JobState"], int(job["Restarts"]))
    return found


def test_tasks_run_in_order_and_those_that_gave_way_run_again(slurm: SlurmNode, tmp_path: Path):
    folder = tmp_path / "it's a $folder"
    jobs = send(slurm, stand_in(folder, harvest_1="75 75", train_0="1"), folder)
    found = states(slurm, jobs)
    assert {state for state, _ in found.values()} == {"COMPLETED"}
    assert found["harvest.1"][1] == 2 and found["harvest.0"][1] == 0
    assert sum(restarts for _, restarts in found.values()) == 3
    seen = [line.split()[5] for line in (folder / "seen").read_text().splitlines()]
    assert seen[0] == "tokenize" and seen.count("harvest") == 4
    assert seen.index("train") > max(i for i, step in enumerate(seen) if step == "harvest")
    assert set(seen[-2:]) == {"release", "report"}
    assert list((folder / "logs").glob(f"small-harvest-{jobs['harvest']}_1.log"))


def test_what_a_user_must_repair_is_not_tried_again_and_later_steps_go(slurm, tmp_path: Path):
    folder = tmp_path / "suite"
    found = states(slurm, send(slurm, stand_in(folder, harvest_0="2"), folder))
    assert found["harvest.0"] == ("FAILED", 0)
    assert found["tokenize"][0] == found["harvest.1"][0] == "COMPLETED"
    later = {
        name: state for name, (state, _) in found.items() if name[0] in "ter" and name[1] != "o"
    }
    assert later and set(later.values()) == {"CANCELLED"}


def test_a_fault_and_an_endless_wait_are_given_up(slurm: SlurmNode, tmp_path: Path):
    folder = tmp_path / "suite"
    codes = {"harvest_0": "1 1 1 1", "harvest_1": "75 75 75 75"}
    found = states(slurm, send(slurm, stand_in(folder, **codes), folder))
    assert found["harvest.0"] == ("FAILED", 1)
    assert found["harvest.1"] == ("FAILED", 2)


def in_a_bucket(options: dict[str, str]) -> tuple[str, dict[str, str]]:
    """What a suite says first to keep tokens, stores and checkpoints in a bucket, and what its
    tasks find in their environment."""
    shown = ", ".join(f"{k} = {json.dumps(v)}" for k, v in options.items())
    places = [f'{name} = "gs://{BUCKET}/{name}"' for name in ("tokens", "stores", "checkpoints")]
    names = ("STORAGE_EMULATOR_HOST", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT")
    head = "\n".join([*places, f"storage_options = {{{shown}}}"])
    return head, {name: os.environ[name] for name in names}


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_a_suite_through_slurm_ends_in_the_release_of_a_plain_run(
    slurm, tmp_path: Path, where: str, request
):
    """One task of train is killed once it has begun to train and before it ends."""
    for name in ("plain", "slurm"):
        (tmp_path / name).mkdir()
    subprocess.run(
        [sys.executable, "-m", "scopeworks", "run", str(write_suite(tmp_path / "plain"))],
        check=True,
        capture_output=True,
    )
    folder = tmp_path / "slurm"
    killer = folder / "killed once"
    killer.write_text(
        "#!/bin/sh\n"
        f'if [ "$6" = train ] && mkdir "{folder}/once" 2>/dev/null; then\n'
        f'  {sys.executable} -m scopeworks "$@" & task=$!\n'
        f'  until ls "{folder}"/out/saes/*/metrics.jsonl > /dev/null 2>&1; do\n'
        "    kill -0 $task || break; sleep 0.1\n"
        "  done\n"
        f'  kill -9 $task; wait $task; code=$?; echo $code > "{folder}/once/code"; exit $code\n'
        "fi\n"
        f'exec {sys.executable} -m scopeworks "$@"\n'
    )
    killer.chmod(0o755)
    options = request.getfixturevalue("bucket") if where == "bucket" else None
    head, more = ("", {}) if options is None else in_a_bucket(options)
    given = {"OMP_NUM_THREADS": "1"} | more
    environment = ", ".join(f"{k} = {json.dumps(v)}" for k, v in given.items())
    changes = (
        f"batch.command={json.dumps([str(killer)])}",
        f"batch.environment={{{environment}}}",
    )
    file = SuiteFile(write_suite(folder, head=head), (*SMALL, *changes))
    found = states(slurm, send(slurm, file, folder))
    logs = {path.name: path.read_text()[-300:] for path in (folder / "logs").iterdir()}
    assert {state for state, _ in found.values()} == {"COMPLETED"}, (found, logs)
    assert (folder / "once" / "code").read_text() == "137\n"
    assert sum(n for name, (_, n) in found.items() if name.startswith("train")) >= 1
    release = files_below(folder / "out" / "release")
    assert release == files_below(tmp_path / "plain" / "out" / "release") and release
