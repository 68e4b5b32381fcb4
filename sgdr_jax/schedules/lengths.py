"""Epochs to whole steps, in one place."""

from __future__ import annotations

import math

from ..types import InputError


def whole_steps(epochs: float, steps_per_epoch: int, what: str) -> int:
    """`epochs` as a number of updates, rounded half up: floor(epochs · steps_per_epoch + ½).

    Raises InputError when that is less than one whole step before rounding, because such a cycle would never reach its peak, and when
    it is over 100 million.

    Example:
        >>> whole_steps(1.5, 15, "cycle_len")
        23
    """
    exact = epochs * steps_per_epoch
    if exact > 1e8:
        raise InputError(f"{what} is {epochs:g} epochs of {steps_per_epoch} steps, over 100 million steps; use fewer epochs or cycles")
    if not exact > 1 - 1e-5:  # 1/49 of 49 steps is below one in floating point, and so may be a length that was printed in six digits
        raise InputError(
            f"{what} is {epochs:g} epochs of {steps_per_epoch} steps, less than one step; use at least {1 / steps_per_epoch:g} epochs"
        )
    return math.floor(exact + 0.5)
