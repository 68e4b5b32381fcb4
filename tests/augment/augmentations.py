"""What the tests of augmentations share: pictures, draws, compiled functions, and one of every augmentation, always applied."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from sgdr_jax.augment import (
    Autocontrast,
    Blur,
    Brightness,
    Contrast,
    Crop,
    Cutout,
    Dihedral,
    Elastic,
    Equalize,
    Erase,
    Flip,
    Gamma,
    Grey,
    GridMask,
    Hue,
    Invert,
    Lighting,
    Noise,
    OneOf,
    Posterize,
    Rotate,
    Saturation,
    Sharpen,
    Shear,
    Solarize,
    Stretch,
    Translate,
    Warp,
    Zoom,
    aug_mix,
    auto_augment,
    kernel,
    resampling,
)

KEY = jax.random.key(7)
GEOMETRY = (
    Rotate(25, p=1),
    Shear(0.4, p=1),
    Shear(0.4, "y", p=1, least=0.1),
    Stretch(1.5, p=1),
    Translate(0.3, p=1),
    Translate(0.3, "y", p=1),
    Zoom(1.5, p=1),
    Crop(),
    Warp(0.3, p=1),
    Flip(p=1),
    Dihedral(),
)
COLOURS = (Lighting(0.2, 0.4, p=1), Brightness(p=1), Contrast(p=1), Saturation(p=1), Hue(90, p=1), Grey(p=1), Invert(p=1))
CURVES = (Gamma(2, p=1), Posterize(p=1), Solarize(p=1), Equalize(p=1), Autocontrast(p=1))
PIXELS = (Blur(p=1), Sharpen(p=1), Noise(p=1), Erase(p=1), Erase(fill="zero", p=1), Cutout(), GridMask(p=1))
EVERY = (*GEOMETRY, Elastic(p=1), *COLOURS, *CURVES, *PIXELS)
POLICIES = (OneOf((Rotate(25, p=1), (Posterize(p=1), Sharpen(p=1)))), *aug_mix(width=2, depth=2))
LARGE = auto_augment()

augment = jax.jit(kernel.augment, static_argnames=("augmentations", "size"))
mix = jax.jit(kernel.mix, static_argnames="augmentations")
resize = jax.jit(resampling.resize, static_argnames="size")
resample = jax.jit(resampling.resample, static_argnames=("size", "scales", "border"))
symmetry = jax.jit(resampling.symmetry)


def photos(count: int, side: int, channels: int, seed: int = 0, noise: float = 20) -> np.ndarray:
    """Uint8 images with structure at several scales, so that a shift or a missing filter shows."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.zoom(rng.uniform(0, 255, (count, 4, 4, channels)), (1, side / 4, side / 4, 1), order=1)
    return np.clip(coarse + rng.normal(0, noise, coarse.shape), 0, 255).astype(np.uint8)


def seeds(count: int) -> jax.Array:
    return jnp.arange(count, dtype=jnp.uint32) + 100
