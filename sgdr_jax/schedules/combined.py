"""Separate schedules for layer groups, weight decay and momentum."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..core.errors import InputError
from ..core.lengths import check_momentum
from ..core.types import Schedule, Table
from .constant import Constant


@dataclass(frozen=True)
class Combined(Schedule):
    """Combination of schedules: one for the rates, or one per trained group, and others for weight decay and momentum.

    Cycle ends, plateaus and, unless given here, momentum come from `rate`. All schedules must have the same length.

    Source: fastai 0.7's phases (`use_wd_sched`, `use_clr`); big_vision's schedules for parts of a network.

    Example:
        >>> from sgdr_jax.schedules import Cosine, Sgdr
        >>> Combined(Sgdr(2), groups=(Constant(2), Sgdr(2)), weight_decay=Cosine(2)).table(2).scale.tolist()
        [[1.0, 1.0], [1.0, 0.5], [1.0, 1.0], [1.0, 0.5]]
    """

    rate: Schedule = field(default_factory=Constant)
    """Schedule of the rates of all trained groups; it decides where cycles end."""
    groups: tuple[Schedule, ...] = ()
    """One schedule for each trained group, from the earliest to the last, in place of `rate`; empty for none."""
    weight_decay: Schedule | None = None
    """Schedule of the weight decay, as a share of the optimizer's; None for a constant one."""
    momentum: tuple[float, float] | None = None
    """(slow, fast): momentum is slow + (fast - slow) · scale of `rate`, so `fast` at the peak; each in 0…1, below 1."""

    def __post_init__(self) -> None:
        if self.momentum is not None:
            check_momentum(self.momentum)

    def after(self, table: Table) -> float:
        """Return where the schedule of the rates ends."""
        return self.rate.after(table)

    def table(self, steps_per_epoch: int) -> Table:
        """Return all schedules as columns of one `Table`.

        Raises:
            InputError: the schedules differ in length, or one has a rate for each group already.
        """
        rate = self.rate.table(steps_per_epoch)
        schedules = {f"groups[{i}]": schedule for i, schedule in enumerate(self.groups)} | {"weight_decay": self.weight_decay}
        tables = {name: schedule.table(steps_per_epoch) for name, schedule in schedules.items() if schedule is not None}
        for name, table in (("rate", rate), *tables.items()):
            if table.scale.ndim > 1:
                raise InputError(f"schedule.{name} has a rate for each group already; use one that is not Combined")
            if len(table.scale) != len(rate.scale):
                raise InputError(f"schedule.{name} has {len(table.scale)} steps, schedule.rate {len(rate.scale)}; make them equally long")
            if name != "rate" and table.plateau:
                raise InputError(f"schedule.{name} waits for plateaus, which lower all rates; use Plateau as schedule.rate")
        decay = tables.pop("weight_decay", None)
        slow, fast = self.momentum or (0.0, 0.0)
        return rate._replace(
            scale=np.stack([table.scale for table in tables.values()], 1) if tables else rate.scale,
            weight_decay=decay.scale if decay else None,
            momentum=slow + (fast - slow) * rate.scale if self.momentum else rate.momentum,
        )
