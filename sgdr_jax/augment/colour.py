"""Brightness, contrast, saturation, hue, grey and negative: affine maps of the channels, composed to one multiply by the kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..core.types import Augmentation
from .arithmetic import GREY, Array, ColourMap, Matrix, Scalar, signed
from .checks import check_magnitude, check_p


def _weights(mean: Array) -> Array:
    """Return the shares [c] of the channels in grey: those of `GREY` for colour images, else all equal."""
    c = mean.shape[0]
    return mean.__array_namespace__().asarray(GREY if c == 3 else (1 / c,) * c, dtype=mean.dtype)


def _blend(factor: Scalar, mean: Array, other: Scalar) -> Array:
    """Return the matrix factor·1 + (1 - factor)·other."""
    return factor * mean.__array_namespace__().eye(mean.shape[0], dtype=mean.dtype) + (1 - factor) * other


@dataclass(frozen=True)
class _Blend(Augmentation):
    """Base of what blends with another image: x ← f·x + (1 - f)·other with f = 1 ± amount."""

    amount: float = 0.2
    """Largest relative change, 0…1."""
    p: float = 0.75
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest relative change."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "amount", 0, 1, "a relative change, 0…1")

    def factor(self, u: Array, s: Scalar) -> Array:
        """Return the drawn factor f."""
        return 1 + signed(u[0], s, self.amount, self.least)


@dataclass(frozen=True)
class Brightness(_Blend):
    """Blends with black: x ← f·x with f = 1 ± amount.

    Source: `ImageEnhance.Brightness` of Pillow.

    Example:
        >>> matrix, shift = Brightness(0.5, least=0.5).colour(np.array([0.75]), 1.0, np.zeros(3))
        >>> matrix @ [0.2, 0.4, 0.6] + shift
        array([0.3, 0.6, 0.9])
    """

    def colour(self, u: Array, s: Scalar, mean: Array) -> ColourMap:
        """Return the multiplication by the drawn factor."""
        return _blend(self.factor(u, s), mean, 0), 0 * mean


@dataclass(frozen=True)
class Contrast(_Blend):
    """Blends with the mean grey g of the image: x ← f·x + (1 - f)·g with f = 1 ± amount.

    Source: `ImageEnhance.Contrast` of Pillow, which rounds g to a level.

    Example:
        >>> matrix, shift = Contrast(0.5, least=0.5).colour(np.array([0.75]), 1.0, np.full(3, 0.4))
        >>> matrix @ [0.2, 0.4, 0.6] + shift
        array([0.1, 0.4, 0.7])
    """

    def colour(self, u: Array, s: Scalar, mean: Array) -> ColourMap:
        """Return the scaling about the grey of the channels' means."""
        factor = self.factor(u, s)
        return _blend(factor, mean, 0), (1 - factor) * (_weights(mean) * mean).sum() + 0 * mean


@dataclass(frozen=True)
class Saturation(_Blend):
    """Blends with the grey image: x ← f·x + (1 - f)·grey(x) with f = 1 ± amount. Leaves images of one channel unchanged.

    Source: `ImageEnhance.Color` of Pillow.

    Example:
        >>> matrix, shift = Saturation(1.0, least=1.0).colour(np.array([0.25]), 1.0, np.zeros(3))
        >>> (matrix @ [1.0, 0.0, 0.0] + shift).round(3)
        array([0.299, 0.299, 0.299])
    """

    def colour(self, u: Array, s: Scalar, mean: Array) -> ColourMap:
        """Return the blend with grey by the drawn factor."""
        return _blend(self.factor(u, s), mean, _weights(mean)[None, :]), 0 * mean


@dataclass(frozen=True)
class Hue(Augmentation):
    """Rotates the colours about the grey axis by an angle uniform on ±degrees and keeps the luma. Leaves other images unchanged.

    The rotation is linear, in the plane of I and Q of the YIQ model; torchvision's rotates the hue of HSV and keeps its value.

    Source: the YIQ primaries of FCC 1953.

    Example:
        >>> matrix, shift = Hue(90.0).colour(np.array([0.0]), 1.0, np.zeros(3))
        >>> (matrix @ [1.0, 1.0, 1.0]).round(6)
        array([1., 1., 1.])
    """

    degrees: float = 18.0
    """Largest angle, 0…180; torchvision's hue factor times 360."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "degrees", 0, 180, "an angle in degrees, 0…180")

    def colour(self, u: Array, s: Scalar, mean: Array) -> ColourMap:
        """Return the rotation by the drawn angle."""
        xp = u.__array_namespace__()
        if mean.shape[0] != 3:
            return xp.eye(mean.shape[0], dtype=mean.dtype), 0 * mean
        angle = signed(u[0], s, math.radians(self.degrees))
        # RGB → YIQ → rotation → RGB as 1·luma + cos·chroma + sin·across, with constant matrices that are computed on the host.
        luma, chroma, across = (xp.asarray(part, dtype=mean.dtype) for part in _hue_parts())
        return luma + xp.cos(angle) * chroma + xp.sin(angle) * across, 0 * mean


def _hue_parts() -> tuple[Matrix, Matrix, Matrix]:
    """Return the parts of the rotation that are kept, multiplied by the cosine, and multiplied by the sine of the angle."""
    to_yiq = np.array([GREY, (0.59590059, -0.27455667, -0.32134392), (0.21153661, -0.52273617, 0.31119955)])
    to_rgb = np.linalg.inv(to_yiq)
    parts = (np.diag([1.0, 0, 0]), np.diag([0, 1.0, 1]), np.array([[0, 0, 0], [0, 0, -1.0], [0, 1, 0]]))
    luma, chroma, across = (to_rgb @ part @ to_yiq for part in parts)
    return luma, chroma, across


@dataclass(frozen=True)
class Grey(Augmentation):
    """Removes the colour: x ← grey(x) in every channel.

    Source: ITU-R BT.601 (the shares of the channels), as in `convert("L")` of Pillow.

    Example:
        >>> matrix, shift = Grey().colour(np.zeros(0), 1.0, np.zeros(3))
        >>> matrix @ [1.0, 0.0, 0.0] + shift
        array([0.299, 0.299, 0.299])
    """

    p: float = 0.1
    """Probability, 0…1."""

    graded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_p(self)

    def colour(self, u: Array, s: Scalar, mean: Array) -> ColourMap:
        """Return the projection onto grey; takes no draws."""
        return _blend(0.0, mean, _weights(mean)[None, :]), 0 * mean


@dataclass(frozen=True)
class Invert(Augmentation):
    """Turns the image into its negative: x ← 1 - x.

    Example:
        >>> matrix, shift = Invert().colour(np.zeros(0), 1.0, np.zeros(1))
        >>> matrix @ [0.25] + shift
        array([0.75])
    """

    p: float = 0.1
    """Probability, 0…1."""

    graded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_p(self)

    def colour(self, u: Array, s: Scalar, mean: Array) -> ColourMap:
        """Return the negation; takes no draws."""
        return _blend(-1.0, mean, 0), 0 * mean + 1
