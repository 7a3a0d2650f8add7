"""SkyPilot: one task YAML for each step, one managed job for each share.

A managed job restarts when its machine was taken. Jobs have no order: a task whose inputs are not
there waits, then exits with 75 and is started again. SkyPilot has no setting for exit codes that
must not be tried again, so exit code 2 is tried as often as a fault.
"""

import shlex
from typing import Any

from ..jobs import Job, Submission, check_out_is_kept, dns_name, start_folder
from ..texts import YIELDED, container_script, quoted, readme, submit_script, yaml_text


def render(plan: Submission) -> dict[str, bytes]:
    """Files of the folder: YAML, submit.sh, README.md.

    Raises:
        ValueError: naming a setting that SkyPilot needs or cannot do.
    """
    check_out_is_kept(plan, list(plan.settings.mounts), "[batch.mounts]")
    files = {f"{job.stem}.yaml": yaml_text(_task(plan, job)) for job in plan.jobs}
    lines = [line for job in plan.jobs for line in _submit_lines(plan, job)]
    notes = [
        "`sky jobs queue` shows the jobs, `sky jobs logs ID` a task's log. Jobs have no order: "
        " tasks wait for their inputs. `submit --ready` sends only what can begin at once."
    ]
    return files | {
        "submit.sh": submit_script("SkyPilot", lines),
        "README.md": readme(plan, "SkyPilot", notes),
    }


def _submit_lines(plan: Submission, job: Job) -> list[str]:
    """Lines that launch a managed job for each share; the client takes secrets by name from its
    environment."""
    secrets = quoted(
        [word for name in plan.settings.skypilot.secrets for word in ("--secret", name)]
    )
    name = dns_name(plan.name, job.step, longest=45)
    launch = (
        f'sky jobs launch --yes --detach-run --name {name}-"$task" --env TASK="$task" '
        f'{secrets + " " if secrets else ""}"$here/{job.stem}.yaml"'
    )
    if len(job.shares) == 1:
        return ["task=0", launch]
    numbers = " ".join(map(str, range(len(job.shares))))
    return [f"for task in {numbers}; do", f"  {launch}", "done"]


def _task(plan: Submission, job: Job) -> dict[str, Any]:
    settings, sky, task = plan.settings, plan.settings.skypilot, job.task
    resources: dict[str, Any] = {
        "cpus": f"{task.cpus}+",
        "memory": f"{task.memory_gib}+",
        "disk_size": task.disk_gib,
        "use_spot": task.spot,
        "job_recovery": {
            "strategy": sky.strategy,
            "max_restarts_on_errors": task.retries,
            "recover_on_exit_codes": list(YIELDED),
        },
    }
    if task.gpus:
        resources["accelerators"] = _accelerators(plan, job)
    if sky.infra:
        resources["infra"] = sky.infra
    if settings.image:
        resources["image_id"] = f"docker:{settings.image}"
    folder = start_folder(settings, list(settings.mounts))
    limit = shlex.quote(f"{task.hours:g}h")
    script = container_script(plan, job, folder, "$TASK")
    before, _, command = script.rpartition("exec ")
    found: dict[str, Any] = {
        "name": dns_name(plan.name, job.step, longest=45),
        "resources": resources,
        "envs": {"TASK": "0"} | dict(sorted(settings.environment.items())),
        "file_mounts": {path: _mount(path, source) for path, source in settings.mounts.items()},
        "run": f"{before}exec timeout {limit} {command}",
    }
    if sky.secrets:
        found["secrets"] = dict.fromkeys(sky.secrets)
    return found


def _accelerators(plan: Submission, job: Job) -> str:
    task = job.task
    if plan.settings.skypilot.accelerators:
        return plan.settings.skypilot.accelerators
    if not task.gpu:
        raise ValueError(
            "[batch] gpu must be given for skypilot, which has no default kind; for example L4 or "
            "H100"
        )
    return f"{task.gpu}:{task.gpus}"


def _mount(path: str, source: str) -> dict[str, str]:
    if source.startswith("nfs://"):
        raise ValueError(f"[batch.mounts] {path}: skypilot mounts gs:// and s3://, got {source}")
    return {"source": source.rstrip("/"), "mode": "MOUNT"}
