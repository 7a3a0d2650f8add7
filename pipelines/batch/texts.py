"""Texts that all targets share: a task's shell script, submit.sh, and the folder's README.md."""

import shlex
from collections.abc import Sequence
from typing import Any

from .jobs import Job, Submission

GRACE_S = 120
"""Seconds between SIGTERM and SIGKILL: time for a checkpoint."""

YIELDED = (75, 143)
"""Exit codes of a task to start again: its inputs are not there yet, or it was told to end."""

USER_ERROR = 2
"""Exit code of an error that another try would not change."""

FAULTS = (1, 74, 134, 135, 137, 139)
"""Exit codes of faults: an exception, files or network, abort, bus error, killed (often for lack of
memory), segmentation fault."""

MARK = "# Written by scopeworks batch."


def quoted(words: Sequence[str]) -> str:
    """Words, quoted for a shell."""
    return " ".join(map(shlex.quote, words))


def heredoc(text: str, target: str) -> str:
    """Shell lines that write a text into a file unchanged, with a newline at its end."""
    end, lines = "SUITE", text.splitlines()
    while end in lines:
        end += "_"
    body = text if text.endswith("\n") else text + "\n"
    return f"cat > {target} <<'{end}'\n{body}{end}\n"


def share_lines(job: Job, index: str) -> str:
    """Shell lines that set `share` from `index`, the task's number among those that are sent."""
    if len(job.shares) == 1:
        return f"share={job.shares[0]}\n"
    if job.shares == tuple(range(len(job.shares))):
        return f'share="{index}"\n'
    return f'set -- {" ".join(map(str, job.shares))}\nshift "{index}"\nshare=$1\n'


def run_line(plan: Submission, job: Job, suite: str, before: Sequence[str] = ()) -> str:
    """The task's command; `suite` is the suite's path as shell text, `before` its launcher."""
    program = quoted([*before, *plan.settings.command])
    return f'{program} run {suite} --share "$share/{job.n_shares}" {quoted(plan.command(job))}'


def start_lines(folder: str) -> str:
    """Shell lines that make the folder where tasks start, and change to it."""
    if not folder:
        return ""
    return f"mkdir -p -- {shlex.quote(folder)} && cd -- {shlex.quote(folder)} || exit 2\n"


def container_script(plan: Submission, job: Job, folder: str, index: str) -> str:
    """A task's script that carries the suite's text, for a container without the file."""
    command = run_line(plan, job, '"$suite"')
    return (
        "set -u\n"
        + share_lines(job, index)
        + 'suite="$(mktemp -d)/suite.toml"\n'
        + heredoc(plan.text, '"$suite"')
        + start_lines(folder)
        + f"exec {command}\n"
    )


def submit_script(target: str, lines: Sequence[str]) -> bytes:
    """submit.sh: sends the jobs, and stops at the first that is refused."""
    head = ["#!/bin/sh", MARK, f"# Sends the jobs of this folder to {target}, in their order."]
    start = ["set -eu", 'here=$(cd -- "$(dirname -- "$0")" && pwd)']
    return ("\n".join([*head, *start, *lines]) + "\n").encode()


WRITTEN = "Written by `scopeworks batch`."
"""In README.md of every folder of jobs: one without it is not replaced."""


def readme(plan: Submission, target: str, notes: Sequence[str]) -> bytes:
    """README.md of the jobs' folder."""
    rows = [
        f"| `{job.stem}` | {len(job.shares):,} of {job.n_shares:,} | {job.task.gpus} | "
        f"{', '.join(job.needs) or '–'} |"
        for job in plan.jobs
    ]
    lines = [
        f"# {plan.name} on {target}",
        "",
        f"{WRITTEN} `sh submit.sh` sends the jobs in this order:",
        "",
        "| job | tasks | GPUs of a task | after |",
        "|---|---|---|---|",
        *rows,
        "",
        "A task exits with 0 when its share is done, with 75 when its inputs are not there yet (it "
        "is run again), with 2 for an error that has to be repaired first. What is done stays: "
        "`scopeworks batch submit` sends what is missing.",
        "",
        *notes,
    ]
    return ("\n".join(lines).rstrip("\n") + "\n").encode()


def yaml_text(*documents: Any) -> bytes:
    """YAML with texts of several lines as blocks, and keys in the given order."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """A dumper of its own, so that PyYAML's global one is not changed."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 100}
    body = yaml.dump_all(documents, Dumper=Dumper, **options)
    return f"{MARK}\n{body}".encode()
