"""Arithmetic on label arrays: int [n] of classes, or [n, classes] of zeros and ones where an example can have several."""

from __future__ import annotations

import numpy as np


def counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """int64 [classes]: how many examples have each class."""
    return np.bincount(labels, minlength=classes) if labels.ndim == 1 else labels.astype(np.int64).sum(axis=0)


def strata(labels: np.ndarray) -> np.ndarray:
    """Each example's stratum, int64 [n]: its class, or the rarest of its labels; the number of classes for one without labels."""
    if labels.ndim == 1:
        return labels.astype(np.int64)
    rarity = np.append(counts(labels, labels.shape[1]), len(labels) + 1)
    having = np.concatenate([labels > 0, ~labels.any(axis=1, keepdims=True)], axis=1)
    return np.where(having, rarity, len(labels) + 2).argmin(axis=1)
