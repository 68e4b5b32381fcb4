"""Erased parts: a random rectangle, a square that may extend over the border, a grid of squares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..core.types import Augmentation
from ..core.validation import require
from .arithmetic import Array, Image, Scalar, between, channel_means, pixel_centres
from .checks import check_magnitude, check_p


def _fill(image: Image, inside: Array, fill: Literal["mean", "zero"]) -> Image:
    """Return the image with the mean of each channel, or 0, where `inside` [h, w] holds."""
    xp = image.__array_namespace__()
    return xp.where(inside[:, :, None], channel_means(image) if fill == "mean" else xp.zeros_like(image[0, 0]), image)


def _check_fill(owner: Erase | Cutout | GridMask) -> None:
    require(owner.fill in ("mean", "zero"), f"{type(owner).__name__}.fill", owner.fill, 'use "mean" or "zero"')


@dataclass(frozen=True)
class Erase(Augmentation):
    """Fills a random rectangle inside the image with its mean colour, or black: uniform area, log-uniform aspect ratio.

    A side longer than the image is cut to it. The strength scales the area.

    Source: Zhong et al. 2020, "Random erasing".

    Example:
        >>> import numpy as np
        >>> erase = Erase(share=(0.25, 0.25), aspect=(1, 1), fill="zero")
        >>> erase.pixels(np.zeros(4), 1.0, np.ones((4, 4, 1)))[..., 0].sum(axis=1)
        array([2., 2., 4., 4.])
    """

    share: tuple[float, float] = (0.02, 0.2)
    """Smallest and largest share of the image that is erased."""
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    """Smallest and largest width / height of the rectangle."""
    fill: Literal["mean", "zero"] = "mean"
    """Mean of each channel of the image at hand, or 0."""
    p: float = 0.5
    """Probability, 0…1."""

    draws: ClassVar[int] = 4

    def __post_init__(self) -> None:
        ok = len(self.share) == 2 and 0 <= self.share[0] <= self.share[1] <= 1
        require(ok, "Erase.share", self.share, "use (smallest, largest) share, 0…1")
        ok = len(self.aspect) == 2 and 0 < self.aspect[0] <= self.aspect[1] < math.inf
        require(ok, "Erase.aspect", self.aspect, "use (smallest, largest) width / height, above 0")
        _check_fill(self)
        check_p(self)

    def pixels(self, u: Array, s: Scalar, image: Image) -> Image:
        """Return the image with the rectangle filled."""
        xp = u.__array_namespace__()
        share = s * between(u[0], *self.share)
        aspect = xp.exp(between(u[1], math.log(self.aspect[0]), math.log(self.aspect[1])))
        one = xp.ones_like(share)
        w, h = xp.minimum(xp.sqrt(share * aspect), one), xp.minimum(xp.sqrt(share / aspect), one)
        left, top = u[2] * (1 - w), u[3] * (1 - h)
        rows, columns = pixel_centres(image)
        return _fill(image, ((rows >= top) & (rows < top + h))[:, None] & ((columns >= left) & (columns < left + w)), self.fill)


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Fills a square centred on a random pixel, which may extend over the border.

    Source: DeVries & Taylor 2017, "Cutout".

    Example:
        >>> import numpy as np
        >>> Cutout(0.5, fill="zero").pixels(np.array([0.0, 0.5]), 1.0, np.ones((4, 4, 1)))[..., 0].sum(axis=1)
        array([4., 3., 3., 4.])
    """

    side: float = 0.5
    """Side of the square as a share of the image's, 0…2."""
    fill: Literal["mean", "zero"] = "mean"
    """Mean of each channel of the image at hand, or 0."""
    p: float = 1.0
    """Probability, 0…1."""

    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_magnitude(self, "side", 0, 2, "a share of the side, 0…2")
        _check_fill(self)

    def pixels(self, u: Array, s: Scalar, image: Image) -> Image:
        """Return the image with the square `|x - u[0]| < side/2`, `|y - u[1]| < side/2` filled."""
        xp = u.__array_namespace__()
        rows, columns = pixel_centres(image)
        half = s * self.side / 2
        return _fill(image, (xp.abs(rows - u[1]) < half)[:, None] & (xp.abs(columns - u[0]) < half), self.fill)


@dataclass(frozen=True)
class GridMask(Augmentation):
    """Fills the squares of a regular grid with a random period and place; the share `ratio` of each period is filled in x and y.

    Source: Chen et al. 2020, "GridMask" (without its rotation of the grid).

    Example:
        >>> import numpy as np
        >>> GridMask(period=(0.5, 0.5)).pixels(np.zeros(3), 1.0, np.ones((4, 4, 1)))[..., 0].sum(axis=1)
        array([2., 4., 2., 4.])
    """

    period: tuple[float, float] = (0.2, 0.5)
    """Smallest and largest period as a share of the side."""
    ratio: float = 0.5
    """Side of a filled square as a share of the period, 0…1."""
    fill: Literal["mean", "zero"] = "zero"
    """Mean of each channel of the image at hand, or 0."""
    p: float = 0.5
    """Probability, 0…1."""

    draws: ClassVar[int] = 3

    def __post_init__(self) -> None:
        ok = len(self.period) == 2 and 0 < self.period[0] <= self.period[1] <= 1
        require(ok, "GridMask.period", self.period, "use (smallest, largest) share of the side, above 0, up to 1")
        check_magnitude(self, "ratio", 0, 1, "a share of the period, 0…1")
        _check_fill(self)

    def pixels(self, u: Array, s: Scalar, image: Image) -> Image:
        """Return the image filled where frac(x/d + u[1]) and frac(y/d + u[2]) are below the ratio, with the period d."""
        xp = u.__array_namespace__()
        d = between(u[0], *self.period)
        rows, columns = pixel_centres(image)
        within = [(v := place / d + shift) - xp.floor(v) < s * self.ratio for place, shift in ((rows, u[2]), (columns, u[1]))]
        return _fill(image, within[0][:, None] & within[1], self.fill)
