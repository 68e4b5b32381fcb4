"""95 % intervals of figures that are means over images."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

LEVEL = 0.95
"""Confidence level of all intervals."""


class Interval(NamedTuple):
    """Limits of an interval; NaN where they are unknown."""

    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan)


def share_interval(share: float, n: int) -> Interval:
    """Return Wilson's score interval of a share of n images; unknown if n is 0.

    With z the normal quantile it is (p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n): within 0…1, and no point where all images are right.
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    >>> [round(limit, 3) for limit in share_interval(1.0, 16)]
    [0.806, 1.0]
    """
    if not n:
        return UNKNOWN
    z2 = float(special.ndtri((1 + LEVEL) / 2)) ** 2 / n
    half = math.sqrt(z2 * share * (1 - share) + z2**2 / 4)
    return Interval(max((share + z2 / 2 - half) / (1 + z2), 0.0), min((share + z2 / 2 + half) / (1 + z2), 1.0))


def right_interval(right: Float[np.ndarray, " n"]) -> Interval:
    """Return the interval of the mean of shares of right decisions, a number in 0…1 for each image.

    It is Wilson's where each image is right or wrong, else, for multi-label data, Student's. Where all shares are alike they do not show
    how they vary; Wilson's interval is then too wide rather than too narrow, as no numbers in 0…1 vary more than zeros and ones.
    """
    right = np.asarray(right, np.float64)
    if not right.size:
        return UNKNOWN
    if np.isin(right, (0, 1)).all() or np.ptp(right) == 0:
        return share_interval(float(right.mean()), len(right))
    low, high = _student(right)
    return Interval(max(low, 0.0), min(high, 1.0))


def loss_interval(losses: Float[np.ndarray, " n"]) -> Interval:
    """Return Student's interval of the mean of losses, not below 0; unknown for fewer than two, or where all are alike."""
    low, high = _student(np.asarray(losses, np.float64))
    return Interval(max(0.0, low) if math.isfinite(low) else math.nan, high)


def _student(values: Float[np.ndarray, " n"]) -> Interval:
    n = len(values)
    if n < 2 or not np.isfinite(values).all() or np.ptp(values) == 0:
        return UNKNOWN
    mean, half = values.mean(), special.stdtrit(n - 1, (1 + LEVEL) / 2) * values.std(ddof=1) / math.sqrt(n)
    return Interval(float(mean - half), float(mean + half))


def limits_text(interval: Interval, form: str = ".1f", scale: int = 1) -> str:
    """Format what follows a figure; empty where the limits are unknown.

    >>> limits_text(Interval(0.8064, 1.0), scale=100)
    ' (80.6–100.0)'
    """
    return "" if math.isnan(interval.low) else f" ({scale * interval.low:{form}}–{scale * interval.high:{form}})"
