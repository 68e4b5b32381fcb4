"""Rotations, shears, stretches, shifts and zooms: affine maps of the plane about the centre of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..core.types import Augmentation
from ..core.validation import require
from .arithmetic import Array, Matrix, Scalar, linear, signed
from .checks import check_magnitude


@dataclass(frozen=True)
class Rotate(Augmentation):
    """Rotates by an angle uniform on ±degrees. The corners show the image reflected at its borders, unless a `Border` is given.

    Source: `RandomRotate` of fastai 0.7, which also has a default probability of 0.75.

    Example:
        >>> import numpy as np
        >>> (Rotate(90, least=90).matrix(np.array([0.75]), 1.0) @ [1, 0, 1]).round()
        array([0., 1., 1.])
    """

    degrees: float = 10.0
    """Largest angle, 0…180."""
    p: float = 0.75
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest angle; if equal to `degrees`, every rotation is by that angle, to either side."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "degrees", 0, 180, "an angle in degrees, 0…180")

    def matrix(self, u: Array, s: Scalar) -> Matrix:
        """Return the rotation by the drawn angle."""
        xp = u.__array_namespace__()
        angle = signed(u[0], s, math.radians(self.degrees), math.radians(self.least))
        cos, sin = xp.cos(angle), xp.sin(angle)
        return linear(u, ((cos, -sin, 0), (sin, cos, 0)))


@dataclass(frozen=True)
class Shear(Augmentation):
    """Slants the image: x ← x + k·y (axis "x") or y ← y + k·x (axis "y"), k uniform on ±amount.

    Source: ShearX and ShearY of Cubuk et al. 2019, "AutoAugment" (about the top left corner there, about the centre here).

    Example:
        >>> import numpy as np
        >>> Shear(0.5, least=0.5).matrix(np.array([0.75]), 1.0) @ [0, 1, 1]
        array([0.5, 1. , 1. ])
    """

    amount: float = 0.2
    """Largest slant k, the tangent of its angle, 0…2."""
    axis: Literal["x", "y"] = "x"
    """Direction in which pixels move."""
    p: float = 0.75
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest slant."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "amount", 0, 2, "a slant, 0…2")
        require(self.axis in ("x", "y"), "Shear.axis", self.axis, 'use "x" or "y"')

    def matrix(self, u: Array, s: Scalar) -> Matrix:
        """Return the shear by the drawn slant."""
        k = signed(u[0], s, self.amount, self.least)
        return linear(u, ((1, k, 0), (0, 1, 0)) if self.axis == "x" else ((1, 0, 0), (k, 1, 0)))


@dataclass(frozen=True)
class Stretch(Augmentation):
    """Changes the aspect ratio and keeps the area: x ← x·r, y ← y/r, log r uniform on ±½·log most.

    Example:
        >>> import numpy as np
        >>> Stretch(4.0).matrix(np.array([0.0]), 1.0).diagonal().round(3)
        array([0.5, 2. , 1. ])
    """

    most: float = 4 / 3
    """Largest change of width / height, and its inverse, at least 1."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "most", 1, 100, "a ratio, 1…100")

    def matrix(self, u: Array, s: Scalar) -> Matrix:
        """Return the scaling by the drawn ratio."""
        r = u.__array_namespace__().exp(signed(u[0], s, 0.5 * math.log(self.most)))
        return linear(u, ((r, 0, 0), (0, 1 / r, 0)))


@dataclass(frozen=True)
class Translate(Augmentation):
    """Shifts the image along one axis by a share of its side, uniform on ±share.

    Source: TranslateX and TranslateY of Cubuk et al. 2019, "AutoAugment".

    Example:
        >>> import numpy as np
        >>> Translate(0.25, least=0.25).matrix(np.array([0.75]), 1.0) @ [0, 0, 1]
        array([0.5, 0. , 1. ])
    """

    share: float = 0.1
    """Largest shift as a share of the side, 0…1."""
    axis: Literal["x", "y"] = "x"
    """Direction in which pixels move."""
    p: float = 0.75
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest shift."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "share", 0, 1, "a share of the side, 0…1")
        require(self.axis in ("x", "y"), "Translate.axis", self.axis, 'use "x" or "y"')

    def matrix(self, u: Array, s: Scalar) -> Matrix:
        """Return the shift; coordinates run over two units from edge to edge."""
        shift = 2 * signed(u[0], s, self.share, self.least)
        return linear(u, ((1, 0, shift), (0, 1, 0)) if self.axis == "x" else ((1, 0, 0), (0, 1, shift)))


@dataclass(frozen=True)
class Zoom(Augmentation):
    """Enlarges by a factor uniform on 1…most and shows a window at a random place inside the image.

    Source: the random scaling and cropping of `tfms_from_model(max_zoom=…)` in fastai 0.7.

    Example:
        >>> import numpy as np
        >>> Zoom(3.0).matrix(np.array([0.5, 0.5, 0.5]), 1.0).diagonal()
        array([0.5, 0.5, 1. ])
    """

    most: float = 1.1
    """Largest enlargement, at least 1."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_magnitude(self, "most", 1, 1e4, "an enlargement of at least 1")

    def matrix(self, u: Array, s: Scalar) -> Matrix:
        """Return the map x ← x/z + (2·u[1] - 1)·(1 - 1/z) with z = 1 + s·u[0]·(most - 1), and likewise y with u[2]."""
        share = 1 / (1 + s * u[0] * (self.most - 1))
        return linear(u, ((share, 0, (2 * u[1] - 1) * (1 - share)), (0, share, (2 * u[2] - 1) * (1 - share))))


@dataclass(frozen=True)
class Border(Augmentation):
    """Chooses what lies beyond the image for all geometry of the set: its mirror image, its edge pixels, or one grey value.

    Changes nothing by itself. Without it borders are mirrored with the edge pixel doubled.

    Source: fastai 0.7 (mirrored) and torchvision ("constant").

    Example:
        >>> rotate_over_black = (Rotate(30.0), Border("constant"))
    """

    mode: Literal["reflect", "edge", "constant"] = "reflect"
    """Mirror image, edge pixels, or `value`."""
    value: float = 0.0
    """Grey value of "constant", 0 (black) … 1 (white)."""
    p: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        require(self.mode in ("reflect", "edge", "constant"), "Border.mode", self.mode, 'use "reflect", "edge" or "constant"')
        require(0 <= self.value <= 1, "Border.value", self.value, "use a grey value, 0…1")
