"""The suite file's `[batch]` table: a task's resources, image, mounts and secrets.

Owns the settings and their rules. No setting holds a secret's value: it names the place where the
batch system keeps it. The module of a target turns the settings into jobs.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from ...settings import Settings, from_table

Table = dict[str, Any]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"(^|_)(token|key|secret|password|passwd|credentials?)(_|$)", re.IGNORECASE)
_KUBERNETES_SECRET = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}/[A-Za-z0-9._-]+")
_GOOGLE_SECRET = re.compile(r"projects/[^/\s]+/secrets/[^/\s]+/versions/[^/\s]+")
_SOURCES = ("gs://", "s3://", "nfs://")


def looks_secret(name: str) -> bool:
    """Whether a value of this name is likely to be a secret."""
    return _SECRET.search(name) is not None


def _names(values: Iterable[str], what: str) -> None:
    """Raises ValueError if a value is not the name of an environment variable."""
    for name in values:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"must have {what} like HF_TOKEN, got {name!r}")


def _references(values: dict[str, str], form: re.Pattern[str], example: str) -> dict[str, str]:
    """Checks that secrets are references. Errors do not show a value: it may be the secret."""
    _names(values, "names of environment variables")
    for name, reference in values.items():
        if not form.fullmatch(reference):
            raise ValueError(f"must say where {name} is kept, as {example}; never its value")
    return values


class TaskSettings(Settings):
    """Resources and restarts of a task; `[batch.steps.STEP]` overrides them for one step."""

    gpus: NonNegativeInt = 1
    """GPUs of a task, in steps that a GPU makes faster; other steps get GPUs only by their own
    table. One GPU harvests a bucket or trains a group of SAEs."""
    gpu: str = ""
    """Kind of GPU by its common name (H100, A100-80GB, A100, L4, T4); by default any."""
    cpus: PositiveInt = 8
    """Cores of a task; eight are enough to feed a GPU with text and compress its rows."""
    memory_gib: PositiveInt = 32
    """Memory of a task, GiB; the default holds a 2B model in float32 twice and a bucket of one
    site."""
    disk_gib: PositiveInt = 50
    """Boot disk of the machine, GiB, for the image and the model."""
    hours: float = Field(default=24, gt=0, le=24 * 14)
    """Hours after which a task is stopped and, if the target can do it, started again."""
    spot: bool = False
    """Use spot machines, which are cheaper and may be taken away at any time."""
    retries: NonNegativeInt = 3
    """How often a failed task is started again. Errors that the user has to repair (exit code 2)
    are not tried again."""
    waits: NonNegativeInt = 100
    """How often a task is started again whose inputs were not there yet or whose machine was
    taken."""
    parallelism: PositiveInt | None = None
    """Most tasks of a step at once; by default all."""


class SlurmSettings(Settings):
    """`[batch.slurm]`: how jobs are sent to Slurm."""

    partition: str = ""
    """Partition; by default the cluster's default."""
    account: str = ""
    """Account that is charged."""
    qos: str = ""
    """Quality of service; use a preemptible one for spot machines."""
    constraint: str = ""
    """Features that nodes must have."""
    gpu_type: str = ""
    """The cluster's own name for the kind of GPU; by default any."""
    logs: str = "logs"
    """Folder of the tasks' logs, as the tasks' nodes see it; made when jobs are submitted."""
    setup: tuple[str, ...] = ()
    """Shell lines before the command, for example `module load cuda` or `. venv/bin/activate`."""
    launcher: tuple[str, ...] = ()
    """Words before the command; {image} becomes the image's name: ["apptainer", "exec", "--nv",
    "{image}"]."""
    extra: tuple[str, ...] = ()
    """More options of sbatch, for example --exclude=node7."""
    secrets: dict[str, str] = Field(default_factory=dict)
    """Environment variable -> file on the nodes that holds its value and that only you can read."""

    @field_validator("secrets")
    @classmethod
    def _are_files(cls, value: dict[str, str]) -> dict[str, str]:
        return _references(value, re.compile(r"[/~][^\n]*"), "an absolute path or ~/…")

    @field_validator("extra")
    @classmethod
    def _are_options(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for option in value:
            if not option.startswith("-"):
                raise ValueError(f"must be options of sbatch, got {option!r}; write --name=value")
        return value


class GoogleSettings(Settings):
    """`[batch.gcp-batch]`: how jobs are sent to Google Batch."""

    project: str = ""
    """Project; by default gcloud's current one."""
    region: str = "us-central1"
    """Region; the default has every kind of GPU that `gpu` can name."""
    machine_type: str = ""
    """Machine type; by default the one of the GPU, or any that has the cores and memory."""
    accelerator: str = ""
    """Accelerator type, for a GPU that `gpu` cannot name; needs machine_type."""
    service_account: str = ""
    """E-mail of the service account of the tasks; by default the project's."""
    network: str = ""
    """Network, as projects/P/global/networks/N; by default the project's."""
    subnetwork: str = ""
    """Subnetwork, as projects/P/regions/R/subnetworks/S."""
    secrets: dict[str, str] = Field(default_factory=dict)
    """Environment variable -> Secret Manager version, projects/P/secrets/S/versions/V."""

    @field_validator("secrets")
    @classmethod
    def _are_versions(cls, value: dict[str, str]) -> dict[str, str]:
        return _references(value, _GOOGLE_SECRET, "projects/P/secrets/S/versions/V")


class KubernetesSettings(Settings):
    """`[batch.kubernetes]`: how jobs are sent to Kubernetes (1.29 or newer)."""

    namespace: str = Field(default="default", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    """Namespace of the jobs."""
    claims: dict[str, str] = Field(default_factory=dict)
    """Path -> persistent volume claim that is mounted there (ReadWriteMany)."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes."""
    spot_node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of spot nodes, added if `spot` is true; GKE's is cloud.google.com/gke-spot."""
    tolerations: tuple[Table, ...] = ()
    """Tolerations, as in a pod's specification."""
    gpu_resource: str = "nvidia.com/gpu"
    """Name of the cluster's GPU resource."""
    service_account: str = ""
    """Service account of the pods."""
    secrets: dict[str, str] = Field(default_factory=dict)
    """Environment variable -> NAME/KEY of a Kubernetes Secret."""

    @field_validator("secrets")
    @classmethod
    def _are_keys(cls, value: dict[str, str]) -> dict[str, str]:
        return _references(value, _KUBERNETES_SECRET, "NAME/KEY of a Secret")

    @field_validator("claims")
    @classmethod
    def _are_absolute(cls, value: dict[str, str]) -> dict[str, str]:
        return _absolute(value)


class SkyPilotSettings(Settings):
    """`[batch.skypilot]`: how managed jobs are sent to SkyPilot."""

    infra: str = ""
    """Cloud or region: `gcp`, `gcp/us-central1` or `kubernetes`; by default the cheapest."""
    accelerators: str = ""
    """GPUs in SkyPilot's notation, as {H100:1, A100-80GB:1}; by default `gpu` and `gpus`."""
    strategy: Literal["FAILOVER", "EAGER_NEXT_REGION"] = "EAGER_NEXT_REGION"
    """SkyPilot's rule for where a task restarts when its machine was taken."""
    secrets: tuple[str, ...] = ()
    """Environment variables whose values SkyPilot's client takes from your environment."""

    @field_validator("secrets")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        _names(value, "names of environment variables")
        return value


class BatchSettings(TaskSettings):
    """`[batch]`: how a suite's steps run as jobs."""

    model_config = ConfigDict(populate_by_name=True)

    image: str = ""
    """Container image of the tasks; docs/batch.md says how to build and push it."""
    command: tuple[str, ...] = ("scopeworks",)
    """The program, as words; for example ["python", "-m", "scopeworks"]."""
    workdir: str = ""
    """Absolute folder in which tasks start, from which the suite's relative paths count. By default
    the first mount; for Slurm the folder from which jobs are submitted."""
    shares: PositiveInt | None = None
    """Most tasks of a step; by default as many as have work."""
    wait_minutes: float = Field(default=30, ge=0)
    """Minutes that a task waits for its inputs before it ends and frees its machine."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the tasks; secrets are refused."""
    mounts: dict[str, str] = Field(default_factory=dict)
    """Absolute path -> gs://bucket/prefix, s3://bucket/prefix or nfs://server/folder to mount
    there. Slurm mounts nothing: a task ends with exit code 2 if the path is not a folder."""
    steps: dict[str, Table] = Field(default_factory=dict)
    """Step -> settings of its tasks: [batch.steps.train] memory_gib = 128."""
    slurm: SlurmSettings = Field(default_factory=SlurmSettings)
    google: GoogleSettings = Field(default_factory=GoogleSettings, alias="gcp-batch")
    kubernetes: KubernetesSettings = Field(default_factory=KubernetesSettings)
    skypilot: SkyPilotSettings = Field(default_factory=SkyPilotSettings)

    def task(self, step: str, gpus: int) -> TaskSettings:
        """The settings of a step's tasks.

        Args:
            step: name of the step.
            gpus: GPUs of a task, unless the step's own table gives them.
        """
        shared = self.model_dump(include=set(TaskSettings.model_fields))
        own = self.steps.get(step, {})
        return from_table(TaskSettings, shared | {"gpus": gpus} | own, f"steps.{step}")

    @field_validator("environment")
    @classmethod
    def _no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        _names(value, "names of environment variables")
        for name in filter(looks_secret, value):
            raise ValueError(
                f"must hold no secret, got {name}; name it in secrets of the target's table, which "
                "say where it is kept"
            )
        return value

    @field_validator("mounts")
    @classmethod
    def _mounts(cls, value: dict[str, str]) -> dict[str, str]:
        for source in value.values():
            if not source.startswith(_SOURCES) or not source.split("://")[1].strip("/"):
                raise ValueError(f"must be of {', '.join(_SOURCES)}, got {source!r}")
        return _absolute(value)

    @field_validator("workdir")
    @classmethod
    def _folder(cls, value: str) -> str:
        return next(iter(_absolute({value: ""}))) if value else value

    @field_validator("command")
    @classmethod
    def _some_command(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(value):
            raise ValueError("must be the words of a command")
        return value

    @model_validator(mode="after")
    def _steps_fit(self) -> "BatchSettings":
        for step in self.steps:
            self.task(step, self.gpus)
        return self


def _absolute(paths: dict[str, str]) -> dict[str, str]:
    """The same table with normal absolute paths: without "." and without a slash at the end."""
    for path in paths:
        if not path.startswith("/") or ".." in PurePosixPath(path).parts or "\n" in path:
            raise ValueError(f"must have absolute paths, got {path!r}")
    return {str(PurePosixPath(path)): value for path, value in paths.items()}
