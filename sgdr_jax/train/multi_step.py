"""Several updates per dispatch: a stage cut into spans that end where the host has something to do.

A span is one program, which saves the time between small updates. All spans of a stage have the same length or are single updates, so
there are two programs at most. Spans depend on the stage alone, not on where a run resumes, so a resumed run has the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

MOST = 16
"""Longest span that is chosen: longer ones save next to nothing, and the inputs of a span are in memory together."""


def bounds(cycle: np.ndarray, save_every: int | None = None) -> list[int]:
    """Return the numbers of updates done at which spans end, from 0: at cycle ends and checkpoints.

    >>> bounds(np.array([0, 0, 0, 1, 1]), save_every=2)
    [0, 2, 3, 4, 5]
    """
    steps = len(cycle)
    ends = {0, steps, *(np.flatnonzero(np.diff(cycle)) + 1).tolist(), *range(0, steps, save_every or max(steps, 1))}
    return sorted(ends)


def spans(cycle: np.ndarray, length: int, save_every: int | None = None, first: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (first update, number of updates) of each span in order; the number is `length` or 1.

    Args:
        cycle: cycle index of each update, int [steps].
        length: updates of a span, at least 1; the remainder before a bound is done in single updates.
        save_every: see `bounds`.
        first: update to start at; from within a span, single updates lead to the next one.

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
    """Return the length, up to `most`, that gives the fewest spans; the smallest of several.

    >>> fewest(np.zeros(21, int))
    7
    """
    lengths = np.diff(bounds(cycle, save_every))
    return min(range(1, most + 1), key=lambda n: int((lengths // n + lengths % n).sum()))
