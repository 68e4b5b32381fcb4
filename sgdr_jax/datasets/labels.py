"""Arithmetic on label arrays: int [n] of classes, or [n, classes] of zeros and ones if an example can have several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the number of examples of each class, int64 [classes]."""
    return np.bincount(labels, minlength=classes) if labels.ndim == 1 else labels.astype(np.int64).sum(axis=0)


def strata(labels: np.ndarray) -> np.ndarray:
    """Return each example's stratum, int64 [n]: its class, or the rarest of its labels; the number of classes if it has no label."""
    if labels.ndim == 1:
        return labels.astype(np.int64)
    rarity = np.append(counts(labels, labels.shape[1]), len(labels) + 1)
    having = np.concatenate([labels > 0, ~labels.any(axis=1, keepdims=True)], axis=1)
    return np.where(having, rarity, len(labels) + 2).argmin(axis=1)


def n_hot(rows: Sequence[Sequence[int] | np.ndarray], classes: int) -> np.ndarray:
    """Return float32 [n, classes] with ones at each row's class numbers.

    Example:
        >>> n_hot([[0, 2], []], classes=3).tolist()
        [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    table = np.zeros((len(rows), classes), np.float32)
    for row, shown in zip(table, rows, strict=True):
        row[shown] = 1
    return table
