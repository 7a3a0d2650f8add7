"""`StepSettings`: what one step needs besides state and data. Refuses values no step can use."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

Encoder = Literal["auto", "float32", "screened", "bfloat16", "tf32"]


@dataclass(frozen=True)
class StepSettings:
    """What one step needs besides state and data.

    Loss, mean over rows: ‖target − x̂‖² + penalty, where the penalty of a row is λ‖f‖₀ ("linear")
    or λ·c·(‖f‖₀ − L0*)² ("quadratic"), plus λ·Σ_i latent_weight_i·1[f_i > 0].

    Attributes:
        lr: learning rate of this step.
        sparsity: λ of this step; a negative λ rewards active latents (steering towards an L0 may).
        bandwidth: ε of the pseudo-gradients.
        beta2, eps: Adam's; β1 is 0.
        theta_form: what Adam updates: θ ("raw", kept ≥ theta_floor) or its logarithm ("log").
        pre_bias: whether the encoder sees x − b_dec (SAEs) or x (transcoders).
        penalty: form of the L0 penalty.
        target_l0: L0* of the quadratic penalty.
        quadratic_coefficient: c; None means 1/(2·L0*), which gives the linear penalty's slope at
            2·L0* (Gemma Scope 2's stated aim; its printed value is 2/L0*).
        latent_weight: float32 [latents owned], extra L0 weight of single latents as a multiple of
            λ, or None.
        theta_floor: smallest raw θ.
        encoder: precision of the encoder's product. "float32". "screened" gives the same numbers:
            a bfloat16 product proposes entries, float32 decides. "auto" is "screened" where that is
            faster. Two give other numbers: "bfloat16" (z is the output of a bfloat16 product with
            float32 sums, plus bias) and, on CUDA only, "tf32". The reference backend and the dense
            paths (taken while many latents fire) always use float32.
    """

    lr: float
    sparsity: float
    bandwidth: float = 1e-3
    beta2: float = 0.999
    eps: float = 1e-8
    theta_form: Literal["raw", "log"] = "raw"
    pre_bias: bool = True
    penalty: Literal["linear", "quadratic"] = "linear"
    target_l0: float | None = None
    quadratic_coefficient: float | None = None
    latent_weight: Tensor | None = None
    theta_floor: float = 1e-6
    encoder: Encoder = "auto"

    def __post_init__(self) -> None:
        """Refuses settings that no step can use, in one line."""
        if not (math.isfinite(self.lr) and self.lr >= 0):
            raise ValueError(f"lr must be at least 0, got {self.lr}")
        lowest = 0 if self.penalty == "quadratic" else -math.inf
        if not (math.isfinite(self.sparsity) and self.sparsity >= lowest):
            rule = "at least 0 for the quadratic penalty" if lowest == 0 else "a finite number"
            raise ValueError(f"sparsity must be {rule}, got {self.sparsity}")
        for name in ("bandwidth", "eps", "theta_floor"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 < self.beta2 < 1:
            raise ValueError(f"beta2 must be between 0 and 1, got {self.beta2}")
        if self.theta_form not in ("raw", "log"):
            raise ValueError(f"theta_form must be raw or log, got {self.theta_form}")
        if self.encoder not in get_args(Encoder):
            raise ValueError(f"encoder must be one of {get_args(Encoder)}, got {self.encoder!r}")
        if self.penalty not in ("linear", "quadratic"):
            raise ValueError(f"penalty must be linear or quadratic, got {self.penalty}")
        if self.penalty == "quadratic" and (self.target_l0 is None or self.target_l0 <= 0):
            raise ValueError(
                f"target_l0 must be above 0 for the quadratic penalty, got {self.target_l0}"
            )

    @property
    def coefficient(self) -> float:
        """c of the quadratic penalty, its default filled in; 0 for the linear one."""
        if self.penalty == "linear" or self.target_l0 is None:
            return 0.0
        if self.quadratic_coefficient is None:
            return 1 / (2 * self.target_l0)
        return self.quadratic_coefficient
