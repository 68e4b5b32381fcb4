"""Another schedule cut off at the end of a cycle, or after a share of its updates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..core.types import OMIT_DEFAULT, Schedule, Table
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
    share: float | None = field(default=None, metadata=OMIT_DEFAULT)
    """Share of its updates to keep in place of whole cycles, above 0, at most 1; None for `cycles`."""

    def __post_init__(self) -> None:
        require(whole(self.cycles) and self.cycles >= 1, "schedule.cycles", self.cycles, "use at least 1, a whole number")
        require(self.share is None or 0 < self.share <= 1, "schedule.share", self.share, "use a share in 0…1, above 0, or None")

    def table(self, steps_per_epoch: int) -> Table:
        """Return the first rows of the other schedule's table."""
        table = self.schedule.table(steps_per_epoch)
        total = len(table.cycle)
        steps = int(np.searchsorted(table.cycle, self.cycles)) if self.share is None else max(1, int(self.share * total + 0.5))

        def first(rows: np.ndarray | None) -> np.ndarray | None:
            return None if rows is None else rows[:steps]

        return table._replace(
            scale=table.scale[:steps],
            cycle=table.cycle[:steps],
            momentum=first(table.momentum),
            weight_decay=first(table.weight_decay),
            whole=table.whole or total,
        )

    def after(self, table: Table) -> float:
        """Return where the other schedule ends if all its cycles are kept, else the last scale."""
        return self.schedule.after(table) if table.whole in (None, len(table.cycle)) else super().after(table)
