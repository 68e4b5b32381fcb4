"""Bend the image smoothly, as if it were drawn on rubber."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..core.types import Augmentation
from ..core.validation import require
from .draw import check_magnitude, check_p


@dataclass(frozen=True)
class Elastic(Augmentation):
    """Displaces the points of the view by a smooth random field: cubic B-splines over a grid of control points drawn from ±amount.

    No point moves further than `amount` in x or y, and up to 0.4 of a cell the image never folds over itself. torchvision's
    `ElasticTransform` smooths a field of noise instead, whose largest displacement is not known beforehand.

    Source: Simard et al. 2003, "Best practices for convolutional neural networks"; Rueckert et al. 1999, "Nonrigid registration using
    free-form deformations" (the field); Choi & Lee 2000, "Injectivity conditions of 2D and 3D uniform cubic B-spline functions".
    """

    amount: float = 0.1
    """Largest displacement, as a share of half the side, 0…0.8/cells."""
    cells: int = 4
    """Cells of the grid along a side: more of them bend more finely, 1…32."""
    p: float = 0.5
    """Probability, 0…1."""

    draws: ClassVar[int]

    def __post_init__(self) -> None:
        require(1 <= self.cells <= 32, "Elastic.cells", self.cells, "use 1…32")
        check_magnitude(self, "amount", 0, 0.8 / self.cells, f"a share of half the side, 0…{0.8 / self.cells:g} with {self.cells} cells")
        check_p(self)
        object.__setattr__(self, "draws", 2 * (self.cells + 3) ** 2)

    def bend(self, u: Any, s: Any) -> Any:
        """Displacements (x, y) of the control points, [cells + 3, cells + 3, 2]; the outermost ring lies one cell beyond the image."""
        n = self.cells + 3
        return u.__array_namespace__().reshape((2 * u - 1) * (s * self.amount), (n, n, 2))
