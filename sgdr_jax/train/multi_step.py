"""Several updates per dispatch: a stage cut into spans that end where the host has something to do.

A span is one program, which saves the time between small updates. The same program does spans of any length up to the stage's longest,
so there is one, and where a run is resumed or cut has no influence on its bits. A short span takes the time of a long one (`span.Span`),
so the length is chosen to divide what lies between bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

MOST = 32
"""Longest span that is chosen: longer ones save next to nothing, and delay progress and preemption."""


def sections(*columns: np.ndarray) -> np.ndarray:
    """Return the number of the stretch that each update is in: one over which all columns keep their values; int [steps].

    >>> sections(np.array([0, 0, 1, 1]), np.array([64, 96, 96, 96])).tolist()
    [0, 1, 2, 2]
    """
    changes = np.any([np.diff(column) != 0 for column in columns], axis=0)
    return np.concatenate([[0], np.cumsum(changes)])


def bounds(section: np.ndarray, save_every: int | None = None) -> list[int]:
    """Return the numbers of updates done at which spans end, from 0: at the ends of sections and at checkpoints.

    >>> bounds(np.array([0, 0, 0, 1, 1]), save_every=2)
    [0, 2, 3, 4, 5]
    """
    steps = len(section)
    ends = {0, steps, *(np.flatnonzero(np.diff(section)) + 1).tolist(), *range(0, steps, save_every or max(steps, 1))}
    return sorted(ends)


def span_length(between: Iterable[int], most: int) -> int:
    """Return the span length, up to `most`, of the lowest total cost for these numbers of updates between bounds, the longest of equals.

    Each span is counted as its length plus one update for the dispatch.

    >>> span_length([40, 40, 80], 32), span_length([7], 32), span_length([], 32)
    (20, 7, 32)
    """
    between = tuple(between)
    return min(range(most, 0, -1), key=lambda length: sum(-(-n // length) * (length + 1) for n in between))


def spans(section: np.ndarray, length: int, save_every: int | None = None, first: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (first update, number of updates) of each span in order.

    Args:
        section: int [steps], the same for updates that may share a span: those of a cycle, at one image size.
        length: largest number of updates of a span, at least 1; the last span before a bound may be shorter.
        save_every: see `bounds`.
        first: update to start at; from within a span, its rest comes first.

    >>> list(spans(np.array([0, 0, 0, 0, 0, 1, 1]), 2))
    [(0, 2), (2, 2), (4, 1), (5, 2)]
    """
    for start, end in pairwise(bounds(section, save_every)):
        at = max(start, first)
        while at < end:
            count = min(length - (at - start) % length, end - at)
            yield at, count
            at += count
