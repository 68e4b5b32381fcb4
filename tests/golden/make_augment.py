"""Makes augment.npz: one small photograph, and what torchvision 0.28 (geometry, float) and Pillow 13 (colour, 8 bits) make of it.

    python tests/golden/make_augment.py PHOTO     # Python with torch, torchvision and Pillow; PHOTO any colour picture

The file in the repository was made from `skimage.data.coffee()`, scaled to 33 pixels. Where torchvision fills borders, it does so with 0.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image, ImageEnhance, ImageOps

photo = ImageOps.fit(Image.open(sys.argv[1]).convert("RGB"), (33, 33), Image.Resampling.LANCZOS)
image = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1).float() / 255
bilinear = F.InterpolationMode.BILINEAR
corners = [[0, 0], [32, 0], [32, 32], [0, 32]]
quad = [[3, 1], [30, 2], [31, 29], [2, 31]]  # what the corners of the view show, around the square
geometry = {
    "rotate": F.affine(image, 25.0, [0, 0], 1.0, [0.0, 0.0], bilinear),
    "shear_x": F.affine(image, 0.0, [0, 0], 1.0, [float(np.degrees(np.arctan(0.3))), 0.0], bilinear),
    "translate_x": F.affine(image, 0.0, [6, 0], 1.0, [0.0, 0.0], bilinear),
    "perspective": F.perspective(image, quad, corners, bilinear),
    "crop": F.resized_crop(image, 4, 7, 20, 16, [33, 33], bilinear, antialias=True),
    "shrink": F.resize(image, [13, 13], bilinear, antialias=True),
    "gamma": F.adjust_gamma(image, 0.7),
    "invert": F.invert(image),
}
colour = {
    "brightness": ImageEnhance.Brightness(photo).enhance(1.3),
    "contrast": ImageEnhance.Contrast(photo).enhance(0.6),
    "saturation": ImageEnhance.Color(photo).enhance(1.7),
    "grey": photo.convert("L").convert("RGB"),
    "sharper": ImageEnhance.Sharpness(photo).enhance(1.8),
    "softer": ImageEnhance.Sharpness(photo).enhance(0.2),
    "posterize": ImageOps.posterize(photo, 5),
    "solarize": ImageOps.solarize(photo, 128),
    "equalize": ImageOps.equalize(photo),
    "autocontrast": ImageOps.autocontrast(photo.point(lambda v: 40 + v // 2)),
}
arrays = {name: value.permute(1, 2, 0).numpy().astype(np.float16) for name, value in geometry.items()}
arrays |= {name: np.asarray(value) for name, value in colour.items()}
np.savez_compressed(Path(__file__).with_name("augment.npz"), image=np.asarray(photo), **arrays)
