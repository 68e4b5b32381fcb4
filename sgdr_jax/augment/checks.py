"""Checks of the fields that augmentations have in common."""

from __future__ import annotations

import math

from ..core.types import Augmentation
from ..core.validation import require


def check_p(owner: Augmentation) -> None:
    """Raise InputError unless `owner.p` is a probability."""
    value = getattr(owner, "p", math.nan)
    require(0 <= value <= 1, f"{type(owner).__name__}.p", value, "use a probability, 0…1")


def check_magnitude(owner: Augmentation, name: str, low: float, high: float, unit: str) -> None:
    """Raise InputError unless low ≤ `owner.<name>` ≤ high, 0 ≤ `owner.least` ≤ `owner.<name>` (if there is a `least`), and `p` is valid."""
    check_p(owner)
    value = getattr(owner, name)
    require(low <= value <= high and math.isfinite(value), f"{type(owner).__name__}.{name}", value, f"use {unit}")
    least = getattr(owner, "least", 0.0)
    require(0 <= least <= value, f"{type(owner).__name__}.least", least, f"use a number from 0 to {name} ({value})")
