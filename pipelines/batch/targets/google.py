"""Google Batch: one job for each step as JSON, one task for each share.

Batch (v1) has no order between jobs: a task whose inputs are not there waits, then exits with 75
and is tried again, at most ten times. Batch counts these restarts, faults and lost machines
together.
"""

import shlex
from typing import Any

from ....store.place.files import json_bytes
from ..jobs import Job, Submission, check_out_is_kept, dns_name, start_folder
from ..texts import FAULTS, YIELDED, container_script, readme, submit_script

_MACHINE_LOST = (50001, 50002, 50003, 50005, 50006)
"""Batch's own codes for a machine that was: taken (spot), silent, rebooted, out of time, made
again."""

_MOST_RETRIES = 10

_GPUS = {
    "A100": ("nvidia-tesla-a100", "a2-highgpu-{}g", (1, 2, 4, 8)),
    "A100-80GB": ("nvidia-a100-80gb", "a2-ultragpu-{}g", (1, 2, 4, 8)),
    "H100": ("nvidia-h100-80gb", "a3-highgpu-{}g", (1, 2, 4, 8)),
    "L4": ("nvidia-l4", "g2-standard-{}", (1, 2, 4, 8)),
    "T4": ("nvidia-tesla-t4", "n1-standard-{}", (1, 2, 4)),
}
"""Kind -> accelerator type, machine type, and the numbers of GPUs that such machines have."""

_CORES = {
    "L4": {1: 8, 2: 24, 4: 48, 8: 96},
    "T4": {1: 8, 2: 16, 4: 32},
}
"""Machines that are named by their cores: kind -> {number of GPUs: cores}."""

_DRIVERS = (
    "/var/lib/nvidia/lib64:/usr/local/nvidia/lib64",
    "/var/lib/nvidia/bin:/usr/local/nvidia/bin",
)
"""Folder of the driver on Batch's machines : folder where containers look for it."""


def render(plan: Submission) -> dict[str, bytes]:
    """Files of the folder: JSON, submit.sh, README.md.

    Raises:
        ValueError: naming a setting that Google Batch needs or cannot do.
    """
    if not plan.settings.image:
        raise ValueError("[batch] image must be given for gcp-batch; docs/batch.md builds one")
    mounts = list(plan.settings.mounts)
    check_out_is_kept(plan, mounts, "[batch.mounts]")
    google = plan.settings.google
    files = {f"{job.stem}.json": json_bytes(_job(plan, job)) for job in plan.jobs}
    project = f" --project={shlex.quote(google.project)}" if google.project else ""
    where = f"--location={shlex.quote(google.region)}{project}"
    lines = [
        f"gcloud batch jobs submit {where} "
        f'--job-prefix={dns_name(plan.name, job.step, longest=40)} --config="$here/{job.stem}.json"'
        for job in plan.jobs
    ]
    notes = [
        f"`gcloud batch jobs list {where}` shows the jobs; their logs are in Cloud Logging. "
        "Batch has no order between jobs: tasks wait for their inputs. `submit --ready` sends only "
        "what can begin at once."
    ]
    return files | {
        "submit.sh": submit_script("Google Batch", lines),
        "README.md": readme(plan, "Google Batch", notes),
    }


def _job(plan: Submission, job: Job) -> dict[str, Any]:
    task = job.task
    group: dict[str, Any] = {
        "taskSpec": {
            "runnables": [{"container": _container(plan, job)}],
            "computeResource": {
                "cpuMilli": 1000 * task.cpus,
                "memoryMib": 1024 * task.memory_gib,
            },
            "maxRunDuration": f"{round(3600 * task.hours)}s",
            "maxRetryCount": min(_MOST_RETRIES, max(task.retries, task.waits)),
            "lifecyclePolicies": [
                {
                    "action": "RETRY_TASK",
                    "actionCondition": {"exitCodes": [*_MACHINE_LOST, *YIELDED, *FAULTS]},
                }
            ],
            "volumes": [_volume(path, source) for path, source in plan.settings.mounts.items()],
            "environment": _environment(plan),
        },
        "taskCount": len(job.shares),
        "parallelism": job.at_once,
        "taskCountPerNode": 1,
    }
    labels = {"suite": dns_name(plan.name), "step": dns_name(job.step)}
    return {
        "taskGroups": [group],
        "allocationPolicy": _allocation(plan, job, labels),
        "labels": labels,
        "logsPolicy": {"destination": "CLOUD_LOGGING"},
    }


def _container(plan: Submission, job: Job) -> dict[str, Any]:
    folder = start_folder(plan.settings, list(plan.settings.mounts))
    script = container_script(plan, job, folder, "$BATCH_TASK_INDEX")
    container: dict[str, Any] = {
        "imageUri": plan.settings.image,
        "commands": ["/bin/sh", "-c", script],
    }
    if job.task.gpus:
        # Named volumes replace Batch's default ones, so the mounts are named here too.
        mounts = [f"{path}:{path}:rw" for path in plan.settings.mounts]
        container |= {"volumes": [*mounts, *_DRIVERS], "options": "--privileged"}
    return container


def _environment(plan: Submission) -> dict[str, Any]:
    found = {
        "variables": plan.settings.environment,
        "secretVariables": plan.settings.google.secrets,
    }
    return {name: dict(sorted(values.items())) for name, values in found.items() if values}


def _volume(path: str, source: str) -> dict[str, Any]:
    kind, _, rest = source.partition("://")
    if kind == "gs":
        return {
            "gcs": {"remotePath": rest.strip("/")},
            "mountPath": path,
            "mountOptions": ["--implicit-dirs"],
        }
    if kind == "nfs":
        server, _, folder = rest.partition("/")
        return {"nfs": {"server": server, "remotePath": f"/{folder}"}, "mountPath": path}
    raise ValueError(f"[batch.mounts] {path}: gcp-batch mounts gs:// and nfs://, got {source}")


def _allocation(plan: Submission, job: Job, labels: dict[str, str]) -> dict[str, Any]:
    google, task = plan.settings.google, job.task
    policy: dict[str, Any] = {
        "provisioningModel": "SPOT" if task.spot else "STANDARD",
        "bootDisk": {"sizeGb": str(task.disk_gib)},
    }
    instance: dict[str, Any] = {"policy": policy}
    if task.gpus:
        accelerator, machine = _machine(plan, job)
        policy["machineType"] = machine
        policy["accelerators"] = [{"type": accelerator, "count": str(task.gpus)}]
        instance["installGpuDrivers"] = True
    elif google.machine_type and not google.accelerator:
        policy["machineType"] = google.machine_type
    found: dict[str, Any] = {
        "instances": [instance],
        "location": {"allowedLocations": [f"regions/{google.region}"]},
        "labels": labels,
    }
    if google.service_account:
        found["serviceAccount"] = {"email": google.service_account}
    interface = {"network": google.network, "subnetwork": google.subnetwork}
    if any(interface.values()):
        found["network"] = {
            "networkInterfaces": [{name: value for name, value in interface.items() if value}]
        }
    return found


def _machine(plan: Submission, job: Job) -> tuple[str, str]:
    """Accelerator and machine type of a task's GPUs.

    Raises:
        ValueError: the kind is unknown, or no machine has so many.
    """
    google, gpu, n = plan.settings.google, job.task.gpu or "L4", job.task.gpus
    if google.accelerator and google.machine_type:
        return google.accelerator, google.machine_type
    if gpu not in _GPUS or n not in _GPUS[gpu][2]:
        raise ValueError(
            f"[batch] gpu must be one of {', '.join(_GPUS)} in a number that there is, got {n} of "
            f"{gpu} for {job.step}; or give accelerator and machine_type in [batch.gcp-batch]"
        )
    accelerator, machine, _ = _GPUS[gpu]
    return accelerator, google.machine_type or machine.format(_CORES.get(gpu, {}).get(n, n))
