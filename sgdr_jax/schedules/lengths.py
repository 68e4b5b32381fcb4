"""Epochs to whole steps, in one place."""

from __future__ import annotations

import math

from ..types import InputError


def whole_steps(epochs: float, steps_per_epoch: int, what: str) -> int:
    """`epochs` as a number of updates, rounded half up: floor(epochs · steps_per_epoch + ½).

    Raises InputError when that is less than one whole step before rounding, because such a cycle would never reach its peak.

    Example:
        >>> whole_steps(1.5, 15, "cycle_len")
        23
    """
    exact = epochs * steps_per_epoch
    if not exact >= 1 or not math.isfinite(exact):
        raise InputError(f"{what} is {epochs:g} epochs of {steps_per_epoch} steps, less than one step; use at least {1 / steps_per_epoch:g} epochs")
    return math.floor(exact + 0.5)
