"""Steering λ so that the mean number of active latents ends at a wanted value.

Owns the controller and its two numbers. The loss keeps the form that `penalty` names; what is
steered is its λ, so the SAE that comes out is the one which that λ gives.
"""

import math
from dataclasses import asdict, dataclass

from .settings import TrainSettings

_PROPORTIONAL = 2.0
_SMOOTHING = 0.1  # of the error: about ten batches


@dataclass
class Steering:
    """A proportional-integral controller of log λ, fed with each batch's mean L0.

        e ← running mean of log(L0 / L0*), held within ±1
        integral ← integral + gain·lr·e;   log λ = integral + 2·e

    L0 falls with λ roughly as a power, so in logarithms one gain fits every target. L0 follows λ
    only as fast as θ moves, and Adam moves θ by about lr an update: hence the unit of the gain,
    and hence the controller comes to rest where lr decays to 0.

    Attributes:
        integral: log λ at which the error is zero in the long run.
        error: e.
    """

    target_l0: float
    gain: float
    integral: float
    error: float = 0.0

    @classmethod
    def start(cls, settings: TrainSettings) -> "Steering":
        """Starts at the settings' λ."""
        if settings.target_l0 is None:
            raise ValueError("target_l0 must be given to steer λ")
        return cls(settings.target_l0, settings.steering_gain, math.log(settings.sparsity))

    def update(self, l0: float, lr: float) -> None:
        """Moves λ after a batch with mean L0 `l0`, made at learning rate `lr`."""
        error = max(-1.0, min(1.0, math.log(max(l0, 1e-3) / self.target_l0)))
        self.error += _SMOOTHING * (error - self.error)
        self.integral += self.gain * lr * self.error

    @property
    def sparsity(self) -> float:
        """λ now."""
        return math.exp(self.integral + _PROPORTIONAL * self.error)

    def record(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        numbers = asdict(self)
        return {name: numbers[name] for name in ("integral", "error")}
