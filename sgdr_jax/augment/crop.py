"""Random resized crop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..core.types import Augmentation
from ..core.validation import require
from .arithmetic import Array, Matrix, Scalar, between, linear
from .checks import check_p


@dataclass(frozen=True)
class Crop(Augmentation):
    """Stretches a random window to the whole image: uniform area, log-uniform aspect ratio, uniform place.

    A side longer than the image is cut to it, where `RandomResizedCrop` of torchvision draws again.

    Source: Szegedy et al. 2015, "Going deeper with convolutions".

    Example:
        >>> import numpy as np
        >>> Crop(area=(0.25, 0.25), aspect=(1, 1)).matrix(np.full(4, 0.5), 1.0).diagonal()
        array([0.5, 0.5, 1. ])
    """

    area: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest share of the image that the window covers."""
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width / height of the window."""
    p: float = 1.0
    """Probability, 0…1."""

    draws: ClassVar[int] = 4

    def __post_init__(self) -> None:
        ok = len(self.area) == 2 and 0 < self.area[0] <= self.area[1] <= 1
        require(ok, "Crop.area", self.area, "use (smallest, largest) share, above 0, up to 1")
        ok = len(self.aspect) == 2 and 0 < self.aspect[0] <= self.aspect[1] < math.inf
        require(ok, "Crop.aspect", self.aspect, "use (smallest, largest) width / height, above 0")
        check_p(self)

    def matrix(self, u: Array, s: Scalar) -> Matrix:
        """Return the map x ← x·w + (2·u[2] - 1)·(1 - w), and likewise y with h and u[3].

        w·h = 1 - s·(1 - area) and w/h = aspect^s, so that strength 0 is the whole image.
        """
        xp = u.__array_namespace__()
        area = 1 - s * (1 - between(u[0], *self.area))
        aspect = xp.exp(s * between(u[1], math.log(self.aspect[0]), math.log(self.aspect[1])))
        one = xp.ones_like(area)
        w, h = xp.minimum(xp.sqrt(area * aspect), one), xp.minimum(xp.sqrt(area / aspect), one)
        return linear(u, ((w, 0, (2 * u[2] - 1) * (1 - w)), (0, h, (2 * u[3] - 1) * (1 - h))))
