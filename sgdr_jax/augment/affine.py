"""Turns, shears, stretches, shifts and zooms: affine maps of the plane about the image's centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..core.types import Augmentation
from ..core.validation import require
from .draw import check_magnitude, check_p, linear, signed


@dataclass(frozen=True)
class Rotate(Augmentation):
    """Turns by an angle drawn evenly from ±degrees; what comes in at the corners is the image reflected at its borders (see `Border`).

    Source: `RandomRotate` of fastai 0.7, which also defaults to a probability of 0.75.
    """

    degrees: float = 10.0
    """Largest angle, 0…180."""
    p: float = 0.75
    """Probability, 0…1."""
    least: float = 0.0
    """Smallest angle; equal to `degrees`: that far, to either side."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "degrees", 0, 180, "an angle in degrees, 0…180")
        check_p(self)

    def matrix(self, u: Any, s: Any) -> Any:
        """The map [3, 3] from output to input coordinates: a rotation by the drawn angle."""
        xp = u.__array_namespace__()
        angle = signed(u[0], s, math.radians(self.degrees), math.radians(self.least))
        cos, sin = xp.cos(angle), xp.sin(angle)
        return linear(((cos, -sin, 0), (sin, cos, 0)))


@dataclass(frozen=True)
class Shear(Augmentation):
    """Slants the image: x ← x + k·y (axis "x") or y ← y + k·x (axis "y") with k drawn evenly from ±amount.

    Source: ShearX and ShearY of Cubuk et al. 2019, "AutoAugment" (there about the top left corner; here about the centre).
    """

    amount: float = 0.2
    """Largest slant, the tangent of its angle, 0…2."""
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
        check_p(self)

    def matrix(self, u: Any, s: Any) -> Any:
        """The map [3, 3] from output to input coordinates."""
        k = signed(u[0], s, self.amount, self.least)
        return linear(((1, k, 0), (0, 1, 0)) if self.axis == "x" else ((1, 0, 0), (k, 1, 0)))


@dataclass(frozen=True)
class Stretch(Augmentation):
    """Changes the aspect ratio and keeps the area: x ← x·r, y ← y/r with log r drawn evenly from ±½·log most."""

    most: float = 4 / 3
    """Largest change of width / height, and its inverse, at least 1."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_magnitude(self, "most", 1, 100, "a ratio, 1…100")
        check_p(self)

    def matrix(self, u: Any, s: Any) -> Any:
        """The map [3, 3] from output to input coordinates."""
        r = u.__array_namespace__().exp(signed(u[0], s, 0.5 * math.log(self.most)))
        return linear(((r, 0, 0), (0, 1 / r, 0)))


@dataclass(frozen=True)
class Translate(Augmentation):
    """Shifts the image along one axis by a share of its side drawn evenly from ±share.

    Source: TranslateX and TranslateY of Cubuk et al. 2019, "AutoAugment".
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
        check_p(self)

    def matrix(self, u: Any, s: Any) -> Any:
        """The map [3, 3] from output to input coordinates; the image is two units wide."""
        shift = 2 * signed(u[0], s, self.share, self.least)
        return linear(((1, 0, shift), (0, 1, 0)) if self.axis == "x" else ((1, 0, 0), (0, 1, shift)))


@dataclass(frozen=True)
class Zoom(Augmentation):
    """Enlarges by a factor drawn evenly from 1…most and shows a window at a random place inside the image.

    Source: the random scaling and cropping of `tfms_from_model(max_zoom=…)` in fastai 0.7.
    """

    most: float = 1.1
    """Largest enlargement, at least 1."""
    p: float = 0.75
    """Probability, 0…1."""

    draws: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_magnitude(self, "most", 1, 1e4, "an enlargement of at least 1")
        check_p(self)

    def matrix(self, u: Any, s: Any) -> Any:
        """The map [3, 3] from output to input coordinates: x/z + (2·u[1] - 1)·(1 - 1/z) with z = 1 + s·u[0]·(most - 1), and so for y."""
        share = 1 / (1 + s * u[0] * (self.most - 1))
        return linear(((share, 0, (2 * u[1] - 1) * (1 - share)), (0, share, (2 * u[2] - 1) * (1 - share))))


@dataclass(frozen=True)
class Border(Augmentation):
    """What is beyond the image, for all geometry of the set: its mirror image (edge pixel doubled), its edge pixels, or one grey value.

    Without it borders are mirrored, as in fastai 0.7; torchvision fills with a constant. It changes nothing by itself.
    """

    mode: Literal["reflect", "edge", "constant"] = "reflect"
    """Mirror image, edge pixels, or `value`."""
    value: float = 0.0
    """Grey value of "constant", 0 (black) … 1 (white)."""
    p: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        require(self.mode in ("reflect", "edge", "constant"), "Border.mode", self.mode, 'use "reflect", "edge" or "constant"')
        require(0 <= self.value <= 1, "Border.value", self.value, "use a grey value, 0…1")
