"""Gamma, posterize, solarize, equalize, autocontrast: each channel through a curve, a table over the 256 levels of 8-bit images.

Values between two levels are read off between their entries, so the identity is exact and 8-bit images come out as Pillow's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..core.types import Augmentation
from .draw import check_magnitude, check_p, signed


def identity(like: Any, channels: int) -> Any:
    """The curve [256, c] that changes nothing, in the namespace and precision of `like`."""
    xp = like.__array_namespace__()
    return xp.zeros((1, channels), dtype=like.dtype) + (xp.arange(256, dtype=like.dtype) / 255)[:, None]


@dataclass(frozen=True)
class Gamma(Augmentation):
    """x ← x^g with log g drawn evenly from ±log most."""

    most: float = 1.5
    """Largest exponent, and its inverse, at least 1."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "most", 1, 100, "an exponent, 1…100")
        check_p(self)

    def curve(self, u: Any, s: Any, counts: Any) -> Any:
        """Values [256, c] of the levels."""
        xp = u.__array_namespace__()
        return identity(u, counts.shape[1]) ** xp.exp(signed(u[0], s, math.log(self.most)))


@dataclass(frozen=True)
class Posterize(Augmentation):
    """Keeps the upper bits of the levels; how many of the lower ones are lost is drawn evenly from least…lost.

    Source: `ImageOps.posterize` of Pillow.
    """

    lost: int = 4
    """Most bits that are lost, 0…8."""
    p: float = 0.75
    """Probability, 0…1."""
    least: int = 0
    """Fewest bits that are lost."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "lost", 0, 8, "a number of bits, 0…8")
        check_p(self)

    def curve(self, u: Any, s: Any, counts: Any) -> Any:
        """Values [256, c] of the levels."""
        xp = u.__array_namespace__()
        bits = self.least + xp.floor(u[0] * (self.lost - self.least + 1))
        step = xp.round(xp.exp2(xp.floor(s * bits + 1e-4)))
        return xp.floor(xp.round(identity(u, counts.shape[1]) * 255) / step) * step / 255


@dataclass(frozen=True)
class Solarize(Augmentation):
    """Inverts the levels from a threshold on: all from 256·(1 - share), with the share drawn evenly from least…share.

    Source: `ImageOps.solarize` of Pillow.
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
        check_p(self)

    def curve(self, u: Any, s: Any, counts: Any) -> Any:
        """Values [256, c] of the levels."""
        xp = u.__array_namespace__()
        x = identity(u, counts.shape[1])
        share = s * (self.least + u[0] * (self.share - self.least))
        return xp.where(xp.round(x * 255) >= 256 * (1 - share), 1 - x, x)


@dataclass(frozen=True)
class Equalize(Augmentation):
    """Spreads the levels of each channel so that all come up about equally often. Source: `ImageOps.equalize` of Pillow, in integers."""

    p: float = 0.1
    """Probability, 0…1."""

    graded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_p(self)

    def curve(self, u: Any, s: Any, counts: Any) -> Any:
        """Values [256, c] of the levels, given how many pixels have each; takes no draws."""
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
    """Stretches each channel from its darkest and brightest level to 0…1. Source: `ImageOps.autocontrast` of Pillow, which rounds down."""

    p: float = 0.1
    """Probability, 0…1."""

    graded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_p(self)

    def curve(self, u: Any, s: Any, counts: Any) -> Any:
        """Values [256, c] of the levels, given how many pixels have each; takes no draws."""
        xp = u.__array_namespace__()
        x = identity(u, counts.shape[1])
        low, high = xp.min(xp.where(counts > 0, x, 1), axis=0), xp.max(xp.where(counts > 0, x, 0), axis=0)
        return xp.where(high > low, xp.clip((x - low) / xp.where(high > low, high - low, 1), 0, 1), x)
