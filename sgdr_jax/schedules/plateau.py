"""Learning rate lowered when the validation loss stops falling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core.lengths import check_length, check_warmup, epoch_cycles, linear_warmup, rising_steps, whole_steps
from ..core.types import Length, Reduction, Schedule, Table
from ..core.validation import require


class Lowered(NamedTuple):
    """State of a stage that lowers its rates on plateaus.

    Attributes:
        scale: factor on all later rows of the table.
        best: lowest validation loss that counted as an improvement.
        stale: cycle ends in a row without improvement.
        resting: coming cycle ends that do not count.
        halved: part of `scale` that is not of plateaus but of going on after the stage had diverged (`Experiment.on_divergence`).
    """

    scale: float = 1.0
    best: float = math.inf
    stale: int = 0
    resting: int = 0
    halved: float = 1.0


def lowered(rule: Reduction, now: Lowered, loss: float) -> Lowered:
    """Return the state after a cycle's end with this validation loss; NaN counts as no improvement.

    Example:
        >>> rule, now = Plateau(factor=0.5, patience=0).rule, Lowered()
        >>> [(now := lowered(rule, now, loss)).scale for loss in (1.0, 0.9, 0.95, 0.8)]
        [1.0, 1.0, 0.5, 0.5]
    """
    better = loss < now.best * (1 - rule.threshold)
    stale = 0 if better or now.resting else now.stale + 1
    best, resting = loss if better else now.best, max(now.resting - 1, 0)
    if stale <= rule.patience:
        return now._replace(best=best, stale=stale, resting=resting)
    # A stage that has diverged goes on below the floor, which must not raise it again.
    scale = min(now.scale, max(now.scale * rule.factor, rule.floor))
    return now._replace(scale=scale, best=best, stale=0, resting=rule.cooldown)


@dataclass(frozen=True)
class Plateau(Schedule):
    """Constant rate, multiplied by `factor` when the validation loss stops falling: scale = factor^(number of plateaus), at least `floor`.

    The decision is made at epoch ends. Checkpoints hold its state, so a resumed run lowers its rates at the same epochs.

    Source: torch's ReduceLROnPlateau with a relative threshold on the loss (its patience lowers one epoch later than Keras' does).

    Example:
        >>> table = Plateau(3, factor=0.5, patience=0, warmup=0.5).table(2)
        >>> table.scale.round(2).tolist(), table.plateau.factor
        ([0.0, 0.33, 0.67, 1.0, 1.0, 1.0], 0.5)
    """

    epochs: float | Length = 10
    """Length in epochs, above 0."""
    factor: float = 0.1
    """Factor on the rate at a plateau, 0…1 and below 1."""
    patience: int = 2
    """Epoch ends in a row without improvement that are tolerated; one more lowers the rate."""
    threshold: float = 1e-4
    """Least improvement, as a share of the best loss, 0…1 and below 1."""
    cooldown: int = 0
    """Epoch ends that do not count after the rate is lowered."""
    floor: float = 0.0
    """Lowest rate as a share of the peak, 0…1."""
    warmup: float | Length = 0.0
    """Linear warm-up from 0: a share of the length, 0…1 and below 1, or a `Length`."""

    def __post_init__(self) -> None:
        check_length(self.epochs, "schedule.epochs")
        require(0 <= self.factor < 1, "schedule.factor", self.factor, "use a number in 0…1, below 1")
        require(self.patience >= 0, "schedule.patience", self.patience, "use 0 or more")
        require(0 <= self.threshold < 1, "schedule.threshold", self.threshold, "use a share in 0…1, below 1")
        require(self.cooldown >= 0, "schedule.cooldown", self.cooldown, "use 0 or more")
        require(0 <= self.floor <= 1, "schedule.floor", self.floor, "use a share in 0…1")
        check_warmup(self.warmup)

    @property
    def rule(self) -> Reduction:
        """When and how far the loop lowers the rates."""
        return Reduction(self.factor, self.patience, self.threshold, self.cooldown, self.floor)

    def table(self, steps_per_epoch: int) -> Table:
        """Return warm-up and rows at scale 1, with the rule that lowers them. Raises InputError when shorter than one step."""
        steps = whole_steps(self.epochs, steps_per_epoch, "schedule.epochs")
        rise = rising_steps(self.warmup, steps, steps_per_epoch, "schedule.warmup")
        scale = np.concatenate([linear_warmup(rise), np.ones(steps - rise)])
        return Table(scale, epoch_cycles(steps, steps_per_epoch), plateau=self.rule)
