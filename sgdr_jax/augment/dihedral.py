"""The eight symmetries of the square, for pictures without an up, such as those taken from above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..config import require
from ..types import Augmentation


@dataclass(frozen=True)
class Dihedral(Augmentation):
    """One of the eight symmetries of the square, all equally likely: quarter turns, with or without a mirroring.

    Number k in 0…7 mirrors x if k is odd, mirrors y if k // 2 is odd, and from 4 on swaps the axes; 0 leaves the image, 1 is `Flip`.
    Source: `RandomDihedral` of fastai 0.7.
    """

    p: float = 1.0
    """Probability, 0…1; the draw itself leaves one image in eight as it is."""

    draws: ClassVar[int] = 1
    symmetry: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(0 <= self.p <= 1, "Dihedral.p", self.p, "use a probability, 0…1")

    def matrix(self, u: Any) -> Any:
        """The map [3, 3] from output to input coordinates for symmetry number floor(8·u[0]).

        >>> import numpy as np
        >>> Dihedral().matrix(np.array([0.5]))[:2, :2]
        array([[0., 1.],
               [1., 0.]])
        """
        xp = u.__array_namespace__()
        k = xp.floor(u[0] * 8)
        swap, odd_y, odd_x = xp.floor(k / 4), xp.floor(k / 2) % 2, k % 2
        x, y, zero = 1 - 2 * odd_x, 1 - 2 * odd_y, xp.zeros_like(k)
        rows = [x * (1 - swap), x * swap, zero, y * swap, y * (1 - swap), zero, zero, zero, zero + 1]
        # Adding zero turns the -0.0 of a product into 0.0.
        return xp.reshape(xp.stack(rows), (3, 3)) + 0.0
