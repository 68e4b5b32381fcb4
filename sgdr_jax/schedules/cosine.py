"""Cosine annealing from the peak, once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core.lengths import check_length, check_warmup, epoch_cycles, linear_warmup, rising_steps, whole_steps
from ..core.types import Length, Schedule, Table
from ..core.validation import require


def anneal(steps: int, start: float = 1.0, stop: float = 0.0) -> np.ndarray:
    """Return stop + ½ (start - stop) (1 + cos(π t / steps)) for t = 0 … steps - 1, float64 [steps].

    The first value is exactly `start`; `stop` would follow the last.

    Example:
        >>> anneal(4).round(3).tolist()
        [1.0, 0.854, 0.5, 0.146]
    """
    return stop + 0.5 * (start - stop) * (1 + np.cos(math.pi * np.arange(steps) / steps))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Linear warm-up from 0, then scale(t) = floor + ½ (1 - floor) (1 + cos(π t / n)). Validation and saving happen at epoch ends.

    Source: Loshchilov & Hutter 2017, one cycle.

    Example:
        >>> Cosine(1, warmup=0.25, floor=0.5).table(4).scale.tolist()
        [0.0, 1.0, 0.875, 0.625]
    """

    epochs: float | Length = 1
    """Length in epochs, warm-up included, above 0."""
    warmup: float | Length = 0.0
    """Linear warm-up from 0: a share of the length, 0…1 and below 1, or a `Length`."""
    floor: float = 0.0
    """End of the cosine as a share of the peak, 0…1."""

    def __post_init__(self) -> None:
        check_length(self.epochs, "schedule.epochs")
        check_warmup(self.warmup)
        require(0 <= self.floor <= 1, "schedule.floor", self.floor, "use a share in 0…1")

    def table(self, steps_per_epoch: int) -> Table:
        """Return warm-up and cosine as rows. Raises InputError when shorter than one step."""
        steps = whole_steps(self.epochs, steps_per_epoch, "schedule.epochs")
        rise = rising_steps(self.warmup, steps, steps_per_epoch, "schedule.warmup")
        scale = np.concatenate([linear_warmup(rise), anneal(steps - rise, 1.0, self.floor)])
        return Table(scale, epoch_cycles(steps, steps_per_epoch))
