"""Steering λ so that the mean number of active latents ends at a wanted value.

Owns the controller and its three numbers. Only λ is steered; the loss keeps its form, so the SAE is
the one that the final λ gives.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ..settings import TrainSettings

_PROPORTIONAL = 2.0
_SMOOTHING = 0.1  # of the error: about ten batches
# s of the formulas: well above it λ is exponential in u, well below linear. In units where
# E‖x‖² = 1: a latent that explains less than this is worth nothing, whatever the site.
_SCALE = 5e-5
_HIGHEST = 17.0  # bound of |integral|: λ of 1,200, far above the 1 at which no latent is worth it
_ABOVE, _COMES_DOWN = 0.3, 0.4  # the wanted L0 starts 0.3 above L0*, and falls over Σlr of 0.4


@dataclass
class Steering:
    """A proportional-integral controller of λ, fed with each batch's mean L0.

        e ← running mean of log(L0 / (L0*·r)), held within ±1;   r = 1 + 0.3·exp(−Σlr / 0.4)
        integral ← integral + gain·lr·e, held within ±17;   u = integral + 2·e
        λ = 2s·sinh(u) (linear penalty),  s·exp(u) (quadratic),  s = 5e-5

    L0 is roughly a power of λ, so in logarithms one gain fits every target. L0 follows λ only as
    fast as θ moves, and Adam moves θ by about lr an update. So the gain is in units of lr, and the
    controller comes to rest when lr decays to 0.

    r lets L0 come down to L0* slowly, as it does under a constant λ. Held at L0* from the start, an
    SAE that has not learned yet needs twice the λ (docs/log.md). Σlr runs over the updates since
    steering began.

    With the linear penalty λ is exponential in u while it is large, and may go below 0: L0 goes on
    falling while an SAE learns, at λ = 0 too, and only a negative λ holds a high L0*. The quadratic
    penalty pushes L0 both ways by itself.

    Attributes:
        integral: u at which the error is zero in the long run.
        error: e.
        moved: Σlr.
    """

    target_l0: float
    gain: float
    signed: bool
    integral: float
    error: float = 0.0
    moved: float = 0.0

    @classmethod
    def start(cls, settings: TrainSettings) -> "Steering":
        """Starts at the settings' λ."""
        if settings.target_l0 is None:
            raise ValueError("target_l0 must be given to steer λ")
        signed, ratio = settings.penalty == "linear", settings.sparsity / _SCALE
        integral = math.asinh(ratio / 2) if signed else math.log(ratio)
        return cls(settings.target_l0, settings.steering_gain, signed, integral)

    def update(self, l0: float, lr: float) -> None:
        """Moves λ after a batch with mean L0 `l0`, made at learning rate `lr`."""
        wanted = self.target_l0 * (1 + _ABOVE * math.exp(-self.moved / _COMES_DOWN))
        error = max(-1.0, min(1.0, math.log(max(l0, 1e-3) / wanted)))
        self.moved += lr
        self.error += _SMOOTHING * (error - self.error)
        integral = self.integral + self.gain * lr * self.error
        self.integral = max(-_HIGHEST, min(_HIGHEST, integral))

    @property
    def sparsity(self) -> float:
        """λ now. It is negative if active latents have to be rewarded."""
        u = self.integral + _PROPORTIONAL * self.error
        return _SCALE * (2 * math.sinh(u) if self.signed else math.exp(u))

    def record(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"integral": self.integral, "error": self.error, "moved": self.moved}


def say_high_prices(members: Sequence[TrainSettings]) -> None:
    """Prints a line to stderr for each member whose λ lets no latent stay active."""
    for settings in members:
        if settings.target_l0 is None and settings.sparsity > 1:
            print(
                f"{settings.out}: sparsity {settings.sparsity:g} is above 1, where no latent is "
                "worth its price; 6e-4 to 1e-3 is usual, or give target_l0",
                file=sys.stderr,
            )
