"""Constant learning rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.lengths import check_length, epoch_cycles, whole_steps
from ..core.types import Length, Schedule, Table


@dataclass(frozen=True)
class Constant(Schedule):
    """Constant peak rate: scale(t) = 1. Each epoch counts as a cycle, so validation and saving happen at epoch ends.

    Source: fastai 0.7 `fit(lr, n)` without `cycle_len`.

    Example:
        >>> Constant(epochs=2).table(3).ends
        (3, 6)
    """

    epochs: float | Length = 1
    """Length in epochs, above 0."""

    def __post_init__(self) -> None:
        check_length(self.epochs, "schedule.epochs")

    def table(self, steps_per_epoch: int) -> Table:
        """Return rows at scale 1. Raises InputError when shorter than one step."""
        steps = whole_steps(self.epochs, steps_per_epoch, "schedule.epochs")
        return Table(np.ones(steps), epoch_cycles(steps, steps_per_epoch))
