"""Which networks are kept at cycle ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError


@dataclass(frozen=True)
class Snapshots:
    """Networks kept at cycle ends, compared alone and together when the run ends; none by default. They do not change the final network.

    Each takes 4 bytes a parameter on the disk, and so do the averages of weights that are made of them, up to three.
    """

    last: int = 0
    """How many of the last cycle ends are kept."""
    best: int = 0
    """How many of the cycle ends with the highest validation accuracy are kept; the very last one is kept beside them."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise InputError(f"snapshots.{name} is {value!r}; use 0 or more")

    def __bool__(self) -> bool:
        return bool(self.last or self.best)


def chosen(states: Sequence[Mapping[str, Any]], how: Snapshots) -> list[int]:
    """Positions of the cycle ends to keep, in order: the last `how.last` (the very last one always) and the best `how.best`.

    The best have the highest validation accuracy, of equal ones the lowest loss, then the earliest.

    Args:
        states: facts of cycle ends in the order of time, with "accuracy" and "loss".

    >>> chosen([{"accuracy": a, "loss": 1.0} for a in (0.5, 0.9, 0.7, 0.6)], Snapshots(last=1, best=2))
    [1, 2, 3]
    """
    if not how:
        return []
    last = range(len(states))[-max(how.last, 1) :]
    finite = [i for i, s in enumerate(states) if s["loss"] is not None and math.isfinite(s["loss"])]
    best = sorted(finite, key=lambda i: (-states[i]["accuracy"], states[i]["loss"], i))[: how.best]
    return sorted({*last, *best})
