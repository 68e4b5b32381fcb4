"""Change brightness and contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..core.types import Augmentation
from ..core.validation import require
from .draw import check_p


@dataclass(frozen=True)
class Lighting(Augmentation):
    """Brightness and contrast about the image's mean: x ← (x - mean)·c' + mean + b, with c' = 1 + c for c ≥ 0, else 1 / (1 - c).

    b and c are drawn evenly from ±brightness and ±contrast; the mean is taken over all pixels and channels. Values that leave 0…1 are
    clipped after all colour augmentations. Source: `RandomLighting` of fastai 0.7 (there always applied, and clipped at once).
    """

    brightness: float = 0.05
    """Largest shift of the values 0…1, 0…1."""
    contrast: float = 0.05
    """Largest relative stretch, and its inverse for shrinking, at least 0."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        require(0 <= self.brightness <= 1, "Lighting.brightness", self.brightness, "use a shift, 0…1")
        require(0 <= self.contrast <= 10, "Lighting.contrast", self.contrast, "use a relative stretch, 0…10")
        check_p(self)

    def colour(self, u: Any, s: Any, mean: Any) -> tuple[Any, Any]:
        """The affine map (matrix [c, c], shift [c]) of the channels, given their means [c].

        >>> import numpy as np
        >>> Lighting(brightness=0.25, contrast=1.0).colour(np.array([0.5, 1.0]), 1.0, np.array([0.25]))
        (array([[2.]]), array([-0.25]))
        """
        xp = u.__array_namespace__()
        b, c = s * (2 * u[0] - 1) * self.brightness, s * (2 * u[1] - 1) * self.contrast
        # |c| keeps the branch that is not taken away from a division by zero.
        factor = xp.where(c >= 0, 1 + c, 1 / (1 + xp.abs(c)))
        shift = xp.mean(mean) * (1 - factor) + b
        return factor * xp.eye(mean.shape[0], dtype=mean.dtype), shift + xp.zeros_like(mean)
