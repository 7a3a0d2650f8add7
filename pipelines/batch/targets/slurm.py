"""Slurm: one sbatch script for each step, an array task for each share, `afterok` between steps.

A task that fails or whose inputs are missing requeues itself, up to the limits of its settings;
Slurm counts the restarts. A step starts after all tasks of the steps it needs have succeeded; if
one fails for good, Slurm cancels the step.
"""

import shlex

from ..jobs import Job, Submission
from ..texts import (
    GRACE_S,
    MARK,
    USER_ERROR,
    YIELDED,
    heredoc,
    readme,
    run_line,
    start_lines,
    submit_script,
)

_MAX_INDEX = 1000
"""Slurm's default for the largest index of an array task."""


def render(plan: Submission) -> dict[str, bytes]:
    """Files of the folder: scripts, submit.sh, README.md."""
    slurm = plan.settings.slurm
    files = {f"{job.stem}.sbatch": _script(plan, job).encode() for job in plan.jobs}
    folder = plan.settings.workdir
    start = [f"cd -- {shlex.quote(folder)}"] if folder else []
    lines = [*start, f"mkdir -p -- {shlex.quote(slurm.logs)}", *map(_submit_line, plan.jobs)]
    lines += [f'echo "{job.step}: job ${_variable(job.step)}"' for job in plan.jobs]
    notes = [
        f"Logs: `{slurm.logs}/`, one a task. `squeue --me` shows the jobs, `scancel ID` ends one."
    ]
    return files | {
        "submit.sh": submit_script("Slurm", lines),
        "README.md": readme(plan, "Slurm", notes),
    }


def _variable(step: str) -> str:
    return "job_" + "".join(c if c.isalnum() else "_" for c in step)


def _submit_line(job: Job) -> str:
    """The line of submit.sh that sends a job and keeps its id in a variable."""
    after = ":".join(f"${_variable(step)}" for step in job.needs)
    needs = f' --dependency="afterok:{after}" --kill-on-invalid-dep=yes' if after else ""
    return f'{_variable(job.step)}=$(sbatch --parsable{needs} "$here/{job.stem}.sbatch")'


def _options(plan: Submission, job: Job) -> list[str]:
    """The script's options of sbatch."""
    slurm, task = plan.settings.slurm, job.task
    array = job.n_shares > 1
    options = {
        "job-name": f"{plan.name}-{job.step}",
        "array": f"{_ranges(job.shares)}%{job.at_once}" if array else "",
        "output": f"{slurm.logs}/%x-{'%A_%a' if array else '%j'}.log",
        "open-mode": "append",
        "chdir": plan.settings.workdir,
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(task.cpus),
        "mem": f"{task.memory_gib}G",
        "gpus-per-node": ":".join(filter(None, [slurm.gpu_type, str(task.gpus)]))
        if task.gpus
        else "",
        "time": str(max(1, round(60 * task.hours))),
        "signal": f"TERM@{GRACE_S}",
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
    }
    given = [f"--{name}={value}" for name, value in options.items() if value]
    return [*given, "--requeue", *slurm.extra]


def _ranges(numbers: tuple[int, ...]) -> str:
    """Numbers as sbatch takes them: 0,1,2,5 becomes 0-2,5."""
    if numbers[-1] > _MAX_INDEX:
        raise ValueError(f"shares must be at most {_MAX_INDEX + 1:,}, got {numbers[-1] + 1:,}")
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _script(plan: Submission, job: Job) -> str:
    """The sbatch script. It contains the suite's text, because Slurm keeps a submitted script."""
    settings = plan.settings
    head = ["#!/bin/bash", *(f"#SBATCH {_quoted(option)}" for option in _options(plan, job)), MARK]
    share = "share=$SLURM_ARRAY_TASK_ID" if job.n_shares > 1 else "share=0"
    launcher = [word.replace("{image}", settings.image) for word in settings.slurm.launcher]
    step = run_line(plan, job, '"$folder/suite.toml"', before=launcher)
    lines = [
        *head,
        "set -u",
        share,
        "folder=$(mktemp -d) || exit 1\ntrap 'rm -rf -- \"$folder\"' EXIT",
        heredoc(plan.text, '"$folder/suite.toml"').rstrip("\n"),
        *_mount_checks(plan),
        *_environment(plan),
        start_lines(settings.workdir).rstrip("\n"),
        *settings.slurm.setup,
        f'srun --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" {step}',
        "code=$?",
        _requeue(job),
    ]
    return "\n".join(filter(None, lines)) + "\n"


def _mount_checks(plan: Submission) -> list[str]:
    return [
        f"[ -d {shlex.quote(path)} ] || "
        f"{{ echo {shlex.quote(f'error: {path} is not mounted here')} >&2; exit {USER_ERROR}; }}"
        for path in plan.settings.mounts
    ]


def _environment(plan: Submission) -> list[str]:
    """Lines that set variables, and that read secrets on the node from files of the user."""
    values = plan.settings.environment.items()
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values]
    for name, path in plan.settings.slurm.secrets.items():
        place = f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)
        lines.append(f"{name}=$(cat -- {place}) || exit {USER_ERROR}\nexport {name}")
    return lines


def _requeue(job: Job) -> str:
    """The script's end: requeues the task as often as its exit code allows; never after 2."""
    # SLURM_JOB_ID of one of an array's tasks can be the id of the whole array.
    task = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" if job.n_shares > 1 else "$SLURM_JOB_ID"
    return (
        'case "$code" in\n'
        f"  0|{USER_ERROR}) limit=0 ;;\n"
        f"  {'|'.join(map(str, YIELDED))}) limit={job.task.waits} ;;\n"
        f"  *) limit={job.task.retries} ;;\n"
        "esac\n"
        'if [ "${SLURM_RESTART_COUNT:-0}" -lt "$limit" ]; then\n'
        '  echo "exit code $code: queued again" >&2\n'
        f'  scontrol requeue "{task}"\n'
        "fi\n"
        'exit "$code"'
    )


def _quoted(option: str) -> str:
    """An option for a #SBATCH line: quoted as in a shell, but without variables.

    Raises:
        ValueError: it contains a newline.
    """
    if "\n" in option:
        raise ValueError(f"options of sbatch must be of one line, got {option!r}")
    return shlex.quote(option)
