"""Random-resized crop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..core.types import Augmentation
from ..core.validation import require
from .draw import check_p, linear


@dataclass(frozen=True)
class Crop(Augmentation):
    """Stretches a random window to the whole image: area drawn evenly, aspect ratio evenly in its logarithm, place evenly.

    A side that would be longer than the image is cut to it, where torchvision's `RandomResizedCrop` draws again.
    Source: Szegedy et al. 2015, "Going deeper with convolutions".
    """

    area: tuple[float, float] = (0.08, 1.0)
    """Least and largest share of the image that the window covers."""
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and largest width / height of the window."""
    p: float = 1.0
    """Probability, 0…1."""

    draws: ClassVar[int] = 4

    def __post_init__(self) -> None:
        ok = len(self.area) == 2 and 0 < self.area[0] <= self.area[1] <= 1
        require(ok, "Crop.area", self.area, "use (least, largest) share, above 0, up to 1")
        ok = len(self.aspect) == 2 and 0 < self.aspect[0] <= self.aspect[1] < math.inf
        require(ok, "Crop.aspect", self.aspect, "use (least, largest) width / height, above 0")
        check_p(self)

    def matrix(self, u: Any, s: Any) -> Any:
        """The map [3, 3] from output to input coordinates: x·w + (2·u[2] - 1)·(1 - w), so too y with h.

        w·h = 1 - s·(1 - area) and w/h = aspect^s, so that strength 0 is the whole image.
        """
        xp = u.__array_namespace__()
        area = 1 - s * (1 - (self.area[0] + u[0] * (self.area[1] - self.area[0])))
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        aspect = xp.exp(s * (low + u[1] * (high - low)))
        one = xp.ones_like(area)
        w, h = xp.minimum(xp.sqrt(area * aspect), one), xp.minimum(xp.sqrt(area / aspect), one)
        return linear(((w, 0, (2 * u[2] - 1) * (1 - w)), (0, h, (2 * u[3] - 1) * (1 - h))))
