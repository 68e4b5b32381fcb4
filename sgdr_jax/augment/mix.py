"""Blend two images of a batch and their labels: MixUp and CutMix. The other image is the neighbour in the batch (0 with 1, 2 with 3, …)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from ..core.types import Augmentation
from .draw import check_magnitude, check_p


@cache
def _quantiles(alpha: float) -> np.ndarray:
    """Quantiles of Beta(alpha, alpha) at 2,049 even shares."""
    from scipy.special import betaincinv

    return np.asarray(betaincinv(alpha, alpha, np.linspace(0, 1, 2049)), np.float64)


def _beta(u: Any, alpha: float) -> Any:
    """A number of distribution Beta(alpha, alpha) by inversion, read between tabulated quantiles."""
    xp = u.__array_namespace__()
    table = xp.asarray(_quantiles(alpha), dtype=u.dtype)
    return xp.interp(u, xp.linspace(0, 1, len(table), dtype=u.dtype), table)


@dataclass(frozen=True)
class MixUp(Augmentation):
    """x ← share·x + (1 - share)·other, labels alike; the share is drawn from Beta(alpha, alpha), for each image of the batch.

    Source: Zhang et al. 2018, "mixup" (there one share for the batch).
    """

    alpha: float = 0.4
    """Small: nearly unmixed images, or nearly swapped ones; 1: all shares alike; above 0, up to 10."""
    p: float = 1.0
    """Probability, 0…1."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "alpha", 1e-2, 10, "a number from 0.01 to 10")
        check_p(self)

    def mix(self, u: Any, s: Any, image: Any, other: Any) -> tuple[Any, Any]:
        """The blend of two images [size, size, c], and the share of the first."""
        share = 1 - s * (1 - _beta(u[0], self.alpha))
        return share * image + (1 - share) * other, share


@dataclass(frozen=True)
class CutMix(Augmentation):
    """Pastes a rectangle of the other image, of area 1 - λ with λ from Beta(alpha, alpha), around a random point, cut at the border.

    The labels are mixed by the pixels that are left, not by λ. Source: Yun et al. 2019, "CutMix".
    """

    alpha: float = 1.0
    """1: all areas alike; above 0, up to 10."""
    p: float = 0.5
    """Probability, 0…1."""

    draws: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_magnitude(self, "alpha", 1e-2, 10, "a number from 0.01 to 10")
        check_p(self)

    def mix(self, u: Any, s: Any, image: Any, other: Any) -> tuple[Any, Any]:
        """The image [size, size, c] with the rectangle pasted in, and the share of its pixels that is left."""
        xp = u.__array_namespace__()
        half = xp.sqrt(s * (1 - _beta(u[0], self.alpha))) / 2
        rows, columns = ((xp.arange(n, dtype=image.dtype) + 0.5) / n for n in image.shape[:2])
        inside = (xp.abs(rows - u[2]) < half)[:, None] & (xp.abs(columns - u[1]) < half)
        return xp.where(inside[:, :, None], other, image), 1 - xp.mean(inside.astype(image.dtype))
