"""Symmetries of the square: reflections and quarter turns, which move pixels without interpolating them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..core.types import Augmentation
from .arithmetic import Array, Matrix, Scalar, linear
from .checks import check_p


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors left and right: x ← -x. Alone or with other symmetries of the square it moves pixels without interpolating them.

    Example:
        >>> import numpy as np
        >>> Flip().matrix(np.zeros(0), 1.0) @ [0.5, 0.25, 1]
        array([-0.5 ,  0.25,  1.  ])
    """

    p: float = 0.5
    """Probability, 0…1."""

    graded: ClassVar[bool] = False
    symmetry: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_p(self)

    def matrix(self, u: Array, s: Scalar) -> Matrix:
        """Return the reflection; takes no draws (`u` has shape [0])."""
        xp = u.__array_namespace__()
        return xp.asarray([[-1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=u.dtype)


@dataclass(frozen=True)
class Dihedral(Augmentation):
    """Applies one of the eight symmetries of the square, all equally likely: quarter turns, with or without a reflection.

    For pictures without an upright orientation, such as aerial ones. Number k in 0…7 mirrors x if k is odd, mirrors y if k // 2 is odd,
    and swaps the axes from 4 on; 0 leaves the image unchanged, 1 is `Flip`.

    Source: `RandomDihedral` of fastai 0.7.

    Example:
        >>> import numpy as np
        >>> Dihedral().matrix(np.array([0.5]), 1.0)[:2, :2]
        array([[0., 1.],
               [1., 0.]])
    """

    p: float = 1.0
    """Probability, 0…1; one of the eight symmetries is the identity."""

    draws: ClassVar[int] = 1
    graded: ClassVar[bool] = False
    symmetry: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_p(self)

    def matrix(self, u: Array, s: Scalar) -> Matrix:
        """Return symmetry number floor(8·u[0])."""
        xp = u.__array_namespace__()
        k = xp.floor(u[0] * 8)
        swap, odd_y, odd_x = xp.floor(k / 4), xp.floor(k / 2) % 2, k % 2
        x, y = 1 - 2 * odd_x, 1 - 2 * odd_y
        # Adding zero turns the -0.0 of a product into 0.0.
        return linear(u, ((x * (1 - swap), x * swap, 0), (y * swap, y * (1 - swap), 0))) + 0.0
