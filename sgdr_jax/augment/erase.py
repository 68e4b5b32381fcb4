"""Blank out parts: a random rectangle, a square that may hang over the border, a grid of squares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..core.types import Augmentation
from ..core.validation import require
from .draw import channel_means, check_magnitude, check_p


def _fill(image: Any, inside: Any, fill: str) -> Any:
    """The image [h, w, c] with the mean of each channel, or 0, where `inside` [h, w] holds."""
    xp = image.__array_namespace__()
    return xp.where(inside[:, :, None], channel_means(image) if fill == "mean" else xp.zeros_like(image[0, 0]), image)


def _centres(image: Any) -> tuple[Any, Any]:
    """Places of the rows and columns in 0…1; a pixel belongs to a shape if its centre does."""
    xp = image.__array_namespace__()
    rows, columns = ((xp.arange(n, dtype=image.dtype) + 0.5) / n for n in image.shape[:2])
    return rows, columns


@dataclass(frozen=True)
class Erase(Augmentation):
    """Fills a random rectangle inside the image with its mean colour, or black: area drawn evenly, aspect evenly in its logarithm.

    A side that would be longer than the image is cut to it; the strength scales the area.
    Source: Zhong et al. 2020, "Random erasing".
    """

    share: tuple[float, float] = (0.02, 0.2)
    """Least and largest share of the image that is erased."""
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    """Least and largest width / height of the rectangle."""
    fill: Literal["mean", "zero"] = "mean"
    """Mean of each channel of the image at hand, or 0."""
    p: float = 0.5
    """Probability, 0…1."""

    draws: ClassVar[int] = 4

    def __post_init__(self) -> None:
        ok = len(self.share) == 2 and 0 <= self.share[0] <= self.share[1] <= 1
        require(ok, "Erase.share", self.share, "use (least, largest) share, 0…1")
        ok = len(self.aspect) == 2 and 0 < self.aspect[0] <= self.aspect[1] < math.inf
        require(ok, "Erase.aspect", self.aspect, "use (least, largest) width / height, above 0")
        require(self.fill in ("mean", "zero"), "Erase.fill", self.fill, 'use "mean" or "zero"')
        check_p(self)

    def pixels(self, u: Any, s: Any, image: Any) -> Any:
        """The image [size, size, c] with the rectangle filled."""
        xp = u.__array_namespace__()
        share = s * (self.share[0] + u[0] * (self.share[1] - self.share[0]))
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        aspect = xp.exp(low + u[1] * (high - low))
        one = xp.ones_like(share)
        w, h = xp.minimum(xp.sqrt(share * aspect), one), xp.minimum(xp.sqrt(share / aspect), one)
        left, top = u[2] * (1 - w), u[3] * (1 - h)
        rows, columns = _centres(image)
        return _fill(image, ((rows >= top) & (rows < top + h))[:, None] & ((columns >= left) & (columns < left + w)), self.fill)


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Fills a square centred on a random pixel, which may hang over the border. Source: DeVries & Taylor 2017, "Cutout"."""

    side: float = 0.5
    """Side of the square as a share of the image's, 0…2."""
    fill: Literal["mean", "zero"] = "mean"
    """Mean of each channel of the image at hand, or 0."""
    p: float = 1.0
    """Probability, 0…1."""

    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_magnitude(self, "side", 0, 2, "a share of the side, 0…2")
        require(self.fill in ("mean", "zero"), "Cutout.fill", self.fill, 'use "mean" or "zero"')
        check_p(self)

    def pixels(self, u: Any, s: Any, image: Any) -> Any:
        """The image [size, size, c] with the square filled: `|x - u[0]| < side/2` and `|y - u[1]| < side/2`."""
        xp = u.__array_namespace__()
        rows, columns = _centres(image)
        half = s * self.side / 2
        return _fill(image, (xp.abs(rows - u[1]) < half)[:, None] & (xp.abs(columns - u[0]) < half), self.fill)


@dataclass(frozen=True)
class GridMask(Augmentation):
    """Fills the squares of a regular grid with a random period and place; of each period the share `ratio` is filled in x and y.

    Source: Chen et al. 2020, "GridMask" (without its rotation of the grid).
    """

    period: tuple[float, float] = (0.2, 0.5)
    """Least and largest period as a share of the side."""
    ratio: float = 0.5
    """Side of a filled square as a share of the period, 0…1."""
    fill: Literal["mean", "zero"] = "zero"
    """Mean of each channel of the image at hand, or 0."""
    p: float = 0.5
    """Probability, 0…1."""

    draws: ClassVar[int] = 3

    def __post_init__(self) -> None:
        ok = len(self.period) == 2 and 0 < self.period[0] <= self.period[1] <= 1
        require(ok, "GridMask.period", self.period, "use (least, largest) share of the side, above 0, up to 1")
        check_magnitude(self, "ratio", 0, 1, "a share of the period, 0…1")
        require(self.fill in ("mean", "zero"), "GridMask.fill", self.fill, 'use "mean" or "zero"')
        check_p(self)

    def pixels(self, u: Any, s: Any, image: Any) -> Any:
        """The image [size, size, c] with the grid filled: both frac(x/d + u[1]) and frac(y/d + u[2]) below the ratio, d the period."""
        xp = u.__array_namespace__()
        d = self.period[0] + u[0] * (self.period[1] - self.period[0])
        rows, columns = _centres(image)
        within = [(v := place / d + shift) - xp.floor(v) < s * self.ratio for place, shift in ((rows, u[2]), (columns, u[1]))]
        return _fill(image, within[0][:, None] & within[1], self.fill)
