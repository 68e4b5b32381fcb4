"""How many updates go to the devices at once: a stage cut into spans that end where the host has something to do.

A span is one program, so that for small updates the time between them is saved. All spans of a stage have the same length or are
single updates: two programs at most. What is a span depends on the stage alone, not on where a run goes on: the same bits either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

MOST = 16
"""Updates of the longest span that is chosen: beyond it there is next to nothing left to save, and their inputs lie in memory together."""


def bounds(cycle: np.ndarray, save_every: int | None = None) -> list[int]:
    """Numbers of updates done at which a span ends, from 0: where a cycle ends or a checkpoint is due.

    >>> bounds(np.array([0, 0, 0, 1, 1]), save_every=2)
    [0, 2, 3, 4, 5]
    """
    steps = len(cycle)
    ends = {0, steps, *(np.flatnonzero(np.diff(cycle)) + 1).tolist(), *range(0, steps, save_every or max(steps, 1))}
    return sorted(ends)


def spans(cycle: np.ndarray, length: int, save_every: int | None = None, first: int = 0) -> Iterator[tuple[int, int]]:
    """(first update, number of updates) of each span in order, the number being `length` or 1.

    Args:
        cycle: cycle index of each update, int [steps].
        length: updates of a span, at least 1; what is left before a bound are single updates.
        save_every: see `bounds`.
        first: update to start at; within a span, single updates lead to the next one.

    >>> list(spans(np.array([0, 0, 0, 0, 0, 1, 1]), 2))
    [(0, 2), (2, 2), (4, 1), (5, 2)]
    """
    for start, end in pairwise(bounds(cycle, save_every)):
        at = max(start, first)
        while at < end:
            count = length if (at - start) % length == 0 and at + length <= end else 1
            yield at, count
            at += count


def fewest(cycle: np.ndarray, save_every: int | None = None, most: int = MOST) -> int:
    """The length, up to `most`, that makes the fewest spans of a stage; of several the smallest.

    >>> fewest(np.zeros(21, int))
    7
    """
    lengths = np.diff(bounds(cycle, save_every))
    return min(range(1, most + 1), key=lambda n: int((lengths // n + lengths % n).sum()))
