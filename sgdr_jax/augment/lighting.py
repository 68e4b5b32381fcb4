"""Brightness and contrast together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..core.types import Augmentation
from ..core.validation import require
from .arithmetic import Array, ColourMap, Scalar
from .checks import check_p


@dataclass(frozen=True)
class Lighting(Augmentation):
    """Changes brightness and contrast about the image's mean: x ← (x - mean)·c' + mean + b, c' = 1 + c for c ≥ 0, else 1 / (1 - c).

    b and c are uniform on ±brightness and ±contrast; the mean is taken over all pixels and channels. Values outside 0…1 are clipped
    after all colour augmentations.

    Source: `RandomLighting` of fastai 0.7 (always applied there, and clipped at once).

    Example:
        >>> import numpy as np
        >>> Lighting(brightness=0.25, contrast=1.0).colour(np.array([0.5, 1.0]), 1.0, np.array([0.25]))
        (array([[2.]]), array([-0.25]))
    """

    brightness: float = 0.05
    """Largest shift of the values, 0…1."""
    contrast: float = 0.05
    """Largest relative stretch, and its inverse for shrinking, at least 0."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        require(0 <= self.brightness <= 1, "Lighting.brightness", self.brightness, "use a shift, 0…1")
        require(0 <= self.contrast <= 10, "Lighting.contrast", self.contrast, "use a relative stretch, 0…10")
        check_p(self)

    def colour(self, u: Array, s: Scalar, mean: Array) -> ColourMap:
        """Return the scaling about the mean of the channels, and the shift."""
        xp = u.__array_namespace__()
        b, c = s * (2 * u[0] - 1) * self.brightness, s * (2 * u[1] - 1) * self.contrast
        # |c| keeps the branch that is not selected from dividing by zero.
        factor = xp.where(c >= 0, 1 + c, 1 / (1 + xp.abs(c)))
        shift = xp.mean(mean) * (1 - factor) + b
        return factor * xp.eye(mean.shape[0], dtype=mean.dtype), shift + xp.zeros_like(mean)
