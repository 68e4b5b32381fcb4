"""Arithmetic that descriptions share: checks of fields, and magnitudes from uniform numbers."""

from __future__ import annotations

import math
from typing import Any

from ..core.validation import require

GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey. Source: ITU-R BT.601, as in Pillow."""


def check_p(owner: Any) -> None:
    """Raises InputError unless `owner.p` is a probability."""
    require(0 <= owner.p <= 1, f"{type(owner).__name__}.p", owner.p, "use a probability, 0…1")


def check_magnitude(owner: Any, name: str, least: float, most: float, unit: str) -> None:
    """Raises InputError unless least ≤ `owner.<name>` ≤ most and, where there is one, `owner.least` is between 0 and that."""
    value = getattr(owner, name)
    require(least <= value <= most and math.isfinite(value), f"{type(owner).__name__}.{name}", value, f"use {unit}")
    floor = getattr(owner, "least", 0.0)
    require(0 <= floor <= value, f"{type(owner).__name__}.least", floor, f"use a number from 0 to {name} ({value})")


def signed(u: Any, s: Any, most: float, least: float = 0.0) -> Any:
    """A magnitude drawn evenly from least…most with a random sign, times the strength s; least = 0 is the even draw from ±most.

    >>> import numpy as np
    >>> [float(signed(np.float64(u), 0.5, 10.0, 6.0)) for u in (0.0, 0.25, 0.75)]
    [-5.0, -4.0, 4.0]
    """
    xp = u.__array_namespace__()
    v = 2 * u - 1
    return xp.where(v < 0, -1.0, 1.0).astype(u.dtype) * (least + xp.abs(v) * (most - least)) * s


def linear(rows: tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]) -> Any:
    """The 3×3 matrix with these first two rows and the third row (0, 0, 1); at least one entry is an array."""
    flat = [entry for row in rows for entry in row]
    like = next(entry for entry in flat if hasattr(entry, "dtype"))
    xp = like.__array_namespace__()
    zero = xp.zeros_like(like)
    return xp.reshape(xp.stack([zero + entry for entry in (*flat, 0, 0, 1)]), (3, 3))


def interval(u: Any, ends: tuple[float, float]) -> Any:
    """The number at share u of the way from ends[0] to ends[1]."""
    return ends[0] + u * (ends[1] - ends[0])


def channel_means(image: Any) -> Any:
    """The mean of each channel of an image [h, w, c]; [c].

    Sums of runs of pixels side by side, then of the runs: on CPU four times faster than a mean over two axes before a short one.
    """
    h, w, c = image.shape
    run = math.gcd(h * w, 64)
    return image.reshape(-1, run * c).sum(0).reshape(run, c).sum(0) / (h * w)
