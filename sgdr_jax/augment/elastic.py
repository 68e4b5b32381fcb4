"""Smooth random deformation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float

from ..core.types import Augmentation
from ..core.validation import require
from .arithmetic import Array, Scalar
from .checks import check_magnitude


@dataclass(frozen=True)
class Elastic(Augmentation):
    """Displaces the points of the view by a smooth random field: cubic B-splines over control points uniform on ±amount.

    No point moves further than `amount` in x or y, and up to 0.4 of a cell the image never folds over itself. `ElasticTransform` of
    torchvision smooths a field of noise instead, whose largest displacement is unknown beforehand.

    Source: Simard et al. 2003, "Best practices for convolutional neural networks"; Rueckert et al. 1999, "Nonrigid registration using
    free-form deformations" (the field); Choi & Lee 2000, "Injectivity conditions of 2D and 3D uniform cubic B-spline functions".

    Example:
        >>> import numpy as np
        >>> elastic = Elastic(amount=0.1, cells=4)
        >>> elastic.bend(np.ones(elastic.draws), 1.0).shape
        (7, 7, 2)
    """

    amount: float = 0.1
    """Largest displacement, as a share of half the side, 0…0.8/cells."""
    cells: int = 4
    """Cells of the grid along a side, 1…32; more of them bend more finely."""
    p: float = 0.5
    """Probability, 0…1."""

    draws: ClassVar[int]

    def __post_init__(self) -> None:
        require(1 <= self.cells <= 32, "Elastic.cells", self.cells, "use 1…32")
        check_magnitude(self, "amount", 0, 0.8 / self.cells, f"a share of half the side, 0…{0.8 / self.cells:g} with {self.cells} cells")
        object.__setattr__(self, "draws", 2 * (self.cells + 3) ** 2)

    def bend(self, u: Array, s: Scalar) -> Float[Array, "n n 2"]:
        """Return displacements (x, y) of the n = cells + 3 control points per side; the outermost ring is one cell beyond the image."""
        n = self.cells + 3
        return u.__array_namespace__().reshape((2 * u - 1) * (s * self.amount), (n, n, 2))
