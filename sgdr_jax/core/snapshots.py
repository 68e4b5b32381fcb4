"""Choice of the networks to keep at cycle ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .validation import require


@dataclass(frozen=True)
class Snapshots:
    """Networks to keep at cycle ends, by default none; the run's end compares them alone, as ensembles and as averages of weights.

    They do not change the final network. Each takes 4 bytes per parameter on disk, as do their averages of weights, up to three.
    """

    last: int = 0
    """Number of last cycle ends to keep."""
    best: int = 0
    """Number of cycle ends with the highest validation accuracy to keep, besides the last one."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(value >= 0, f"snapshots.{name}", value, "use 0 or more")

    def __bool__(self) -> bool:
        return bool(self.last or self.best)


def chosen(states: Sequence[Mapping[str, Any]], snapshots: Snapshots) -> list[int]:
    """Return the positions of the cycle ends to keep, in order; the very last one is always among them.

    The best have the highest validation accuracy; ties go to the lowest loss, then to the earliest.

    Args:
        states: facts of the cycle ends in order of time, with "accuracy" and "loss".
        snapshots: how many to keep.

    Example:
        >>> chosen([{"accuracy": a, "loss": 1.0} for a in (0.5, 0.9, 0.7, 0.6)], Snapshots(last=1, best=2))
        [1, 2, 3]
    """
    if not snapshots:
        return []
    last = range(len(states))[-max(snapshots.last, 1) :]
    finite = [i for i, s in enumerate(states) if s["loss"] is not None and math.isfinite(s["loss"])]
    best = sorted(finite, key=lambda i: (-states[i]["accuracy"], states[i]["loss"], i))[: snapshots.best]
    return sorted({*last, *best})
