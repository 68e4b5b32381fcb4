"""Restarts as steps of a population: the weakest runs go on as copies of the strongest, at other rates. What is asked for. No jax.

    sweep = Sweep("rates", base, axes=(grid({"stages.*.lr": (1e-4, 1e-3, 1e-2, 1e-1)}),), seeds=(0, 1), population=Population())

Source: Jaderberg et al. 2017, "Population Based Training of Neural Networks" (truncation selection).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .config import require


@dataclass(frozen=True)
class Population:
    """The runs of a sweep as members that meet at every restart. There the weakest go on with network, optimizer state, best state and peak
    values of one of the strongest, of which some are multiplied or divided by a factor; seed, images and schedule stay their own."""

    share: float = 0.25
    """Of the members, how many are replaced at each restart, and how many may be copied; at least one of each."""
    factor: float = 1.25
    """Each field of a copy is as likely multiplied as divided by this."""
    fields: tuple[Literal["lr", "weight_decay"], ...] = ("lr",)
    """What is changed in a copy: the peak rates, the weight decay."""

    def __post_init__(self) -> None:
        require(0 < self.share <= 0.5, "population.share", self.share, "use a share above 0, up to 0.5")
        require(1 < self.factor < math.inf, "population.factor", self.factor, "use a number above 1, such as 1.25")
        good = bool(self.fields) and set(self.fields) <= {"lr", "weight_decay"} and len(set(self.fields)) == len(self.fields)
        require(good, "population.fields", self.fields, "use lr, weight_decay, or both")

    def count(self, members: int) -> int:
        """How many of so many members are replaced, none of which may be copied.

        >>> [Population().count(n) for n in (1, 2, 4, 9)]
        [0, 1, 1, 2]
        """
        return min(max(int(self.share * members), 1), members // 2)


def weakness(accuracy: float, loss: float) -> tuple[bool, float, float]:
    """Sorts scores from the strongest: by accuracy, of equal ones by loss; those whose loss is not finite are the weakest, and alike.

    >>> weakness(0.9, 2.0) < weakness(0.5, 0.9) < weakness(0.5, 1.0) < weakness(0.9, math.nan)
    True
    """
    return (False, -accuracy, loss) if math.isfinite(loss) else (True, 0.0, 0.0)


def order(scores: Mapping[int, tuple[float, float]]) -> list[int]:
    """Members from the strongest to the weakest by accuracy and loss; of equal ones the first comes first.

    >>> order({0: (0.5, 1.0), 1: (0.9, math.nan), 2: (0.5, 0.9), 3: (0.6, 2.0)})
    [3, 2, 0, 1]
    """
    return sorted(scores, key=lambda member: (weakness(*scores[member]), member))


def check_alone(**options: object) -> None:
    """Raises InputError for an option of a sweep, given by its name, under which the members of a population could not all meet."""
    for name, value in options.items():
        require(value is None, f"--{name}", value, "the members of a population run all side by side in one process; leave it out")
