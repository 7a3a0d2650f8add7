"""Steering λ so that the mean number of active latents ends at a wanted value.

Owns the controller and its three numbers. The loss keeps the form that `penalty` names; what is
steered is its λ, so the SAE that comes out is the one which that λ gives.
"""

import math
from dataclasses import dataclass

from ..settings import TrainSettings

_PROPORTIONAL = 2.0
_SMOOTHING = 0.1  # of the error: about ten batches
# λ below which a price is no longer logarithmic. In units where E‖x‖² = 1: a latent that explains
# less than this is worth nothing, whatever the site.
_SCALE = 5e-5
_HIGHEST = 17.0  # of |u|: λ of 1,200, far above the 1 at which no latent is worth its price
_ABOVE, _COMES_DOWN = 0.3, 0.4  # where the wanted L0 starts above L0*, and in which Σlr it falls


@dataclass
class Steering:
    """A proportional-integral controller of λ, fed with each batch's mean L0.

        e ← running mean of log(L0 / (L0*·r)), held within ±1;   r = 1 + 0.3·exp(−Σlr / 0.4)
        integral ← integral + gain·lr·e, held within ±17;   u = integral + 2·e
        λ = 2s·sinh(u) (linear penalty),  s·exp(u) (quadratic),  s = 5e-5

    L0 falls with λ roughly as a power, so in logarithms one gain fits every target. L0 follows λ
    only as fast as θ moves, and Adam moves θ by about lr an update: hence the unit of the gain,
    and hence the controller comes to rest where lr decays to 0.

    r lets L0 come down to L0* as it does under a constant λ, which is good for the SAE: held at L0*
    at once, the unlearned SAE needs twice the λ (docs/train.md). Σlr counts the updates since
    steering began.

    A linear price is logarithmic in u while it is large and goes through 0 where it must: L0 goes
    on falling while an SAE learns, at λ = 0 too, and only a price below 0 holds a high L0*. The
    quadratic penalty pushes both ways by itself.

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
        """λ now; below 0 where latents must be paid for firing."""
        u = self.integral + _PROPORTIONAL * self.error
        return _SCALE * (2 * math.sinh(u) if self.signed else math.exp(u))

    def record(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"integral": self.integral, "error": self.error, "moved": self.moved}
