"""Turn images about their centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..config import require
from ..types import Augmentation


@dataclass(frozen=True)
class Rotate(Augmentation):
    """Turns by an angle drawn evenly from ±degrees; what comes in at the corners is the image reflected at its borders.

    Source: `RandomRotate` of fastai 0.7, which also defaults to a probability of 0.75.
    """

    degrees: float = 10.0
    """Largest angle, 0…180."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require(0 <= self.degrees <= 180, "Rotate.degrees", self.degrees, "use an angle in degrees, 0…180")
        require(0 <= self.p <= 1, "Rotate.p", self.p, "use a probability, 0…1")

    def matrix(self, u: Any) -> Any:
        """The map [3, 3] from output to input coordinates: a rotation by (2·u[0] - 1)·degrees."""
        xp = u.__array_namespace__()
        angle = (2 * u[0] - 1) * math.radians(self.degrees)
        cos, sin, zero = xp.cos(angle), xp.sin(angle), xp.zeros_like(angle)
        return xp.reshape(xp.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1]), (3, 3))
