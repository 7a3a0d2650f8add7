"""What a training run is asked to do.

Every row of the report's recipe (§3.2) is a field here with its source. `run.schedules` turns the
fields into the numbers of a step; `run.trainer` runs them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from ..store.place.files import local_path
from ..store.place.options import CACHE_BYTES, StorageSettings
from ..store.place.place import Place
from . import recipe as recipes

# What may change between a run and its continuation, because no number of the SAE depends on it.
# The store is compared by its content and not by its address, a recipe by what it gave.
FREE_ON_RESUME = frozenset(
    {"out", "store", "name", "recipe", "log_every", "checkpoint_every", "checkpoint_minutes"}
    | {"keep_checkpoints", "checkpoints", "measure_rows", "prefetch", "tensorboard"}
    | {"wandb_project", "cache_dir", "cache_bytes", "rank_timeout_s", "parallel"}
)

BACKENDS = ("auto", "reference", "cpu", "triton")

# The step computes in float32: what its formulas multiply, divide and square has to stay in there.
Factor = Annotated[float, Field(ge=1e-30, le=1e30)]
Price = Annotated[float, Field(ge=0, le=1e3)]
Length = Annotated[float, Field(ge=1e-9, le=1e3)]


class TrainSettings(StorageSettings):
    """One SAE's training. Lengths and losses are in scaled units: x = x_raw / C, so E‖x‖² = 1."""

    store: str | tuple[str, ...]
    """URL of the activation store. Several stores of the same rows, with other sites, are read as
    one."""
    site: str
    """Site to train on, such as resid_post.12."""
    out: Path
    """Folder of the trained SAE; of a sweep, of all its SAEs."""
    width: PositiveInt
    """Number of latents; the report: 2^14 to 2^20."""
    target_site: str | None = None
    """Site to predict instead. Trains a transcoder: no tied start, no pre-encoder bias."""
    skip: bool = False
    """Adds an affine skip connection x @ W_skip to a transcoder (Gemma Scope 2)."""
    name: str | None = None
    """Name of a sweep's member; by default made from the settings that differ."""

    recipe: Literal["report", "auto"] = "report"
    """Where settings that are not given come from: the report's defaults, or what fits the run.
    With `auto`, lr, its warm-up and decay, λ's warm-up, β2, ε and θ fit steps, batch and the site's
    width (`train/recipe.py`); from 250,000 updates on they are the report's."""
    steps: int = Field(default=250_000, gt=0, lt=10**9)
    """Updates. The report has 4B tokens at width 2^14, which are about 1M updates; the default is a
    quarter of that."""
    batch: PositiveInt = 4096
    """Rows per update (report)."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the initial weights."""
    stream_seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the order in which rows are read; equal for all members of a sweep."""

    shuffle_rows: PositiveInt | None = None
    """For studies of mixing: rows follow their sequences, shuffled only within windows of so many
    (1: not at all), and stay in memory. By default the store's shuffle by bucket and chunk."""

    sparsity: Price = 6e-4
    """λ, the price of one active latent (report: 6e-4, 1e-3). Above 1 none is worth its price."""
    sparsity_warmup_steps: NonNegativeInt = 10_000
    """λ rises linearly from 0 over these updates (report)."""
    target_l0: float | None = Field(default=None, ge=1e-3)
    """Wanted mean number of active latents. λ is then steered, and `sparsity` is its start."""
    steering_gain: Factor = 40.0
    """How fast `target_l0` moves λ: log λ changes by up to this times lr per update."""
    penalty: Literal["linear", "quadratic"] = "linear"
    """Form of the price of a row: λ‖f‖₀ (report), or λ·c·(‖f‖₀ − L0*)² (Gemma Scope 2)."""
    quadratic_coefficient: Price | None = None
    """c of the quadratic penalty. By default 1/(2·L0*), which gives the linear penalty's slope at
    2·L0*, Gemma Scope 2's stated aim; its printed value is 2/L0*."""
    frequency_penalty: Price = 0.0
    """Extra price of a latent that fires on more than `frequency_limit` of the rows, in units of λ
    (Gemma Scope 2).
    """
    frequency_limit: float = Field(default=0.1, gt=0, lt=1)
    """Share of rows above which `frequency_penalty` begins (Gemma Scope 2: 10%)."""

    lr: Factor = 7e-5
    """Learning rate (report)."""
    lr_warmup_steps: NonNegativeInt = 1_000
    """Cosine warm-up of the learning rate (report)."""
    lr_warmup_start: float = Field(default=0.1, ge=0, le=1)
    """Where the warm-up starts, as a share of `lr` (report)."""
    lr_decay_share: float = Field(default=0.0, ge=0, le=1)
    """Last share of the updates over which lr falls linearly to 0; the report mentions no decay."""
    beta2: float = Field(default=0.999, gt=0, lt=1)
    """Adam's β2 (report); β1 is 0."""
    adam_eps: Factor = 1e-8
    """Adam's ε (report)."""

    bandwidth: Length = 1e-3
    """ε, the width of the kernel in θ's pseudo-gradient (report)."""
    theta_start: Length = 1e-3
    """θ at the start (report)."""
    theta_form: Literal["raw", "log"] = "raw"
    """Whether Adam moves θ or log θ. Raw: a step is ≈ lr, so θ reaches 0.1 in ≈1.4k steps instead
    of ≈66k.
    """
    b_dec_start: Literal["zero", "mean"] = "zero"
    """b_dec at the start: 0 (report), or the mean of the rows that are to be reconstructed."""
    normaliser: Literal["auto", "measured", "sqrt_width"] = "auto"
    """C: sqrt(E‖x‖²) from the store's commits, or √n; auto is measured for SAEs, √n for transcoders
    (report).
    """

    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes CUDA where there is one."""
    backend: str = "auto"
    """Kernel of the step: auto, reference, cpu or triton."""
    encoder: Literal["auto", "float32", "screened", "bfloat16", "tf32"] = "auto"
    """How the encoder's product is made. `screened` gives float32's numbers from a bfloat16
    product; `bfloat16` and (CUDA) `tf32` that product's own numbers; `auto` float32's, the faster
    way."""
    prefetch: PositiveInt = 4
    """Batches read ahead."""
    cache_dir: Path | None = None
    """Folder that keeps what is read of a remote store, for epochs and runs to come."""
    cache_bytes: PositiveInt = CACHE_BYTES
    """Bound on what `cache_dir` keeps of the store; what was unused for longest goes first."""

    parallel: Literal["auto", "latents", "rows"] | None = None
    """What several ranks (torchrun) share: latents, each rank holding its own, or rows of a batch,
    each holding the whole SAE. `auto` is what takes less time by the communication model. By
    default latents, with which no number depends on how many ranks there are."""
    rank_timeout_s: PositiveFloat = 600.0
    """Of several ranks (torchrun): seconds that one may keep the others waiting; then the run
    ends."""

    log_every: PositiveInt = 50
    """Updates between two lines of metrics.jsonl."""
    tensorboard: bool = False
    """Also logs to the folder tensorboard in `out`; needs the extra of that name."""
    wandb_project: str | None = None
    """Also logs to this Weights & Biases project, offline by default; needs the extra wandb."""
    dead_after_rows: int = Field(default=1_000_000, gt=0, lt=2**63)
    """A latent is dead in the metrics if it has not fired in this many rows."""
    checkpoint_every: PositiveInt = 5_000
    """Updates between checkpoints; one is also written at the end and on SIGINT and SIGTERM."""
    checkpoint_minutes: PositiveFloat | None = None
    """Minutes between checkpoints, in addition."""
    keep_checkpoints: PositiveInt = 2
    """How many of the newest checkpoints stay."""
    checkpoints: str | None = None
    """Folder or fsspec URL of the checkpoints; by default a folder of that name in `out`."""
    measure_rows: PositiveInt = 65_536
    """Rows after training on which L0, FVU and dead share are measured for config.json."""

    @model_validator(mode="before")
    @classmethod
    def _by_length(cls, values: Any) -> Any:
        """Fills in what the recipe says of a run of this length and was not given; what it says of
        a site, `resolved_for` does."""
        if not isinstance(values, Mapping) or values.get("recipe") != "auto":
            return values
        steps = values.get("steps", cls.model_fields["steps"].default)
        if not (isinstance(steps, int) and steps > 0):
            return values  # an error of the field's own
        return recipes.of_length(steps) | dict(values)

    @field_validator("store", mode="before")
    @classmethod
    def _is_store(cls, value: object) -> object:
        """One URL, or several; a list of one is that one."""
        several = list(value) if isinstance(value, list | tuple) else [value]
        if not several or not all(isinstance(url, str) and url for url in several):
            raise ValueError("must be a URL or a list of URLs")
        return several[0] if len(several) == 1 else tuple(several)

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
        """λ and lr come to their full values: else the run would be one of other settings than
        those that it records."""
        steps, decay_steps = self.steps, self.decay_steps
        problems = []
        if self.lr_warmup_steps >= steps or self.lr_warmup_steps + decay_steps > steps:
            allowed = f"below steps ({steps})"
            if decay_steps:
                allowed += f", and at most {steps - decay_steps} before the decay's {decay_steps}"
            problems.append(
                f"lr_warmup_steps must be {allowed}, got {self.lr_warmup_steps}: lr would never "
                f"come to its value; {min(steps // 15, (steps - decay_steps) // 2)} would do"
            )
        if self.sparsity and self.sparsity_warmup_steps >= steps:
            problems.append(
                f"sparsity_warmup_steps must be below steps ({steps}), got "
                f"{self.sparsity_warmup_steps}: λ would never come to its value; "
                f"{steps // 3} would do"
            )
        if problems:
            hint = (
                "" if self.recipe == "auto" else "; recipe auto fits what is not given to the run"
            )
            raise ValueError("; ".join(problems) + hint)
        return self

    def resolved_for(self, d: int) -> "TrainSettings":
        """Resolved: with what the recipe says of a site of width d, where it was not given."""
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
        """Where the rows are: one store, or several that are read as one."""
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
