"""Step decay: the rate falls by a factor at given epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..core.lengths import check_length, whole_steps
from ..core.types import Length, Schedule, Table
from ..core.validation import require


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Step decay: scale(t) = factor^(number of boundaries `at` passed). Validation and saving happen at epoch ends.

    Source: torch's MultiStepLR.

    Example:
        >>> StepDecay(epochs=3, at=(1, 2), factor=0.1).table(1).scale.round(3).tolist()
        [1.0, 0.1, 0.01]
    """

    epochs: float | Length = 3
    """Length in epochs, above 0."""
    at: tuple[float | Length, ...] = (1.0, 2.0)
    """Epochs at which the rate falls, in rising order, within the length."""
    factor: float = 0.1
    """Factor on the rate at each of them, 0…1."""

    _fixes: ClassVar[Mapping[str, str]] = {"at": "use a tuple of epochs, such as (1.0, 2.0)"}

    def __post_init__(self) -> None:
        check_length(self.epochs, "schedule.epochs")
        if not any(isinstance(x, Length) for x in (self.epochs, *self.at)):
            self._check_order([float(a) for a in self.at], float(self.epochs))  # pyright: ignore[reportArgumentType]
        require(0 <= self.factor <= 1, "schedule.factor", self.factor, "use a number in 0…1")

    def _check_order(self, at: Sequence[float], end: float) -> None:
        ok = list(at) == sorted(at) and all(0 < a < end for a in at)
        require(ok, "schedule.at", self.at, f"use rising epochs between 0 and {self.epochs}")

    def table(self, steps_per_epoch: int) -> Table:
        """Return the steps as rows. Raises InputError when one is shorter than an update."""
        steps = np.arange(whole_steps(self.epochs, steps_per_epoch, "schedule.epochs"))
        falls = np.array([whole_steps(a, steps_per_epoch, "schedule.at") for a in self.at], dtype=np.int64)
        if any(isinstance(x, Length) for x in (self.epochs, *self.at)):
            self._check_order(falls.tolist(), len(steps))
        return Table(self.factor ** np.searchsorted(falls, steps, side="right").astype(float), (steps // steps_per_epoch).astype(np.int32))
