"""The 1cycle policy: the rate rises and falls once, the momentum inversely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.lengths import check_length, check_momentum, rising_steps, whole_steps
from ..core.types import Length, Schedule, Table
from ..core.validation import require
from .cosine import anneal


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Cosine from peak/div to the peak over a share `rise` of the steps, then cosine to peak/div_final; momentum moves inversely.

    Source: Smith & Topin 2018, in the form of fastai 2's `fit_one_cycle` (pct_start 0.25, div 25, div_final 1e5, moms .95, .85, .95),
    but the rise takes `rise`·n steps rounded down to whole ones, so the shares differ a little from fastai's where that is not whole.

    Example:
        >>> table = OneCycle(1, rise=0.5, div=4).table(4)
        >>> table.scale.round(3).tolist(), table.momentum.round(2).tolist()
        ([0.25, 0.625, 1.0, 0.5], [0.95, 0.9, 0.85, 0.9])
    """

    epochs: float | Length = 1
    """Length in epochs, above 0."""
    rise: float = 0.25
    """Share of the steps in which the rate rises, 0…1 and below 1."""
    div: float = 25.0
    """Peak divided by the first rate, at least 1."""
    div_final: float = 1e5
    """Peak divided by the rate that the last cosine approaches, at least 1."""
    momentum: tuple[float, float] = (0.95, 0.85)
    """Momentum at both ends, and at the peak of the rate, each in 0…1, below 1."""

    def __post_init__(self) -> None:
        check_length(self.epochs, "schedule.epochs")
        require(0 <= self.rise < 1, "schedule.rise", self.rise, "use a share in 0…1, below 1")
        require(self.div >= 1, "schedule.div", self.div, "use at least 1")
        require(self.div_final >= 1, "schedule.div_final", self.div_final, "use at least 1")
        check_momentum(self.momentum)

    def table(self, steps_per_epoch: int) -> Table:
        """Return rate and momentum as rows. Raises InputError when shorter than one step."""
        steps = whole_steps(self.epochs, steps_per_epoch, "schedule.epochs")
        up = rising_steps(self.rise, steps, steps_per_epoch, "schedule.rise")
        slow, fast = self.momentum
        scale = np.concatenate([anneal(up, 1 / self.div, 1.0), anneal(steps - up, 1.0, 1 / self.div_final)])
        momentum = np.concatenate([anneal(up, slow, fast), anneal(steps - up, fast, slow)])
        return Table(scale, np.zeros(steps, np.int32), momentum)
