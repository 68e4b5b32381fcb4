"""Whether doing several things by one program is faster than one after the other: tried out, for no more than it can gain."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

LONG = 0.1
"""Seconds from which one of them alone is bound by its arithmetic: nothing is to be gained, and compiling it again takes long."""
SHARE = 0.25
"""Of the most that could be gained, what the trial may cost: compiling, about as long as the single program took, and three calls."""
MARGIN = 0.95
"""One program is taken when it needs less than this share of the time in turn: what is nearer than that is noise."""


class Verdict(NamedTuple):
    """What a trial has found.

    Attributes:
        gains: whether one program is the faster.
        slow: seconds of a call of all, one after the other.
        fast: seconds of one by the one program; not a number where that was not tried.
        cost: seconds that the trial took, compilation included.
        why: it was not tried, or "".
    """

    gains: bool
    slow: float
    fast: float
    cost: float
    why: str


def contest(
    alone: Callable[[], None], together: Callable[[], None], count: int, calls: int, clock: Callable[[], float] = time.perf_counter
) -> Verdict:
    """Times both ways, and none longer than is worth it.

    Args:
        alone: does one of the things, and waits for it; compiles when it is first called.
        together: does all of them by one program.
        count: how many there are.
        calls: how often they are to be done.
        clock: seconds since any moment.
    """
    began = clock()
    alone()
    compiling = clock() - began
    single = _least(alone, clock)
    slow, fast = single * count, math.nan
    most = (slow - single) * calls  # were all as fast as one
    why = "each is bound by its arithmetic" if single >= LONG else ""
    if not why and compiling + 3 * slow > SHARE * most:
        why = f"{calls} of them could gain {most:.1f} s at most"
    if not why:
        together()
        fast = _least(together, clock)
    return Verdict(fast < MARGIN * slow, slow, fast, clock() - began, why)


def _least(work: Callable[[], None], clock: Callable[[], float]) -> float:
    """Seconds of the faster of two calls."""
    times = []
    for _ in range(2):
        began = clock()
        work()
        times.append(clock() - began)
    return min(times)
