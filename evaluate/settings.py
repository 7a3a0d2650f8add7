"""Settings of an evaluation: which SAEs, on which model and text, measured how."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from ..harvest.settings import StageSettings
from ..settings import one_or_several
from ..store.place.files import local_path
from ..store.place.place import Place
from ..train.sae.hub import is_remote, is_url

if TYPE_CHECKING:
    import torch

_TOKENS_AT_ONCE, _TOKENS_AT_ONCE_ELSEWHERE = 2048, 8192
"""Tokens in a forward pass: enough to fill a CPU's caches, or to keep other devices busy."""


class EvaluateSettings(StageSettings):
    """What `evaluate` measures: SAEs of one model, on held-out text of a token store."""

    sae: tuple[str | Path, ...] = Field(min_length=1)
    """Trained folders, params.npz files, SAELens or Gemma Scope 2 folders: paths, URLs, or
    `hf://USER/REPOSITORY[@REVISION]/FOLDER`."""
    model: str
    """Language model the SAEs belong to: a folder or a hub id."""
    tokens: str
    """URL of the token store; only its held-out split is read."""
    out: Path
    """JSON file to write."""

    site: str | None = None
    """Site the SAEs read, `<kind>.<layer>`; only for files that do not name it."""
    target_site: str | None = None
    """Site a transcoder replaces, `<kind>.<layer>`; only for files that do not name it."""
    other_model: bool = False
    """Whether SAEs may be measured on another model than they were trained on, such as the
    instruction-tuned one.
    """
    norms_of: str | None = None
    """Model to whose norms activations are scaled before an SAE reads them, such as the base
    model. The SAE's output is scaled back. The factor is the ratio of both models' sqrt(E‖x‖²) at
    the site, over the positions that count. By default activations are read as they are.
    """
    positions: Literal["all", "prompt", "rollout"] = "all"
    """Positions that count: all, or in conversations only the user's prompt or only the model's
    answer (rollout). `scopeworks rollouts` makes conversations. The splice does not depend on it.
    """
    n_sequences: PositiveInt = 2048
    """Held-out sequences to use (report: 2,048). If the split has fewer, all are used and the JSON
    says so.
    """
    batch: PositiveInt | None = None
    """Sequences per forward pass. Changes speed and memory, and results only by rounding. By
    default as many as have 2,048 tokens on a CPU and 8,192 elsewhere.
    """
    splice_special: bool = False
    """Whether BOS, EOS and PAD positions are spliced too. The report leaves this open; SAEs never
    see them in training.
    """
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed that draws the latents whose top activations are shown, and the positions at which
    importance is measured."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision of the language model. `auto` takes that of the harvest the SAEs were trained on;
    if it is not known or differs between SAEs, it takes what suits the device."""
    sae_dtype: Literal["bfloat16", "float32"] = "float32"
    """Precision of the SAE."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes CUDA where there is one."""
    attention: str = "auto"
    """Attention implementation, as in the harvest; auto is the one of the model's family."""

    firing_sequences: PositiveInt | None = None
    """Held-out sequences behind the firing frequencies (report: 20,000); by default those of
    `n_sequences`.
    """
    subsets: bool = False
    """Whether to measure each subset of the held-out text on its own too (`held_out.<name>`)."""
    importance: bool = False
    """Whether to measure how evenly active latents matter for predictions (r_L0 of the report).
    Needs gradients of the model.
    """
    top_latents: NonNegativeInt = 12
    """Latents per SAE whose top activations are collected; 0 collects none."""
    top_snippets: PositiveInt = 5
    """Snippets per latent; no two from one sequence or of the same tokens."""

    def batch_for(self, context: int, device: "torch.device") -> int:
        """Sequences per forward pass: the setting, or what suits the type of device."""
        tokens = _TOKENS_AT_ONCE if device.type == "cpu" else _TOKENS_AT_ONCE_ELSEWHERE
        return self.batch or max(1, tokens // context)

    _one_or_several = field_validator("sae", mode="before")(one_or_several)

    @field_validator("sae")
    @classmethod
    def _each_once(cls, value: tuple[str | Path, ...]) -> tuple[str | Path, ...]:
        names = tuple(
            name if is_remote(name) else str(local_path(Path(name))) for name in map(str, value)
        )
        if len(set(names)) != len(names):
            raise ValueError("must name each SAE once")
        return names

    @field_validator("out")
    @classmethod
    def _is_local(cls, value: Path) -> Path:
        return local_path(value)

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> "EvaluateSettings":
        """An option that would do nothing is an error."""
        snippets = type(self).model_fields["top_snippets"].default
        if self.top_latents == 0 and self.top_snippets != snippets:
            raise ValueError("top_snippets has no effect with top_latents 0; leave it out")
        if self.seed and not self.top_latents and not self.importance:
            raise ValueError(
                "seed has no effect with top_latents 0 and without importance; leave it out"
            )
        if self.norms_of is not None and _same_place(self.norms_of, self.model):
            raise ValueError(
                f"norms_of has no effect where it is the model itself, got {self.norms_of}; leave "
                "it out"
            )
        if self.subsets and self.positions != "all":
            raise ValueError(
                f"subsets has no effect with positions {self.positions}, since conversations have "
                "none; leave it out"
            )
        remote = Place(self.tokens).is_remote or any(is_url(str(name)) for name in self.sae)
        if self.storage_options is not None and not remote:
            raise ValueError("storage_options has no effect on local tokens and SAEs; leave it out")
        return self

    @model_validator(mode="after")
    def _firing_includes_the_rest(self) -> "EvaluateSettings":
        """Firing is counted on all evaluated sequences anyway, so fewer would throw counts away."""
        if self.firing_sequences is not None and self.firing_sequences < self.n_sequences:
            raise ValueError(
                f"firing_sequences must be at least n_sequences ({self.n_sequences}), "
                f"got {self.firing_sequences}"
            )
        return self


def _same_place(one: str, other: str) -> bool:
    """Whether two names are of one model: the same folder or the same id."""
    return os.path.realpath(one) == os.path.realpath(other)
