"""What is known about one trained SAE besides its tensors.

Owns the record in `config.json` and its names. Does not hold tensors: see `sae`.
"""

import re
from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from ...settings import Settings

TARGET_TOLERANCE = 0.05
"""Share by which a target L0 may be missed without a remark."""


MEASURED = ("l0", "l0_off_target", "fvu", "dead_share", "measured_rows")
"""Fields of a config that were measured with the SAE's tensors."""


class SAEConfig(Settings):
    """Shapes, origin and measured quality of an SAE or transcoder; None where not known."""

    d_in: PositiveInt
    """Width of the site the encoder reads."""
    d_sae: PositiveInt
    """Number of latents."""
    d_out: PositiveInt
    """Width of the site the decoder writes; equals d_in for an SAE."""
    k: PositiveInt | None = None
    """Of a top-k SAE: the most latents that may be active in a row, its largest ones. None for
    other SAEs."""
    site: str | None = None
    """Input site, `<kind>.<layer>`."""
    target_site: str | None = None
    """Site a transcoder predicts; None for an SAE, and for a transcoder whose file does not say."""
    transcoder: bool | None = None
    """True if the file says that it is a transcoder, whether or not it names the predicted site.
    None if only target_site tells."""
    model: str | None = None
    """Language model that the activations come from: a hub id or a folder's name, without path."""
    model_fingerprint: str | None = None
    """Fingerprint of that model's weights, from the harvest."""
    model_dtype: Literal["bfloat16", "float32"] | None = None
    """Precision in which the harvest ran the model."""
    context: PositiveInt | None = None
    """Tokens per sequence in the harvest."""
    tokens: str | None = None
    """Where the harvested tokens came from."""
    split: str | None = None
    """Split of those tokens that was harvested."""
    normaliser: PositiveFloat | None = None
    """C that inputs were divided by in training (already folded into the tensors)."""
    target_normaliser: PositiveFloat | None = None
    """C of the target site; None for an SAE."""
    sparsity: float | None = None
    """λ of the last update: as set, or as steered towards a target L0 (then it may be negative)."""
    target_l0: PositiveFloat | None = None
    """L0 that λ was steered to; None if λ was given."""
    l0: NonNegativeFloat | None = None
    """Mean number of active latents per row, measured on stored rows after training."""
    l0_off_target: float | None = None
    """l0 / target_l0 − 1; beyond ±0.05 the target was missed."""
    fvu: NonNegativeFloat | None = None
    """E‖x−x̂‖² / E‖x−E x‖² on the same rows; the denominator comes from the store's commits."""
    dead_share: float | None = Field(default=None, ge=0, le=1)
    """Share of latents that fired in none of the measured rows."""
    measured_rows: PositiveInt | None = None
    """Number of rows that l0, fvu and dead_share were measured on."""
    trained_rows: PositiveInt | None = None
    """Number of rows seen in training."""

    @field_validator("k", "l0")
    @classmethod
    def _is_a_share_of_the_latents(cls, value: float | None, info: ValidationInfo) -> float | None:
        d_sae = info.data.get("d_sae")
        if value is not None and d_sae is not None and value > d_sae:
            raise ValueError(f"must be at most d_sae ({d_sae})")
        return value

    @property
    def missed(self) -> str:
        """A remark if l0 is more than 5% off its target, otherwise ""."""
        off = self.l0_off_target
        if off is None or abs(off) <= TARGET_TOLERANCE:
            return ""
        return f"{off:+.0%} off the target {self.target_l0:g}"

    @property
    def is_transcoder(self) -> bool:
        """Whether the SAE predicts another site than it reads."""
        return self.target_site is not None or bool(self.transcoder)


def public_name(model: str) -> str:
    """A model's name without anything private: a hub id as it is, of a path the last part."""
    parts = re.split(r"[/\\]+", model.rstrip("/\\"))
    is_path = len(parts) > 2 or parts[0] in ("", "~", ".", "..") or "\\" in model
    return parts[-1] if is_path else model
