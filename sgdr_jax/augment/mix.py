"""MixUp and CutMix: blend each image and its label with its neighbour in the batch (0 with 1, 2 with 3, …)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from ..core.types import Augmentation
from .arithmetic import Array, Image, Scalar, pixel_centres
from .checks import check_magnitude


@cache
def _quantiles(alpha: float) -> np.ndarray:
    """Return quantiles of Beta(alpha, alpha) at 2,049 even shares."""
    from scipy.special import betaincinv

    return np.asarray(betaincinv(alpha, alpha, np.linspace(0, 1, 2049)), np.float64)


def _beta(u: Array, alpha: float) -> Array:
    """Return a number distributed as Beta(alpha, alpha), by inversion, interpolated between tabulated quantiles."""
    xp = u.__array_namespace__()
    table = xp.asarray(_quantiles(alpha), dtype=u.dtype)
    return xp.interp(u, xp.linspace(0, 1, len(table), dtype=u.dtype), table)


@dataclass(frozen=True)
class MixUp(Augmentation):
    """Blends two images: x ← share·x + (1 - share)·other, labels likewise; share from Beta(alpha, alpha), drawn for each image.

    Source: Zhang et al. 2018, "mixup" (one share for the whole batch there).

    Example:
        >>> image, share = MixUp(alpha=1.0).mix(np.array([0.25]), 1.0, np.ones((2, 2, 1)), np.zeros((2, 2, 1)))
        >>> float(share), image[0, 0]
        (0.25, array([0.25]))
    """

    alpha: float = 0.4
    """Parameter of the distribution, 0.01…10; small: nearly unmixed or nearly swapped images; 1: uniform."""
    p: float = 1.0
    """Probability, 0…1."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "alpha", 1e-2, 10, "a number from 0.01 to 10")

    def mix(self, u: Array, s: Scalar, image: Image, other: Image) -> tuple[Image, Array]:
        """Return the blend of two images, and the share of the first."""
        share = 1 - s * (1 - _beta(u[0], self.alpha))
        return share * image + (1 - share) * other, share


@dataclass(frozen=True)
class CutMix(Augmentation):
    """Pastes a rectangle of the other image, of area 1 - λ with λ from Beta(alpha, alpha), around a random point, cut at the border.

    The labels are mixed by the share of pixels that remain, not by λ.

    Source: Yun et al. 2019, "CutMix".

    Example:
        >>> image, share = CutMix().mix(np.array([0.75, 0.5, 0.5]), 1.0, np.ones((4, 4, 1)), np.zeros((4, 4, 1)))
        >>> float(share), image[..., 0].sum(axis=1)
        (0.75, array([4., 2., 2., 4.]))
    """

    alpha: float = 1.0
    """Parameter of the distribution, 0.01…10; 1: all areas equally likely."""
    p: float = 0.5
    """Probability, 0…1."""

    draws: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_magnitude(self, "alpha", 1e-2, 10, "a number from 0.01 to 10")

    def mix(self, u: Array, s: Scalar, image: Image, other: Image) -> tuple[Image, Array]:
        """Return the image with the rectangle pasted in, and the share of its pixels that remain."""
        xp = u.__array_namespace__()
        half = xp.sqrt(s * (1 - _beta(u[0], self.alpha))) / 2
        rows, columns = pixel_centres(image)
        inside = (xp.abs(rows - u[2]) < half)[:, None] & (xp.abs(columns - u[1]) < half)
        return xp.where(inside[:, :, None], other, image), 1 - xp.mean(inside.astype(image.dtype))
