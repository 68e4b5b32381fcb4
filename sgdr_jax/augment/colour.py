"""Brightness, contrast, saturation, hue, grey and negative: affine maps of the channels, so that any number of them is one multiply."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..core.types import Augmentation
from .draw import GREY, check_magnitude, check_p, signed


def _weights(mean: Any) -> Any:
    """Shares [c] of the channels in grey: those of `GREY` for colour images, else all alike."""
    c = mean.shape[0]
    return mean.__array_namespace__().asarray(GREY if c == 3 else (1 / c,) * c, dtype=mean.dtype)


def _blend(factor: Any, mean: Any, other: Any) -> Any:
    """The matrix factor·1 + (1 - factor)·other."""
    return factor * mean.__array_namespace__().eye(mean.shape[0], dtype=mean.dtype) + (1 - factor) * other


@dataclass(frozen=True)
class Brightness(Augmentation):
    """Blends with black: x ← f·x with f = 1 ± amount. Source: `ImageEnhance.Brightness` of Pillow."""

    amount: float = 0.2
    """Largest relative change, 0…1."""
    p: float = 0.75
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest relative change."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "amount", 0, 1, "a relative change, 0…1")
        check_p(self)

    def colour(self, u: Any, s: Any, mean: Any) -> tuple[Any, Any]:
        """The affine map (matrix [c, c], shift [c]) of the channels."""
        return _blend(1 + signed(u[0], s, self.amount, self.least), mean, 0), 0 * mean


@dataclass(frozen=True)
class Contrast(Augmentation):
    """Blends with the image's mean grey g: x ← f·x + (1 - f)·g with f = 1 ± amount.

    Source: `ImageEnhance.Contrast` of Pillow, which rounds g to a level.
    """

    amount: float = 0.2
    """Largest relative change, 0…1."""
    p: float = 0.75
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest relative change."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "amount", 0, 1, "a relative change, 0…1")
        check_p(self)

    def colour(self, u: Any, s: Any, mean: Any) -> tuple[Any, Any]:
        """The affine map (matrix [c, c], shift [c]) of the channels, given their means [c]."""
        factor = 1 + signed(u[0], s, self.amount, self.least)
        return _blend(factor, mean, 0), (1 - factor) * (_weights(mean) * mean).sum() + 0 * mean


@dataclass(frozen=True)
class Saturation(Augmentation):
    """Blends with the grey image: x ← f·x + (1 - f)·grey(x) with f = 1 ± amount; leaves images of one channel as they are.

    Source: `ImageEnhance.Color` of Pillow.
    """

    amount: float = 0.2
    """Largest relative change, 0…1."""
    p: float = 0.75
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest relative change."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "amount", 0, 1, "a relative change, 0…1")
        check_p(self)

    def colour(self, u: Any, s: Any, mean: Any) -> tuple[Any, Any]:
        """The affine map (matrix [c, c], shift [c]) of the channels."""
        return _blend(1 + signed(u[0], s, self.amount, self.least), mean, _weights(mean)[None, :]), 0 * mean


@dataclass(frozen=True)
class Hue(Augmentation):
    """Turns the colours about the grey axis by an angle drawn evenly from ±degrees, brightness kept; leaves other images as they are.

    The turn is linear, in the plane of I and Q of the YIQ model; torchvision's turns the hue of HSV, which keeps its "value" instead.
    """

    degrees: float = 18.0
    """Largest angle, 0…180; torchvision's hue factor times 360."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "degrees", 0, 180, "an angle in degrees, 0…180")
        check_p(self)

    def colour(self, u: Any, s: Any, mean: Any) -> tuple[Any, Any]:
        """The affine map (matrix [c, c], shift [c]) of the channels."""
        xp = u.__array_namespace__()
        if mean.shape[0] != 3:
            return xp.eye(mean.shape[0], dtype=mean.dtype), 0 * mean
        angle = signed(u[0], s, math.radians(self.degrees))
        # RGB → YIQ → turn → RGB as 1·luma + cos·chroma + sin·across; the two constant matrices are worked out on the host.
        luma, chroma, across = (xp.asarray(part, dtype=mean.dtype) for part in _hue_parts())
        return luma + xp.cos(angle) * chroma + xp.sin(angle) * across, 0 * mean


def _hue_parts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is kept, multiplied by the cosine, and by the sine of the turn. Source of the YIQ primaries: FCC 1953."""
    to_yiq = np.array([GREY, (0.59590059, -0.27455667, -0.32134392), (0.21153661, -0.52273617, 0.31119955)])
    back = np.linalg.inv(to_yiq)
    parts = (np.diag([1.0, 0, 0]), np.diag([0, 1.0, 1]), np.array([[0, 0, 0], [0, 0, -1.0], [0, 1, 0]]))
    luma, chroma, across = (back @ part @ to_yiq for part in parts)
    return luma, chroma, across


@dataclass(frozen=True)
class Grey(Augmentation):
    """Takes the colour away: every channel becomes grey."""

    p: float = 0.1
    """Probability, 0…1."""

    graded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_p(self)

    def colour(self, u: Any, s: Any, mean: Any) -> tuple[Any, Any]:
        """The affine map (matrix [c, c], shift [c]) of the channels; takes no draws."""
        return _blend(0.0, mean, _weights(mean)[None, :]), 0 * mean


@dataclass(frozen=True)
class Invert(Augmentation):
    """The negative: x ← 1 - x."""

    p: float = 0.1
    """Probability, 0…1."""

    graded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_p(self)

    def colour(self, u: Any, s: Any, mean: Any) -> tuple[Any, Any]:
        """The affine map (matrix [c, c], shift [c]) of the channels; takes no draws."""
        return _blend(-1.0, mean, 0), 0 * mean + 1
