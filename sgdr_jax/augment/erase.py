"""Blank out a random rectangle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..config import require
from ..types import Augmentation


@dataclass(frozen=True)
class Erase(Augmentation):
    """Fills a random rectangle inside the image with its mean colour, or black: area drawn evenly, aspect evenly in its logarithm.

    A side that would be longer than the image is cut to it; a pixel belongs to the rectangle if its centre does.
    Sources: Zhong et al. 2020, "Random erasing"; DeVries & Taylor 2017, "Cutout".
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
        require(0 <= self.p <= 1, "Erase.p", self.p, "use a probability, 0…1")

    def pixels(self, u: Any, image: Any) -> Any:
        """The image [size, size, c] with the rectangle filled."""
        xp = u.__array_namespace__()
        share = self.share[0] + u[0] * (self.share[1] - self.share[0])
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        aspect = xp.exp(low + u[1] * (high - low))
        one = xp.ones_like(share)
        w, h = xp.minimum(xp.sqrt(share * aspect), one), xp.minimum(xp.sqrt(share / aspect), one)
        left, top = u[2] * (1 - w), u[3] * (1 - h)
        rows, columns = ((xp.arange(n, dtype=image.dtype) + 0.5) / n for n in image.shape[:2])
        inside = ((rows >= top) & (rows < top + h))[:, None] & ((columns >= left) & (columns < left + w))
        mean = xp.mean(image, axis=(0, 1), keepdims=True)
        return xp.where(inside[:, :, None], mean if self.fill == "mean" else xp.zeros_like(mean), image)
