"""Blur, sharpen and noise: changes of pixels by their neighbours, or one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..core.types import Augmentation
from .draw import check_magnitude, check_p, signed


@dataclass(frozen=True)
class Blur(Augmentation):
    """Convolves with a Gaussian whose width is drawn evenly from 0…sigma; borders are mirrored (edge pixel doubled)."""

    sigma: float = 2.0
    """Largest standard deviation in pixels of the network's size, 0…20."""
    p: float = 0.2
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest standard deviation."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "sigma", 0, 20, "a width in pixels, 0…20")
        check_p(self)

    def pixels(self, u: Any, s: Any, image: Any) -> Any:
        """The image [size, size, c] blurred, with weights ∝ exp(-k² / (2·sigma²)) up to 4·sigma."""
        xp = u.__array_namespace__()
        sigma = s * (self.least + u[0] * (self.sigma - self.least))
        taps = range(-math.ceil(4 * self.sigma), math.ceil(4 * self.sigma) + 1)
        # A width of zero leaves one tap; 0.05 pixels do as well.
        weights = [xp.exp(-0.5 * (k / xp.maximum(sigma, 0.05)) ** 2) for k in taps]
        for axis in (0, 1):
            reach = [(len(taps) // 2,) * 2 if a == axis else (0, 0) for a in range(3)]
            wide, n = xp.pad(image, reach, mode="symmetric"), image.shape[axis]
            image = sum(w * (wide[k : k + n] if axis == 0 else wide[:, k : k + n]) for k, w in enumerate(weights)) / sum(weights)
        return image


@dataclass(frozen=True)
class Sharpen(Augmentation):
    """Blends with a smoothed image: x ← f·x + (1 - f)·smooth(x) with f = 1 ± amount: softer below 1, sharper above.

    The filter is [1 1 1; 1 5 1; 1 1 1] / 13 and leaves the outermost pixels. Source: `ImageEnhance.Sharpness` of Pillow.
    """

    amount: float = 0.5
    """Largest change, 0…1."""
    p: float = 0.2
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest change."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "amount", 0, 1, "a relative change, 0…1")
        check_p(self)

    def pixels(self, u: Any, s: Any, image: Any) -> Any:
        """The image [size, size, c], clipped to 0…1."""
        xp = u.__array_namespace__()
        factor = 1 + signed(u[0], s, self.amount, self.least)
        h, w = image.shape[:2]
        if min(h, w) < 3:
            return image
        sides = sum(image[i : i + h - 2, j : j + w - 2] for i in range(3) for j in range(3)) + 4 * image[1:-1, 1:-1]
        smooth = xp.pad(sides / 13 - image[1:-1, 1:-1], ((1, 1), (1, 1), (0, 0))) + image
        return xp.clip(factor * image + (1 - factor) * smooth, 0, 1)


@dataclass(frozen=True)
class Noise(Augmentation):
    """Adds independent Gaussian noise whose standard deviation is drawn evenly from 0…sigma, and clips to 0…1."""

    sigma: float = 0.1
    """Largest standard deviation of the values 0…1, 0…1."""
    p: float = 0.2
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest standard deviation."""

    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_magnitude(self, "sigma", 0, 1, "a standard deviation, 0…1")
        check_p(self)

    def pixels(self, u: Any, s: Any, image: Any) -> Any:
        """The image [size, size, c] with noise; u[0] decides how much, u[1] which."""
        xp = u.__array_namespace__()
        sigma = s * (self.least + u[0] * (self.sigma - self.least))
        return xp.clip(image + sigma * _normal(u[1], image), 0, 1)


def _normal(u: Any, like: Any) -> Any:
    """Standard normal numbers shaped as `like`, a pure function of u: hashed counters through the Box–Muller transform."""
    xp = u.__array_namespace__()
    place = xp.reshape(xp.arange(like.size, dtype=xp.uint32), like.shape)
    seed = xp.reshape(xp.floor(u * 2**24), (1, 1, 1)).astype(xp.uint32)
    bits = [_hash(_hash(place * xp.uint32(2) + xp.uint32(k)) ^ (seed * xp.uint32(0x9E3779B9))) for k in (0, 1)]
    one, two = (((b >> xp.uint32(8)).astype(like.dtype) + 0.5) / 2**24 for b in bits)
    return xp.sqrt(-2 * xp.log(one)) * xp.cos(2 * math.pi * two)


def _hash(x: Any) -> Any:
    """The 32-bit finaliser of MurmurHash3 (Appleby 2011): every bit of x changes about half the bits of the result."""
    c = x.dtype.type
    x = (x ^ (x >> c(16))) * c(0x85EBCA6B)
    x = (x ^ (x >> c(13))) * c(0xC2B2AE35)
    return x ^ (x >> c(16))
