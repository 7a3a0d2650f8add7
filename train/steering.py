"""Steering λ so that the mean number of active latents ends at a wanted value.

Owns the controller's two numbers. The loss itself is unchanged: at the λ it settles on, the SAE is
the one that λ gives.
"""

import math
from dataclasses import dataclass

from .settings import TrainSettings


@dataclass
class Steering:
    """An integral controller on log λ, fed with each batch's mean L0.

        e = log(L0 / L0*),   log λ ← log λ + gain·e      (e held within ±1)

    L0 falls with λ roughly as a power, so in logarithms the plant is near linear and one gain fits
    every target.
    """

    target_l0: float
    gain: float
    log_sparsity: float

    @classmethod
    def start(cls, settings: TrainSettings) -> "Steering":
        """Starts at the settings' λ."""
        if settings.target_l0 is None:
            raise ValueError("target_l0 must be given to steer λ")
        return cls(settings.target_l0, settings.steering_gain, math.log(settings.sparsity))

    def update(self, l0: float) -> None:
        """Moves λ after a batch with mean L0 `l0`."""
        error = math.log(max(l0, 0.1) / self.target_l0)
        self.log_sparsity += self.gain * max(-1.0, min(1.0, error))

    @property
    def sparsity(self) -> float:
        """λ now."""
        return math.exp(self.log_sparsity)
