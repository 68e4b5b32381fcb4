"""Another schedule cut off at the end of a cycle."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..core.types import Schedule, Table
from ..core.validation import require, whole
from .constant import Constant


@dataclass(frozen=True)
class FirstCycles(Schedule):
    """First cycles of another schedule: scale(t) = scale of that schedule at t, up to the end of a cycle.

    Example:
        >>> from sgdr_jax.schedules import Sgdr
        >>> FirstCycles(Sgdr(cycles=3, cycle_mult=2), cycles=2).table(10).ends
        (10, 30)
    """

    schedule: Schedule = field(default_factory=Constant)
    """The other schedule."""
    cycles: int = 1
    """Number of its cycles to keep, at least 1; all of them if it has fewer."""

    def __post_init__(self) -> None:
        require(whole(self.cycles) and self.cycles >= 1, "schedule.cycles", self.cycles, "use at least 1, a whole number")

    def table(self, steps_per_epoch: int) -> Table:
        """Return the first rows of the other schedule's table."""
        table = self.schedule.table(steps_per_epoch)
        steps = int(np.searchsorted(table.cycle, self.cycles))

        def first(rows: np.ndarray | None) -> np.ndarray | None:
            return None if rows is None else rows[:steps]

        return table._replace(
            scale=table.scale[:steps],
            cycle=table.cycle[:steps],
            momentum=first(table.momentum),
            weight_decay=first(table.weight_decay),
            whole=table.whole or len(table.cycle),
        )

    def after(self, table: Table) -> float:
        """Return where the other schedule ends if all its cycles are kept, else the last scale."""
        return self.schedule.after(table) if table.whole in (None, len(table.cycle)) else super().after(table)
