"""Random changes of training images, described by frozen dataclasses without jax and carried out by `augment.kernel`."""

# To add one: a subclass of `Augmentation` in the file of its family (or a new one), one line here, one row in
# `tests/augment/augmentations.py`.

from .affine import Border, Rotate, Shear, Stretch, Translate, Zoom
from .choice import AugMix, OneOf
from .colour import Brightness, Contrast, Grey, Hue, Invert, Saturation
from .crop import Crop
from .curves import Autocontrast, Equalize, Gamma, Posterize, Solarize
from .elastic import Elastic
from .erase import Cutout, Erase, GridMask
from .lighting import Lighting
from .mix import CutMix, MixUp
from .pixels import Blur, Noise, Sharpen
from .policies import aug_mix, auto_augment, rand_augment, trivial_augment
from .presets import jitter, side_on, top_down
from .symmetries import Dihedral, Flip
from .warp import Warp

__all__ = [
    "AugMix",
    "Autocontrast",
    "Blur",
    "Border",
    "Brightness",
    "Contrast",
    "Crop",
    "CutMix",
    "Cutout",
    "Dihedral",
    "Elastic",
    "Equalize",
    "Erase",
    "Flip",
    "Gamma",
    "Grey",
    "GridMask",
    "Hue",
    "Invert",
    "Lighting",
    "MixUp",
    "Noise",
    "OneOf",
    "Posterize",
    "Rotate",
    "Saturation",
    "Sharpen",
    "Shear",
    "Solarize",
    "Stretch",
    "Translate",
    "Warp",
    "Zoom",
    "aug_mix",
    "auto_augment",
    "jitter",
    "rand_augment",
    "side_on",
    "top_down",
    "trivial_augment",
]
