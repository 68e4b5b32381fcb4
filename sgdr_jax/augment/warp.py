"""Random perspective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..core.types import Augmentation
from .arithmetic import Array, Matrix, Scalar
from .checks import check_magnitude


@dataclass(frozen=True)
class Warp(Augmentation):
    """Changes the perspective: each corner of the view is displaced by a share of half the side, uniform on ±amount in x and y.

    `RandomPerspective` of torchvision displaces inwards only, so that the image shrinks; `Warp` of fastai displaces opposite corners alike.

    Source: Heckbert 1989, "Fundamentals of texture mapping and image warping", section 2.2.3 (unit square to quadrilateral).

    Example:
        >>> import numpy as np
        >>> x, y, w = Warp(0.2).matrix(np.zeros(8), 1.0) @ [-1, -1, 1]
        >>> round(float(x / w), 3), round(float(y / w), 3)
        (-1.2, -1.2)
    """

    amount: float = 0.2
    """Largest displacement of a corner, as a share of half the side, 0…0.45."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 8

    def __post_init__(self) -> None:
        check_magnitude(self, "amount", 0, 0.45, "a share of half the side, 0…0.45")

    def matrix(self, u: Array, s: Scalar) -> Matrix:
        """Return the projective map; the corners are displaced in reading order, x before y."""
        xp = u.__array_namespace__()
        d = (2 * u - 1) * (s * self.amount)
        (x0, y0), (x1, y1), (x3, y3), (x2, y2) = [
            (cx + d[2 * k], cy + d[2 * k + 1]) for k, (cx, cy) in enumerate(((-1, -1), (1, -1), (-1, 1), (1, 1)))
        ]  # 0…3 run around the square
        sx, sy = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
        ax, ay, bx, by = x1 - x2, y1 - y2, x3 - x2, y3 - y2
        det = ax * by - bx * ay
        g, h = (sx * by - bx * sy) / det, (ax * sy - sx * ay) / det
        unit = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, xp.ones_like(g)]
        to_unit = xp.asarray([[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]], dtype=u.dtype)
        # Elementwise, because a matrix unit would round.
        return (xp.reshape(xp.stack(unit), (3, 3, 1)) * to_unit).sum(1)
