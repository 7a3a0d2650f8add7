"""The settings of a training run: `TrainSettings`, and which of them fit together.

Every row of the recipe in the Gemma Scope report (arXiv 2408.05147, section 3.2; below "the
report") is a field here with its source. Runs nothing: `run.schedules` turns the fields into the
numbers of a step, and `run.trainer` trains.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..arguments import is_one
from ..store.place.files import local_path
from ..store.place.options import CACHE_BYTES, StorageSettings
from ..store.place.place import Place
from . import recipe as recipes

# Settings that may change when a run is continued, because no number of the SAE depends on them.
# Of the store, its content is compared and not its address; of a recipe, the settings it gave.
FREE_ON_RESUME = frozenset(
    {"out", "store", "name", "recipe", "log_every", "checkpoint_every", "checkpoint_minutes"}
    | {"keep_checkpoints", "checkpoints", "measure_rows", "prefetch", "tensorboard"}
    | {"wandb_project", "cache_dir", "cache_bytes", "rank_timeout_s", "parallel"}
)

BACKENDS = ("auto", "reference", "cpu", "triton")

# The step computes in float32: these bounds keep its products, quotients and squares in range.
Factor = Annotated[float, Field(ge=1e-30, le=1e30)]
Price = Annotated[float, Field(ge=0, le=1e3)]
Length = Annotated[float, Field(ge=1e-9, le=1e3)]


class TrainSettings(StorageSettings):
    """One SAE's training. Lengths and losses are in scaled units: x = x_raw / C, so E‖x‖² = 1."""

    store: str | tuple[str, ...]
    """Folder or URL of the activation store. Stores that hold other sites of the same rows may be
    given together and are read as one."""
    site: str
    """Site to train on, such as resid_post.12."""
    out: Path
    """Folder for the trained SAE; of a sweep, for all its SAEs."""
    width: PositiveInt
    """Number of latents, d_sae (Gemma Scope: 2^14 to 2^20)."""
    target_site: str | None = None
    """Site to predict from `site`, such as mlp_out.12. This trains a transcoder, whose encoder is
    not tied to the decoder at the start and has no pre-encoder bias."""
    skip: bool = False
    """Adds a linear skip connection x @ W_skip to a transcoder (Gemma Scope 2)."""
    name: str | None = None
    """Name of a sweep's member, and of a run at Weights & Biases. By default a member's is made
    from the settings that differ."""

    recipe: Literal["report", "auto"] = "report"
    """Source of settings that are not given: `report` takes the Gemma Scope report's, for long
    runs. `auto` fits lr, its warm-up and decay, λ's warm-up, β2, ε and θ to steps, batch and the
    site's width; from 250,000 updates on they are the report's."""
    steps: int = Field(default=250_000, gt=0, lt=10**9)
    """Number of updates. Gemma Scope has 4B tokens at width 2^14, about 1M updates; the default is
    a quarter of that."""
    batch: PositiveInt = 4096
    """Rows per update (Gemma Scope)."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the initial weights."""
    stream_seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the order in which rows are read. Members of a sweep share it."""

    shuffle_rows: PositiveInt | None = None
    """Shuffles rows only within windows of this many, in the order of their sequences; for studies
    of mixing. 1 does not shuffle. All rows stay in memory. By default the store's own shuffle."""

    sparsity: Price = 6e-4
    """λ, the price of one active latent in the loss (Gemma Scope: 6e-4 to 1e-3). Above 1 no latent
    is worth its price."""
    sparsity_warmup_steps: NonNegativeInt = 10_000
    """Updates over which λ rises linearly from 0 (Gemma Scope)."""
    target_l0: float | None = Field(default=None, ge=1e-3)
    """Mean number of active latents to reach. λ is then steered, starting at `sparsity`."""
    steering_gain: Factor = 40.0
    """Speed at which `target_l0` moves λ: log λ changes by up to this times lr per update."""
    penalty: Literal["linear", "quadratic"] = "linear"
    """Penalty of a row: linear λ‖f‖₀ (Gemma Scope), or quadratic λ·c·(‖f‖₀ − L0*)² (Gemma Scope
    2), with L0* the `target_l0`."""
    quadratic_coefficient: Price | None = None
    """c of the quadratic penalty. By default 1/(2·L0*), with which it has the linear penalty's
    slope at 2·L0*, Gemma Scope 2's stated aim; its printed value is 2/L0*."""
    frequency_penalty: Price = 0.0
    """Extra price, in units of λ, of a latent that fires on more than `frequency_limit` of the rows
    (Gemma Scope 2)."""
    frequency_limit: float = Field(default=0.1, gt=0, lt=1)
    """Share of rows above which `frequency_penalty` applies (Gemma Scope 2: 10%)."""

    lr: Factor = 7e-5
    """Learning rate (Gemma Scope)."""
    lr_warmup_steps: NonNegativeInt = 1_000
    """Updates of the learning rate's cosine warm-up (Gemma Scope)."""
    lr_warmup_start: float = Field(default=0.1, ge=0, le=1)
    """Learning rate at the start of the warm-up, as a share of `lr` (Gemma Scope)."""
    lr_decay_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the updates, at the end, over which lr falls linearly to 0. Gemma Scope's report
    mentions no decay."""
    beta2: float = Field(default=0.999, gt=0, lt=1)
    """Adam's β2 (Gemma Scope); β1 is 0."""
    adam_eps: Factor = 1e-8
    """Adam's ε (Gemma Scope)."""

    bandwidth: Length = 1e-3
    """ε, the width of the kernel in θ's pseudo-gradient, in scaled units (Gemma Scope)."""
    theta_start: Length = 1e-3
    """Threshold θ of every latent at the start, in scaled units (Gemma Scope)."""
    theta_form: Literal["raw", "log"] = "raw"
    """Whether Adam moves θ or log θ. With raw θ an update moves it by about lr, so that it reaches
    0.1 in about 1,400 updates instead of 66,000."""
    b_dec_start: Literal["zero", "mean"] = "zero"
    """b_dec at the start: 0 (Gemma Scope), or the mean of the rows to be reconstructed."""
    normaliser: Literal["auto", "measured", "sqrt_width"] = "auto"
    """C, which rows are divided by: the store's sqrt(E‖x‖²), or √n for n channels. auto is measured
    for SAEs, √n for transcoders (Gemma Scope)."""

    device: str = "auto"
    """Device to train on: auto, cpu, cuda or cuda:N. auto takes CUDA where there is one."""
    backend: str = "auto"
    """Kernel of the training step: auto, reference, cpu or triton."""
    encoder: Literal["auto", "float32", "screened", "bfloat16", "tf32"] = "auto"
    """Precision of the encoder's product. `screened` gets float32's numbers faster, from a bfloat16
    product; `auto` takes it where it pays. `bfloat16` and (on CUDA) `tf32` give other numbers."""
    prefetch: PositiveInt = 4
    """Batches read ahead."""
    cache_dir: Path | None = None
    """Folder that keeps what is read of a remote store, for later epochs and runs."""
    cache_bytes: PositiveInt = CACHE_BYTES
    """Most bytes that `cache_dir` keeps of the store; what was not used for longest is removed
    first."""

    parallel: Literal["auto", "latents", "rows"] | None = None
    """What torchrun's processes share: latents (default; same numbers with any number of them), or
    rows, each holding the whole SAE. `auto` takes the one predicted to be faster."""
    rank_timeout_s: float = Field(default=600.0, ge=1, le=30 * 86_400)
    """Seconds that one process of torchrun may keep the others waiting; then the run ends."""

    log_every: PositiveInt = 50
    """Updates between two lines of metrics.jsonl."""
    tensorboard: bool = False
    """Also logs to the folder tensorboard in `out`; needs the extra tensorboard."""
    wandb_project: str | None = None
    """Also logs to this Weights & Biases project, offline by default; needs the extra wandb."""
    dead_after_rows: int = Field(default=1_000_000, gt=0, lt=2**63)
    """Rows without firing after which metrics.jsonl counts a latent as dead."""
    checkpoint_every: PositiveInt = 5_000
    """Updates between checkpoints. One is also written at the end and on SIGINT and SIGTERM."""
    checkpoint_minutes: PositiveFloat | None = None
    """Minutes between checkpoints, in addition to `checkpoint_every`."""
    keep_checkpoints: PositiveInt = 2
    """Number of newest checkpoints to keep."""
    checkpoints: str | None = None
    """Folder or fsspec URL for checkpoints; by default the folder checkpoints in `out`."""
    measure_rows: PositiveInt = 65_536
    """Rows, read after training, on which config.json's L0, FVU and dead share are measured."""

    @model_validator(mode="before")
    @classmethod
    def _by_length(cls, values: Any) -> Any:
        """Fills in the settings that the recipe derives from the run's length and that were not
        given; `resolved_for` does the same for those that it derives from the site."""
        if not isinstance(values, Mapping) or values.get("recipe") != "auto":
            return values
        steps = values.get("steps", cls.model_fields["steps"].default)
        if not (isinstance(steps, int) and steps > 0):
            return values  # the field's own check refuses it
        return recipes.of_length(steps) | dict(values)

    @field_validator("store", mode="before")
    @classmethod
    def _is_store(cls, value: object) -> object:
        """One URL, or several; a list of one becomes its only URL."""
        several = list(value) if isinstance(value, list | tuple) else [value]
        if not several or not all(isinstance(url, str) and url for url in several):
            raise ValueError("must be a URL or a list of URLs")
        return several[0] if len(several) == 1 else tuple(several)

    @field_validator("*", mode="before")
    @classmethod
    def _is_one(cls, value: object, info: ValidationInfo) -> object:
        """Refuses several values, except of stores that are read as one."""
        if not is_one(value) and info.field_name != "store":
            raise ValueError(f"must be one {info.field_name}; train_sweep takes a list")
        return value

    @field_validator("site", "target_site")
    @classmethod
    def _is_site(cls, value: str | None) -> str | None:
        kind, _, layer = (value or "").partition(".")
        if value is not None and not (kind and layer.isdigit()):
            raise ValueError("must be <kind>.<layer>, such as resid_post.12")
        return value

    @field_validator("backend")
    @classmethod
    def _is_backend(cls, value: str) -> str:
        if value.partition("/")[0] not in BACKENDS:
            raise ValueError(f"must be one of {', '.join(BACKENDS)}")
        return value

    @field_validator("device")
    @classmethod
    def _is_device(cls, value: str) -> str:
        kind, _, index = value.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (index and not index.isdigit()):
            raise ValueError("must be auto, cpu, cuda or cuda:N")
        return value

    @field_validator("out", "cache_dir")
    @classmethod
    def _is_local(cls, value: Path | None) -> Path | None:
        return None if value is None else local_path(value)

    @model_validator(mode="after")
    def _settings_fit(self) -> "TrainSettings":
        """Settings that cannot work together are an error."""
        if self.target_l0 is not None and self.target_l0 > self.width:
            raise ValueError(
                f"target_l0 must be at most the width {self.width}, got {self.target_l0}"
            )
        if self.target_l0 is not None and self.sparsity == 0:
            raise ValueError("sparsity must be above 0 with target_l0: it is where λ starts")
        if self.penalty == "quadratic" and self.target_l0 is None:
            raise ValueError("penalty quadratic needs a target_l0")
        if self.skip and self.target_site is None:
            raise ValueError("skip needs a target_site: only a transcoder has a skip connection")
        if self.target_site is not None and self.target_site == self.site:
            raise ValueError("target_site must be another site than site; leave it out for an SAE")
        return self

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> "TrainSettings":
        """An option that would do nothing is an error."""
        reads_remote = any(place.is_remote for place in self.store_places)
        idle = {
            "steering_gain": ("without target_l0", self.target_l0 is None),
            "quadratic_coefficient": ("with penalty linear", self.penalty == "linear"),
            "frequency_limit": ("without frequency_penalty", self.frequency_penalty == 0),
            "frequency_penalty": ("with sparsity 0: it multiplies λ", self.sparsity == 0),
            "lr_warmup_start": ("with lr_warmup_steps 0", self.lr_warmup_steps == 0),
            "lr_decay_share": (
                f"over {self.steps} steps: less than one update",
                not self.decay_steps,
            ),
            "encoder": ("with backend reference, which has one", self.backend == "reference"),
            "cache_dir": ("on a local store", not reads_remote),
            "cache_bytes": ("without cache_dir", self.cache_dir is None),
            "storage_options": (
                "on a local store with local checkpoints",
                not (reads_remote or self.checkpoint_place.is_remote),
            ),
        }
        for name, (why, without_effect) in idle.items():
            if without_effect and self._changed(name):
                raise ValueError(f"{name} has no effect {why}; leave it out")
        return self

    @model_validator(mode="after")
    def _schedules_fit_the_run(self) -> "TrainSettings":
        """λ and lr must reach their full values; otherwise the run would not have used the settings
        that it records."""
        steps, decay_steps = self.steps, self.decay_steps
        problems = []
        if self.lr_warmup_steps >= steps or self.lr_warmup_steps + decay_steps > steps:
            allowed = f"below steps ({steps})"
            if decay_steps:
                allowed += f", and at most {steps - decay_steps} before the decay's {decay_steps}"
            problems.append(
                f"lr_warmup_steps must be {allowed}, got {self.lr_warmup_steps}: lr would never "
                f"reach its value; {min(steps // 15, (steps - decay_steps) // 2)} would do"
            )
        if self.sparsity and self.sparsity_warmup_steps >= steps:
            problems.append(
                f"sparsity_warmup_steps must be below steps ({steps}), got "
                f"{self.sparsity_warmup_steps}: λ would never reach its value; "
                f"{steps // 3} would do"
            )
        if problems:
            hint = "" if self.recipe == "auto" else "; recipe auto chooses settings that fit"
            raise ValueError("; ".join(problems) + hint)
        return self

    def resolved_for(self, d: int) -> "TrainSettings":
        """A copy with the settings that the recipe derives from the site's width d, where they were
        not given."""
        if self.recipe != "auto":
            return self
        found = recipes.of_site(self.steps, self.batch, d, self.target_site is not None)
        open_ones = {name: v for name, v in found.items() if name not in self.model_fields_set}
        return self.model_copy(update=open_ones)

    @property
    def decay_steps(self) -> int:
        """Updates over which lr falls to 0 at the end."""
        return round(self.lr_decay_share * self.steps)

    @property
    def store_places(self) -> list[Place]:
        """Places of the store, or of the several stores that are read as one."""
        urls = [self.store] if isinstance(self.store, str) else self.store
        return [self.place(url) for url in urls]

    @property
    def checkpoint_place(self) -> Place:
        """Where the checkpoints are."""
        return self.place(self.checkpoints or str(self.out / "checkpoints"))

    def _changed(self, name: str) -> bool:
        """Whether a setting differs from its default."""
        return getattr(self, name) != type(self).model_fields[name].default

    def identity(self) -> dict[str, object]:
        """The settings that every number of the SAE depends on, as JSON values."""
        return self.model_dump(mode="json", exclude=set(FREE_ON_RESUME))
