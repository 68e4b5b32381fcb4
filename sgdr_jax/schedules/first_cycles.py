"""The beginning of another schedule."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..core.types import Schedule, Table
from ..core.validation import require
from .constant import Constant


@dataclass(frozen=True)
class FirstCycles(Schedule):
    """Another schedule up to the end of one of its cycles, row for row; the rates of the rows that are left do not change.

    Example:
        >>> from sgdr_jax.schedules import Sgdr
        >>> FirstCycles(Sgdr(cycles=3, cycle_mult=2), cycles=2).table(10).ends
        (10, 30)
    """

    schedule: Schedule = field(default_factory=Constant)
    """The other schedule."""
    cycles: int = 1
    """Number of its cycles, at least 1; all of them where it has fewer."""

    def __post_init__(self) -> None:
        require(isinstance(self.cycles, int) and self.cycles >= 1, "schedule.cycles", self.cycles, "use at least 1, a whole number")

    def table(self, steps_per_epoch: int) -> Table:
        """The other schedule's rows; see `types.Table`."""
        whole = self.schedule.table(steps_per_epoch)
        steps = int(np.searchsorted(whole.cycle, self.cycles))

        def first(rows: np.ndarray | None) -> np.ndarray | None:
            return None if rows is None else rows[:steps]

        return whole._replace(
            scale=whole.scale[:steps], cycle=whole.cycle[:steps], momentum=first(whole.momentum), weight_decay=first(whole.weight_decay)
        )
