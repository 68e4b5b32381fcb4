"""The same learning rate throughout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.lengths import check_length, whole_steps
from ..core.types import Length, Schedule, Table


@dataclass(frozen=True)
class Constant(Schedule):
    """Stays at the peak: scale(t) = 1. One "cycle" per epoch, so that validation and saving happen at epoch ends.

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
        """All rows at scale 1; see `types.Table`. Raises InputError when shorter than one step."""
        steps = whole_steps(self.epochs, steps_per_epoch, "schedule.epochs")
        return Table(np.ones(steps), (np.arange(steps) // steps_per_epoch).astype(np.int32))
