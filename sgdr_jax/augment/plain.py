"""Plain images: which part of a stored image a network sees without augmentation, and by which filter it is resized."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class PlainView(NamedTuple):
    """How stored images become the plain view that a network sees, as in the evaluation of its published weights.

    Attributes:
        interpolation: "bilinear" (triangle filter) or "bicubic" (Keys' with a = -1/2), widened when shrinking, as Pillow has them.
        crop: share of the side that is seen, about the centre.
    """

    interpolation: str = "bilinear"
    crop: float = 1.0


WHOLE = PlainView()
"""The whole image by the triangle filter."""


def filter_matrix(canvas: int, size: int, plain: PlainView = WHOLE) -> np.ndarray:
    """Return the matrix float64 [size, canvas] of the resize along one axis, with half-pixel centres; its rows sum to 1."""
    ratio = plain.crop * canvas / size
    centres = (np.arange(size) + 0.5) * ratio + canvas * (1 - plain.crop) / 2 - 0.5
    distance = np.abs(centres[:, None] - np.arange(canvas)) / max(ratio, 1)
    dense = _cubic(distance) if plain.interpolation == "bicubic" else np.maximum(0, 1 - distance)
    return dense / dense.sum(1, keepdims=True)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Return Keys' cubic convolution kernel with a = -1/2. Source: Keys 1981; Pillow's and jax's bicubic filter."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))
