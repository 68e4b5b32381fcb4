"""Look closer at a random part of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..config import require
from ..types import Augmentation


@dataclass(frozen=True)
class Zoom(Augmentation):
    """Enlarges by a factor drawn evenly from 1…most and shows a window at a random place inside the image.

    Source: the random scaling and cropping of `tfms_from_model(max_zoom=…)` in fastai 0.7.
    """

    most: float = 1.1
    """Largest enlargement, at least 1."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 3

    def __post_init__(self) -> None:
        require(1 <= self.most < math.inf, "Zoom.most", self.most, "use an enlargement of at least 1")
        require(0 <= self.p <= 1, "Zoom.p", self.p, "use a probability, 0…1")

    def matrix(self, u: Any) -> Any:
        """The map [3, 3] from output to input coordinates: x/z + (2·u[1] - 1)·(1 - 1/z) with z = 1 + u[0]·(most - 1), and so for y."""
        xp = u.__array_namespace__()
        share = 1 / (1 + u[0] * (self.most - 1))
        x, y, zero = (2 * u[1] - 1) * (1 - share), (2 * u[2] - 1) * (1 - share), xp.zeros_like(share)
        return xp.reshape(xp.stack([share, zero, x, zero, share, y, zero, zero, zero + 1]), (3, 3))
