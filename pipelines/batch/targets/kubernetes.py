"""Kubernetes: one Indexed Job for each step, an index for each share; the suite is a ConfigMap.

Jobs have no order: a task whose inputs are not there waits, then exits with 75 and is started
again. These exits and lost nodes do not count as failures; exit code 2 ends the index at once.
"""

import hashlib
import shlex
from typing import Any

from ..jobs import Job, Submission, check_out_is_kept, dns_name, start_folder
from ..texts import (
    GRACE_S,
    USER_ERROR,
    YIELDED,
    readme,
    run_line,
    share_lines,
    start_lines,
    submit_script,
    yaml_text,
)

_SUITE = "/etc/scopeworks"
_GROUP = 1000
"""Group of the image's user; the mounted disks are given to it."""


def render(plan: Submission) -> dict[str, bytes]:
    """Files of the folder: YAML, submit.sh, README.md.

    Raises:
        ValueError: naming a setting that Kubernetes needs or cannot do.
    """
    settings = plan.settings
    if not settings.image:
        raise ValueError("[batch] image must be given for kubernetes; docs/batch.md builds one")
    check_out_is_kept(plan, _mounts(plan), "[batch.kubernetes.claims] or [batch.mounts]")
    files = {"00-suite.yaml": yaml_text(_config_map(plan))}
    files |= {f"{job.stem}.yaml": yaml_text(_job(plan, job)) for job in plan.jobs}
    space = f"--namespace={shlex.quote(settings.kubernetes.namespace)}"
    lines = [f'kubectl apply {space} -f "$here/00-suite.yaml"']
    lines += [f'kubectl create {space} -f "$here/{job.stem}.yaml"' for job in plan.jobs]
    notes = [
        f"`kubectl get jobs {space} -l suite={dns_name(plan.name)}` shows the jobs, `kubectl logs` "
        "a task's. Jobs have no order: tasks wait for their inputs. `submit --ready` sends only "
        "what can begin at once."
    ]
    return files | {
        "submit.sh": submit_script("Kubernetes", lines),
        "README.md": readme(plan, "Kubernetes", notes),
    }


def _mounts(plan: Submission) -> list[str]:
    """Paths that are mounted; a claim wins over a bucket at the same path."""
    return list(plan.settings.kubernetes.claims | plan.settings.mounts)


def _config_name(plan: Submission) -> str:
    return f"{dns_name(plan.name)}-{hashlib.sha256(plan.text.encode()).hexdigest()[:8]}"


def _config_map(plan: Submission) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": _config_name(plan),
            "namespace": plan.settings.kubernetes.namespace,
            "labels": {"suite": dns_name(plan.name)},
        },
        "immutable": True,
        "data": {"suite.toml": plan.text},
    }


def _job(plan: Submission, job: Job) -> dict[str, Any]:
    labels = {"suite": dns_name(plan.name), "step": dns_name(job.step)}
    uses_buckets = any(volume.get("csi") for volume in _volumes(plan))
    template: dict[str, Any] = {"labels": labels}
    if uses_buckets:
        template["annotations"] = {"gke-gcsfuse/volumes": "true"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": f"{dns_name(plan.name, job.step, longest=45)}-",
            "namespace": plan.settings.kubernetes.namespace,
            "labels": labels,
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": len(job.shares),
            "parallelism": job.at_once,
            "backoffLimitPerIndex": job.task.retries,
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": {"metadata": template, "spec": _pod(plan, job)},
        },
    }


def _failure_rules() -> list[dict[str, Any]]:
    """Which exits end an index, and which do not count; the first rule that fits decides."""
    yielded = {"containerName": "task", "operator": "In", "values": list(YIELDED)}
    users = {"containerName": "task", "operator": "In", "values": [USER_ERROR]}
    lost = {"type": "DisruptionTarget", "status": "True"}
    return [
        {"action": "Ignore", "onPodConditions": [lost]},
        {"action": "Ignore", "onExitCodes": yielded},
        {"action": "FailIndex", "onExitCodes": users},
    ]


def _pod(plan: Submission, job: Job) -> dict[str, Any]:
    kubernetes, task = plan.settings.kubernetes, job.task
    selector = kubernetes.node_selector | (kubernetes.spot_node_selector if task.spot else {})
    if task.spot and not kubernetes.spot_node_selector:
        raise ValueError(
            "[batch.kubernetes] spot_node_selector must be given where spot is true; on GKE "
            '{"cloud.google.com/gke-spot" = "true"}'
        )
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "activeDeadlineSeconds": round(3600 * task.hours),
        "securityContext": {"fsGroup": _GROUP},
        "containers": [_container(plan, job)],
        "volumes": [
            {"name": "suite", "configMap": {"name": _config_name(plan)}},
            *_volumes(plan),
        ],
    }
    if selector:
        pod["nodeSelector"] = dict(sorted(selector.items()))
    if kubernetes.tolerations:
        pod["tolerations"] = [dict(one) for one in kubernetes.tolerations]
    if kubernetes.service_account:
        pod["serviceAccountName"] = kubernetes.service_account
    return pod


def _container(plan: Submission, job: Job) -> dict[str, Any]:
    kubernetes, task = plan.settings.kubernetes, job.task
    script = (
        "set -u\n"
        + share_lines(job, "$JOB_COMPLETION_INDEX")
        + start_lines(start_folder(plan.settings, _mounts(plan)))
        + f"exec {run_line(plan, job, f'{_SUITE}/suite.toml')}\n"
    )
    asked = {"cpu": str(task.cpus), "memory": f"{task.memory_gib}Gi"}
    limits = {"memory": asked["memory"]}
    if task.gpus:
        limits[kubernetes.gpu_resource] = str(task.gpus)
    mounts = [{"name": "suite", "mountPath": _SUITE, "readOnly": True}]
    mounts += [
        {"name": f"mount-{number}", "mountPath": path} for number, path in enumerate(_mounts(plan))
    ]
    return {
        "name": "task",
        "image": plan.settings.image,
        "args": ["/bin/sh", "-c", script],
        "env": _environment(plan),
        "resources": {"requests": asked, "limits": limits},
        "volumeMounts": mounts,
    }


def _environment(plan: Submission) -> list[dict[str, Any]]:
    values = sorted(plan.settings.environment.items())
    found: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in values]
    for name, reference in sorted(plan.settings.kubernetes.secrets.items()):
        secret, _, key = reference.partition("/")
        found.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return found


def _volumes(plan: Submission) -> list[dict[str, Any]]:
    """The mounts' volumes, in the order of `_mounts`."""
    claims = plan.settings.kubernetes.claims
    return [
        {"name": f"mount-{number}"}
        | (
            {"persistentVolumeClaim": {"claimName": claims[path]}}
            if path in claims
            else _volume(path, plan.settings.mounts[path])
        )
        for number, path in enumerate(_mounts(plan))
    ]


def _volume(path: str, source: str) -> dict[str, Any]:
    kind, _, rest = source.partition("://")
    first, _, folder = rest.strip("/").partition("/")
    if kind == "gs":  # GKE's driver for Cloud Storage
        only = f",only-dir={folder}" if folder else ""
        attributes = {"bucketName": first, "mountOptions": f"implicit-dirs{only}"}
        return {"csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}}
    if kind == "nfs":
        return {"nfs": {"server": first, "path": f"/{folder}"}}
    raise ValueError(f"[batch.mounts] {path}: kubernetes mounts gs:// and nfs://, got {source}")
