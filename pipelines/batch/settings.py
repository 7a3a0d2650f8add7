"""The suite file's `[batch]` table: what a task gets, where it runs, what it may know.

Owns the settings and their rules. A secret's value is in none of them: they name where the batch
system keeps it. What a target makes of them is in the file of its name.
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
    """Whether what has this name is likely to be a secret."""
    return _SECRET.search(name) is not None


def _names(values: Iterable[str], what: str) -> None:
    """Raises ValueError if one is no name of an environment variable."""
    for name in values:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"must have {what} like HF_TOKEN, got {name!r}")


def _references(values: dict[str, str], form: re.Pattern[str], example: str) -> dict[str, str]:
    """Checks that secrets are said by reference. A value is not shown: it may be the secret."""
    _names(values, "names of environment variables")
    for name, reference in values.items():
        if not form.fullmatch(reference):
            raise ValueError(f"must say where {name} is kept, as {example}; never its value")
    return values


class TaskSettings(Settings):
    """What one task gets; `[batch.steps.STEP]` overrides it for one step."""

    gpus: NonNegativeInt = 1
    """GPUs of a task of a step that a GPU makes faster; the others get none unless their own table
    says so. One: a harvest bucket and a group of SAEs are a GPU's work."""
    gpu: str = ""
    """Kind of GPU by its common name (H100, A100-80GB, A100, L4, T4); by default any."""
    cpus: PositiveInt = 8
    """Cores of a task; eight keep a GPU fed with text and compress what it makes."""
    memory_gib: PositiveInt = 32
    """Memory of a task, GiB: twice a 2B model in float32 and a bucket of one site."""
    disk_gib: PositiveInt = 50
    """Boot disk of the machine, GiB: the image and the model."""
    hours: float = Field(default=24, gt=0, le=24 * 14)
    """Hours after which a task is stopped and, where the target can, started again."""
    spot: bool = False
    """Whether machines may be taken away at any time, which costs a fraction."""
    retries: NonNegativeInt = 3
    """How often a task that failed is started again. Errors of a user's making (exit code 2) are
    not tried again."""
    waits: NonNegativeInt = 100
    """How often a task is started again that gave way: its inputs were not there yet, or its
    machine was taken."""
    parallelism: PositiveInt | None = None
    """Most tasks of a step at once; by default all."""


class SlurmSettings(Settings):
    """`[batch.slurm]`: how jobs are sent to Slurm."""

    partition: str = ""
    """Partition; by default the cluster's."""
    account: str = ""
    """Account that pays."""
    qos: str = ""
    """Quality of service; a preemptible one is Slurm's spot."""
    constraint: str = ""
    """Features that nodes must have."""
    gpu_type: str = ""
    """The cluster's own name for the kind of GPU; by default any."""
    logs: str = "logs"
    """Folder of the tasks' logs, as the tasks' nodes see it; made when jobs are submitted."""
    setup: tuple[str, ...] = ()
    """Shell lines before the command, for example `module load cuda` or `. venv/bin/activate`."""
    launcher: tuple[str, ...] = ()
    """Words before the command; {image} is the image: ["apptainer", "exec", "--nv", "{image}"]."""
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
    """Project; by default the one that gcloud is set to."""
    region: str = "us-central1"
    """Region; it has every kind of GPU below."""
    machine_type: str = ""
    """Machine type; by default the one of the GPU, or whatever fits cores and memory."""
    accelerator: str = ""
    """Accelerator type, for a GPU that has no default; needs machine_type."""
    service_account: str = ""
    """E-mail of the account that tasks act as; by default the project's."""
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
    """Labels of spot nodes, added where `spot` is true; GKE's is cloud.google.com/gke-spot."""
    tolerations: tuple[Table, ...] = ()
    """Tolerations, as a pod has them."""
    gpu_resource: str = "nvidia.com/gpu"
    """Name of the resource that a GPU is."""
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
    """Where, as `gcp`, `gcp/us-central1` or `kubernetes`; by default where it is cheapest."""
    accelerators: str = ""
    """GPUs in SkyPilot's words, for example {H100:1, A100-80GB:1}; by default `gpu` and `gpus`."""
    strategy: Literal["FAILOVER", "EAGER_NEXT_REGION"] = "EAGER_NEXT_REGION"
    """Where a task goes when its machine was taken."""
    secrets: tuple[str, ...] = ()
    """Environment variables whose values the client takes from its own environment."""

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
    """Absolute folder in which tasks start, and with it the suite's relative paths. By default the
    first mount, and for Slurm the folder from which jobs are submitted."""
    shares: PositiveInt | None = None
    """Tasks of every step that can be shared; by default as many as have work of their own."""
    wait_minutes: float = Field(default=30, ge=0)
    """Minutes that a task waits for its inputs before it gives its machine back."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the tasks, none of them secret."""
    mounts: dict[str, str] = Field(default_factory=dict)
    """Absolute path -> gs://bucket/prefix, s3://bucket/prefix or nfs://server/folder to mount
    there. Slurm mounts nothing: a task ends with 2 where the path is not a folder."""
    steps: dict[str, Table] = Field(default_factory=dict)
    """Step -> its own settings of a task: [batch.steps.train] memory_gib = 128."""
    slurm: SlurmSettings = Field(default_factory=SlurmSettings)
    google: GoogleSettings = Field(default_factory=GoogleSettings, alias="gcp-batch")
    kubernetes: KubernetesSettings = Field(default_factory=KubernetesSettings)
    skypilot: SkyPilotSettings = Field(default_factory=SkyPilotSettings)

    def task(self, step: str, gpus: int) -> TaskSettings:
        """What a task of a step gets.

        Args:
            gpus: of a task, unless the step's own table says it.
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
    """Paths without "." and ".." and a slash at their end."""
    for path in paths:
        if not path.startswith("/") or ".." in PurePosixPath(path).parts or "\n" in path:
            raise ValueError(f"must have absolute paths, got {path!r}")
    return {str(PurePosixPath(path)): value for path, value in paths.items()}
