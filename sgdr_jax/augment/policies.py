"""Automatic policies: RandAugment, TrivialAugment, AutoAugment, AugMix, as sets of `OneOf`.

Differences to the references: geometry precedes colour, because an image is resampled once (colour acts pixel by pixel, so this matters
only at borders, by interpolation, and for contrast, equalize and autocontrast, which measure the moved image). Borders are mirrored
unless there is a `Border`; torchvision fills with black. Shears are about the centre. Values are not rounded to 8 bits between the
steps.
"""

from __future__ import annotations

from ..core.types import Augmentation
from ..core.validation import require
from .affine import Rotate, Shear, Translate
from .choice import AugMix, OneOf
from .colour import Brightness, Contrast, Invert, Saturation
from .curves import Autocontrast, Equalize, Posterize, Solarize
from .pixels import Sharpen

_WIDEST = {"shear": 0.3, "shift": 150 / 331, "degrees": 30.0, "colour": 0.9, "bits": 4, "share": 1.0}
_TRIVIAL = {"shear": 0.99, "shift": 32 / 224, "degrees": 135.0, "colour": 0.99, "bits": 6, "share": 1.0}


def _set(most: dict[str, float], share: float, *, exact: bool) -> tuple[Augmentation, ...]:
    """Return the thirteen changes with magnitudes of `share` of the largest: exactly those (`exact`), or anything up to them."""
    size = {name: value * share for name, value in most.items()}
    low = {name: value if exact else 0.0 for name, value in size.items()}
    bits, least = round(size["bits"]), round(low["bits"])
    colours = (kind(size["colour"], 1, low["colour"]) for kind in (Brightness, Saturation, Contrast, Sharpen))
    return (
        *(Shear(size["shear"], axis, 1, low["shear"]) for axis in ("x", "y")),
        *(Translate(size["shift"], axis, 1, low["shift"]) for axis in ("x", "y")),
        Rotate(size["degrees"], 1, low["degrees"]),
        *colours,
        Posterize(bits, 1, least),
        Solarize(size["share"], 1, low["share"]),
        Autocontrast(1),
        Equalize(1),
    )


def rand_augment(layers: int = 2, magnitude: float = 9, steps: int = 30) -> tuple[Augmentation, ...]:
    """Return `layers` choices among 14 changes (one of them none), all of one magnitude: `magnitude` / `steps` of the largest.

    The largest, as in torchvision: slants 0.3, shifts 150/331 of the side, 30°, colours ±0.9, 4 bits, all levels solarized.

    Source: Cubuk et al. 2020, "RandAugment".

    Example:
        >>> [type(a).__name__ for a in rand_augment()]
        ['OneOf', 'OneOf']
    """
    require(layers >= 1, "rand_augment.layers", layers, "use 1 or more")
    require(0 <= magnitude <= steps, "rand_augment.magnitude", magnitude, f"use 0…{steps} (steps)")
    changes = _set(_WIDEST, magnitude / steps, exact=True)
    return (OneOf((*changes, Rotate(0, 0))),) * layers


def trivial_augment() -> tuple[Augmentation, ...]:
    """Return a choice among 14 changes (one of them none), each of a uniform magnitude.

    The largest: slants 0.99, shifts 32/224 of the side, 135°, colours ±0.99, 6 bits, all levels solarized.

    Source: Müller & Hutter 2021, "TrivialAugment" (its wide space, in 31 steps there).

    Example:
        >>> len(trivial_augment()[0].parts[0].options)
        14
    """
    return (OneOf((*_set(_TRIVIAL, 1, exact=False), Rotate(0, 0))),)


def aug_mix(magnitude: float = 3, width: int = 3, depth: int = 3) -> tuple[Augmentation, ...]:
    """Return `AugMix` over geometry, posterize, solarize, autocontrast and equalize up to `magnitude` / 10 of the largest.

    Source: Hendrycks et al. 2020, "AugMix" (without the changes that its corruption benchmark also makes).

    Example:
        >>> aug_mix(width=2)[0].width
        2
    """
    require(0 <= magnitude <= 10, "aug_mix.magnitude", magnitude, "use 0…10")
    colours = (Brightness, Saturation, Contrast, Sharpen)
    largest = _WIDEST | {"shift": 1 / 3}
    changes = tuple(a for a in _set(largest, magnitude / 10, exact=False) if not isinstance(a, colours))
    return (AugMix(changes, width, depth),)


# Operation, probability and magnitude 0…10 of both steps of each sub-policy, learned on ImageNet (table 9 of the paper).
_IMAGENET = """
posterize .4 8 rotate .6 9;      solarize .6 5 autocontrast .6 0; equalize .8 0 equalize .6 0;   posterize .6 7 posterize .6 6
equalize .4 0 solarize .2 4;     equalize .4 0 rotate .8 8;       solarize .6 3 equalize .6 0;   posterize .8 5 equalize 1 0
rotate .2 3 solarize .6 8;       equalize .6 0 posterize .4 6;    rotate .8 8 color .4 0;        rotate .4 9 equalize .6 0
equalize 0 0 equalize .8 0;      invert .6 0 equalize 1 0;        color .6 4 contrast 1 8;       rotate .8 8 color 1 2
color .8 8 solarize .8 7;        sharpness .4 7 invert .6 0;      shearx .6 5 equalize 1 0;      color .4 0 equalize .6 0
equalize .4 0 solarize .2 4;     solarize .6 5 autocontrast .6 0; invert .6 0 equalize 1 0;      color .6 4 contrast 1 8
equalize .8 0 equalize .6 0
"""


def auto_augment() -> tuple[Augmentation, ...]:
    """Return a choice among the 25 sub-policies learned for ImageNet, each of two changes with their own probabilities.

    Magnitude m of 0…10 is m/9 of the largest, as in torchvision's 10 steps.

    Source: Cubuk et al. 2019, "AutoAugment", table 9.

    Example:
        >>> [len(slot.options) for slot in auto_augment()[0].parts]
        [25, 25]
    """

    def change(name: str, p: float, m: int) -> Augmentation:
        share = m / 9
        colour = min(0.9 * share, 0.9)
        makers: dict[str, Augmentation] = {
            "posterize": Posterize(round(4 * share), p, round(4 * share)),
            "rotate": Rotate(30 * share, p, 30 * share),
            "solarize": Solarize(share, p, share),
            "shearx": Shear(0.3 * share, "x", p, 0.3 * share),
            "color": Saturation(colour, p, colour),
            "contrast": Contrast(colour, p, colour),
            "sharpness": Sharpen(colour, p, colour),
            "autocontrast": Autocontrast(p),
            "equalize": Equalize(p),
            "invert": Invert(p),
        }
        return makers[name]

    rows = [row.split() for row in _IMAGENET.replace("\n", ";").split(";") if row.strip()]
    return (OneOf(tuple((change(a, float(p), int(m)), change(b, float(q), int(n))) for a, p, m, b, q, n in rows)),)
