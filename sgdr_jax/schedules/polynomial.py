"""Polynomial decay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.lengths import check_length, check_warmup, epoch_cycles, linear_warmup, rising_steps, whole_steps
from ..core.types import Length, Schedule, Table
from ..core.validation import require


@dataclass(frozen=True)
class Polynomial(Schedule):
    """Linear warm-up from 0, then scale(t) = floor + (1 - floor) (1 - t / n)^power. Validation and saving happen at epoch ends.

    Power 1 is linear decay.

    Source: torch's PolynomialLR, Keras' PolynomialDecay; Chen et al. 2016, "DeepLab" (power 0.9).

    Example:
        >>> Polynomial(1, power=2).table(4).scale.tolist()
        [1.0, 0.5625, 0.25, 0.0625]
    """

    epochs: float | Length = 1
    """Length in epochs, warm-up included, above 0."""
    power: float = 1.0
    """Exponent, above 0."""
    warmup: float | Length = 0.0
    """Linear warm-up from 0: a share of the length, 0…1 and below 1, or a `Length`."""
    floor: float = 0.0
    """End of the decay as a share of the peak, 0…1."""

    def __post_init__(self) -> None:
        check_length(self.epochs, "schedule.epochs")
        require(self.power > 0, "schedule.power", self.power, "use a positive number")
        check_warmup(self.warmup)
        require(0 <= self.floor <= 1, "schedule.floor", self.floor, "use a share in 0…1")

    def table(self, steps_per_epoch: int) -> Table:
        """Return warm-up and decay as rows. Raises InputError when shorter than one step."""
        steps = whole_steps(self.epochs, steps_per_epoch, "schedule.epochs")
        rise = rising_steps(self.warmup, steps, steps_per_epoch, "schedule.warmup")
        left = 1 - np.arange(steps - rise) / (steps - rise)
        scale = np.concatenate([linear_warmup(rise), self.floor + (1 - self.floor) * left**self.power])
        return Table(scale, epoch_cycles(steps, steps_per_epoch))
