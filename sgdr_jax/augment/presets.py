"""Sets of augmentations for common kinds of pictures."""

from __future__ import annotations

from ..core.types import Augmentation
from .affine import Rotate, Zoom
from .colour import Brightness, Contrast, Hue, Saturation
from .lighting import Lighting
from .symmetries import Dihedral, Flip


def side_on(zoom: float = 1.1) -> tuple[Augmentation, ...]:
    """Return augmentations for upright pictures (pets, cars): a small rotation, a zoom, left-right flips, slight lighting changes.

    `zoom` is the largest enlargement; 1 omits it.

    Source: `transforms_side_on` with `max_zoom=1.1` of fastai 0.7.

    Example:
        >>> [type(a).__name__ for a in side_on()]
        ['Rotate', 'Zoom', 'Flip', 'Lighting']
    """
    return _basic(Flip(), zoom)


def top_down(zoom: float = 1.1) -> tuple[Augmentation, ...]:
    """Return augmentations for pictures taken from above (satellites, microscopes): `side_on` with `Dihedral` instead of flips.

    Source: `transforms_top_down` with `max_zoom=1.1` of fastai 0.7.

    Example:
        >>> [type(a).__name__ for a in top_down(zoom=1.0)]
        ['Rotate', 'Dihedral', 'Lighting']
    """
    return _basic(Dihedral(), zoom)


def _basic(symmetry: Augmentation, zoom: float) -> tuple[Augmentation, ...]:
    zooms = (Zoom(zoom),) if zoom != 1 else ()
    # fastai 0.7 changes the lighting of every image, hence p=1.
    return (Rotate(10.0), *zooms, symmetry, Lighting(0.05, 0.05, p=1.0))


def jitter(brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.1) -> tuple[Augmentation, ...]:
    """Return random brightness, contrast, saturation and hue (as a share of a full turn), in this order.

    Source: `ColorJitter` of torchvision (random order there).

    Example:
        >>> jitter(hue=0.1)[-1]
        Hue(degrees=36.0, p=1)
    """
    return (Brightness(brightness, p=1), Contrast(contrast, p=1), Saturation(saturation, p=1), Hue(360 * hue, p=1))
