"""Stochastic gradient descent with warm restarts (SGDR)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..core.lengths import MAX_STEPS, check_length, check_warmup, exact_steps, linear_warmup, rising_steps, whole_steps
from ..core.types import Length, Schedule, Table
from ..core.validation import require, whole
from .cosine import anneal


@dataclass(frozen=True)
class Sgdr(Schedule):
    """Cosine annealing with warm restarts: scale(t) = floor + ½ (peak_i - floor) (1 + cos(π t / n_i)), t = 0 … n_i - 1.

    Cycle i has n_i = round(steps_per_epoch · cycle_len · cycle_mult^i) steps and the peak peak_i = peak_decay^i. Without
    warm-up each cycle starts at exactly its peak; the cosine would reach the floor one step after the cycle's last. Lengths are computed
    once, as integers: finding the cycle of a step with a logarithm, as timm, torch, Keras and fastai 2 do, restarts at the wrong step for
    some multipliers.

    Source: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017; fastai 0.7's `fit`.

    Example:
        >>> Sgdr(cycles=2, cycle_len=1, cycle_mult=2).table(4).scale.round(3).tolist()
        [1.0, 0.854, 0.5, 0.146, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038]
        >>> Sgdr(cycles=3, cycle_len=1, cycle_mult=1.5).table(10).ends
        (10, 25, 48)
    """

    cycles: int = 1
    """Number of cycles, at least 1."""
    cycle_len: float | Length = 1
    """Length of the first cycle in epochs, or a `Length`."""
    cycle_mult: float = 1
    """Length of each cycle relative to the one before, above 0."""
    peak_decay: float = 1.0
    """Each peak relative to the one before, 0…1."""
    floor: float = 0.0
    """End of each cosine as a share of the first peak, 0…1; no peak may lie below it."""
    warmup: float | Length = 0.0
    """Linear warm-up from the floor, within the cycle: a share of it, 0…1 and below 1, or a `Length`."""
    warmup_every: bool = False
    """Whether every cycle warms up; False: only the first."""
    compat: Literal["", "fastai07"] = ""
    """fastai07: hold peak/100 for the first twentieth of the first cycle while the cosine's clock runs; "": no."""

    def __post_init__(self) -> None:
        require(whole(self.cycles) and 1 <= self.cycles <= 10_000, "schedule.cycles", self.cycles, "use a whole number, 1…10,000")
        check_length(self.cycle_len, "schedule.cycle_len")
        require(self.cycle_mult > 0, "schedule.cycle_mult", self.cycle_mult, "use a positive number")
        require(0 <= self.peak_decay <= 1, "schedule.peak_decay", self.peak_decay, "use a share in 0…1")
        require(0 <= self.floor <= 1, "schedule.floor", self.floor, "use a share in 0…1")
        check_warmup(self.warmup)
        require(self.compat in ("", "fastai07"), "schedule.compat", self.compat, 'use "" or "fastai07"')
        require(not (self.compat and self.warmup), "schedule.warmup", self.warmup, 'use 0 with compat="fastai07", which has its own')

    def lengths(self, steps_per_epoch: int) -> tuple[int, ...]:
        """Return the number of steps of each cycle. Raises InputError when a cycle is shorter than one step."""
        names = (f"cycle {i} of the schedule" for i in range(self.cycles))
        lengths = [whole_steps(self.cycle_len, steps_per_epoch, name, self.cycle_mult**i) for i, name in enumerate(names)]
        require(sum(lengths) <= MAX_STEPS, "the schedule", f"{sum(lengths):,} steps", "use fewer epochs or cycles")
        return tuple(lengths)

    def table(self, steps_per_epoch: int) -> Table:
        """Return all cycles as rows. Raises InputError when a cycle is shorter than one step."""
        lengths, last = self.lengths(steps_per_epoch), self.peak_decay ** (self.cycles - 1)
        require(self.floor <= last, "schedule.floor", self.floor, f"the last peak is {last:g}: use less, or a higher peak_decay")
        scale = np.concatenate([self._cycle(i, n, steps_per_epoch) for i, n in enumerate(lengths)])
        if self.compat == "fastai07":
            scale[: min(math.ceil(exact_steps(self.cycle_len, steps_per_epoch, "schedule.cycle_len") / 20), lengths[0])] = 0.01
        return Table(scale, np.repeat(np.arange(self.cycles, dtype=np.int32), lengths))

    def _cycle(self, i: int, steps: int, steps_per_epoch: int) -> np.ndarray:
        peak, warms = self.peak_decay**i, self.warmup_every or i == 0
        rise = rising_steps(self.warmup, steps, steps_per_epoch, "schedule.warmup") if warms else 0
        return np.concatenate([self.floor + (peak - self.floor) * linear_warmup(rise), anneal(steps - rise, peak, self.floor)])

    def after(self, table: Table) -> float:
        """Return the floor: after the last cycle the rates stay there."""
        return self.floor
