"""Gamma, posterize, solarize, equalize, autocontrast: each channel through a curve, a table over the 256 levels of 8-bit images.

Values between two levels are interpolated, so the identity is exact and 8-bit images come out as Pillow's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..core.types import Augmentation
from .arithmetic import Array, Counts, Curve, Scalar, between, signed
from .checks import check_magnitude, check_p


def identity(like: Array, channels: int) -> Curve:
    """Return the curve that changes nothing, in the namespace and precision of `like`."""
    xp = like.__array_namespace__()
    return xp.zeros((1, channels), dtype=like.dtype) + (xp.arange(256, dtype=like.dtype) / 255)[:, None]


@dataclass(frozen=True)
class Gamma(Augmentation):
    """Brightens or darkens the middle levels: x ← x^g, log g uniform on ±log most.

    Example:
        >>> import numpy as np
        >>> Gamma(2.0).curve(np.array([0.0]), 1.0, np.ones((256, 1), int))[[0, 64, 255], 0].round(3)
        array([0.   , 0.501, 1.   ])
    """

    most: float = 1.5
    """Largest exponent, and its inverse, at least 1."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "most", 1, 100, "an exponent, 1…100")

    def curve(self, u: Array, s: Scalar, counts: Counts) -> Curve:
        """Return the levels to the power of the drawn exponent."""
        xp = u.__array_namespace__()
        return identity(u, counts.shape[1]) ** xp.exp(signed(u[0], s, math.log(self.most)))


@dataclass(frozen=True)
class Posterize(Augmentation):
    """Drops the lower bits of the levels; their number is uniform on least…lost.

    Source: `ImageOps.posterize` of Pillow.

    Example:
        >>> import numpy as np
        >>> curve = Posterize(7, least=7).curve(np.array([0.0]), 1.0, np.ones((256, 1), int))
        >>> np.unique(curve * 255)
        array([  0., 128.])
    """

    lost: int = 4
    """Largest number of bits dropped, 0…8."""
    p: float = 0.75
    """Probability, 0…1."""
    least: int = 0
    """Smallest number of bits dropped."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "lost", 0, 8, "a number of bits, 0…8")

    def curve(self, u: Array, s: Scalar, counts: Counts) -> Curve:
        """Return the levels without the drawn number of bits."""
        xp = u.__array_namespace__()
        bits = self.least + xp.floor(u[0] * (self.lost - self.least + 1))
        step = xp.round(xp.exp2(xp.floor(s * bits + 1e-4)))
        return xp.floor(xp.round(identity(u, counts.shape[1]) * 255) / step) * step / 255


@dataclass(frozen=True)
class Solarize(Augmentation):
    """Inverts the levels from 256·(1 - share) upwards; the share is uniform on least…share.

    Source: `ImageOps.solarize` of Pillow.

    Example:
        >>> import numpy as np
        >>> curve = Solarize(0.5, least=0.5).curve(np.array([0.0]), 1.0, np.ones((256, 1), int))
        >>> (curve[[0, 127, 128, 255], 0] * 255).round()
        array([  0., 127., 127.,   0.])
    """

    share: float = 0.5
    """Largest share of the levels that is inverted, 0…1."""
    p: float = 0.75
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest share."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "share", 0, 1, "a share of the levels, 0…1")

    def curve(self, u: Array, s: Scalar, counts: Counts) -> Curve:
        """Return the levels with the drawn share inverted."""
        xp = u.__array_namespace__()
        x = identity(u, counts.shape[1])
        share = s * between(u[0], self.least, self.share)
        return xp.where(xp.round(x * 255) >= 256 * (1 - share), 1 - x, x)


@dataclass(frozen=True)
class Equalize(Augmentation):
    """Spreads the levels of each channel so that all are about equally frequent.

    Source: `ImageOps.equalize` of Pillow, in integers.

    Example:
        >>> import numpy as np
        >>> counts = np.zeros((256, 1), int)
        >>> counts[[100, 101, 102]] = 255
        >>> Equalize().curve(np.zeros(0), 1.0, counts)[[100, 101, 102], 0]
        array([0.        , 0.50196078, 1.        ])
    """

    p: float = 0.1
    """Probability, 0…1."""

    graded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_p(self)

    def curve(self, u: Array, s: Scalar, counts: Counts) -> Curve:
        """Return the cumulated histogram; takes no draws."""
        xp = u.__array_namespace__()
        level = xp.arange(256, dtype=counts.dtype)[:, None]
        last = xp.max(xp.where(counts > 0, level, 0), axis=0)
        total = counts.sum(0)
        step = (total - xp.where(level == last, counts, 0).sum(0)) // 255
        below = xp.cumsum(counts, axis=0) - counts
        levels = xp.minimum((step // 2 + below) // xp.maximum(step, 1), 255)
        return xp.where(step > 0, levels.astype(u.dtype) / 255, identity(u, counts.shape[1]))


@dataclass(frozen=True)
class Autocontrast(Augmentation):
    """Stretches each channel to 0…1: x ← (x - low) / (high - low) with its darkest and brightest level.

    Source: `ImageOps.autocontrast` of Pillow, which rounds down.

    Example:
        >>> import numpy as np
        >>> counts = np.zeros((256, 1), int)
        >>> counts[[100, 101, 102]] = 100
        >>> Autocontrast().curve(np.zeros(0), 1.0, counts)[[100, 101, 102], 0].round(6)
        array([0. , 0.5, 1. ])
    """

    p: float = 0.1
    """Probability, 0…1."""

    graded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_p(self)

    def curve(self, u: Array, s: Scalar, counts: Counts) -> Curve:
        """Return the stretched levels; takes no draws."""
        xp = u.__array_namespace__()
        x = identity(u, counts.shape[1])
        low, high = xp.min(xp.where(counts > 0, x, 1), axis=0), xp.max(xp.where(counts > 0, x, 0), axis=0)
        return xp.where(high > low, xp.clip((x - low) / xp.where(high > low, high - low, 1), 0, 1), x)
