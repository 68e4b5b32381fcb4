"""Blur, sharpening and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..core.types import Augmentation
from .arithmetic import Array, Image, Scalar, between, signed
from .checks import check_magnitude


@dataclass(frozen=True)
class Blur(Augmentation):
    """Convolves with a Gaussian, weights w_k = exp(-k² / (2·sigma²)) normalised, sigma uniform on least…sigma; borders are mirrored.

    Example:
        >>> import numpy as np
        >>> image = np.zeros((1, 5, 1))
        >>> image[0, 2] = 1.0
        >>> Blur(sigma=0.5, least=0.5).pixels(np.zeros(1), 1.0, image)[0, :, 0].round(3)
        array([0.   , 0.106, 0.787, 0.106, 0.   ])
    """

    sigma: float = 2.0
    """Largest standard deviation in pixels of the network's input, 0…20."""
    p: float = 0.2
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest standard deviation."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "sigma", 0, 20, "a width in pixels, 0…20")

    def pixels(self, u: Array, s: Scalar, image: Image) -> Image:
        """Return the blurred image; the weights extend to 4·sigma."""
        xp = u.__array_namespace__()
        sigma = s * between(u[0], self.least, self.sigma)
        taps = range(-math.ceil(4 * self.sigma), math.ceil(4 * self.sigma) + 1)
        # A width of zero leaves one tap; 0.05 pixels do as well.
        weights = [xp.exp(-0.5 * (k / xp.maximum(sigma, 0.05)) ** 2) for k in taps]
        for axis in (0, 1):
            reach = [(len(taps) // 2,) * 2 if a == axis else (0, 0) for a in range(3)]
            wide, n = xp.pad(image, reach, mode="symmetric"), image.shape[axis]
            total = sum(w * (wide[k : k + n] if axis == 0 else wide[:, k : k + n]) for k, w in enumerate(weights))
            image = xp.asarray(total / sum(weights))
        return image


@dataclass(frozen=True)
class Sharpen(Augmentation):
    """Blends with a smoothed image: x ← f·x + (1 - f)·smooth(x) with f = 1 ± amount; softer below 1, sharper above.

    The filter is [1 1 1; 1 5 1; 1 1 1] / 13 and leaves the outermost pixels unchanged.

    Source: `ImageEnhance.Sharpness` of Pillow.

    Example:
        >>> import numpy as np
        >>> image = np.full((3, 3, 1), 0.5)
        >>> image[1, 1] = 0.6
        >>> float(Sharpen(1.0, least=1.0).pixels(np.array([0.75]), 1.0, image)[1, 1, 0].round(3))
        0.662
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

    def pixels(self, u: Array, s: Scalar, image: Image) -> Image:
        """Return the blend with the drawn factor, clipped to 0…1."""
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
    """Adds independent Gaussian noise: x ← clip(x + sigma·ε, 0, 1), sigma uniform on least…sigma.

    Example:
        >>> import numpy as np
        >>> noisy = Noise(0.1, least=0.1).pixels(np.array([0.0, 0.3]), 1.0, np.full((64, 64, 1), 0.5))
        >>> float(noisy.std().round(2))
        0.1
    """

    sigma: float = 0.1
    """Largest standard deviation of the values 0…1, 0…1."""
    p: float = 0.2
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest standard deviation."""

    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_magnitude(self, "sigma", 0, 1, "a standard deviation, 0…1")

    def pixels(self, u: Array, s: Scalar, image: Image) -> Image:
        """Return the noisy image; u[0] decides the standard deviation, u[1] seeds the noise."""
        xp = u.__array_namespace__()
        sigma = s * between(u[0], self.least, self.sigma)
        return xp.clip(image + sigma * _normal(u[1], image), 0, 1)


def _normal(u: Array, like: Image) -> Image:
    """Return standard normal numbers shaped as `like`, a pure function of u: hashed counters, Box-Muller transform."""
    xp = u.__array_namespace__()
    place = xp.reshape(xp.arange(like.size, dtype=xp.uint32), like.shape)
    seed = xp.reshape(xp.floor(u * 2**24), (1, 1, 1)).astype(xp.uint32)
    bits = [_hash(_hash(place * xp.uint32(2) + xp.uint32(k)) ^ (seed * xp.uint32(0x9E3779B9))) for k in (0, 1)]
    one, two = (((b >> xp.uint32(8)).astype(like.dtype) + 0.5) / 2**24 for b in bits)
    return xp.sqrt(-2 * xp.log(one)) * xp.cos(2 * math.pi * two)


def _hash(x: Array) -> Array:
    """Apply the 32-bit finaliser of MurmurHash3 (Appleby 2011): each bit of x changes about half the bits of the result."""
    c = x.dtype.type
    x = (x ^ (x >> c(16))) * c(0x85EBCA6B)
    x = (x ^ (x >> c(13))) * c(0xC2B2AE35)
    return x ^ (x >> c(16))
