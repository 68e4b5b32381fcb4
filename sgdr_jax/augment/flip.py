"""Mirror images left to right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..config import require
from ..types import Augmentation


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors left and right: x ← -x.

    Alone, or beside other symmetries of the square, it moves pixels without interpolating them.
    """

    p: float = 0.5
    """Probability, 0…1."""

    symmetry: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(0 <= self.p <= 1, "Flip.p", self.p, "use a probability, 0…1")

    def matrix(self, u: Any) -> Any:
        """The map [3, 3] from output to input coordinates; takes no draws (`u` has shape [0]).

        >>> import numpy as np
        >>> Flip().matrix(np.zeros(0)) @ [0.5, 0.25, 1]
        array([-0.5 ,  0.25,  1.  ])
        """
        xp = u.__array_namespace__()
        return xp.asarray([[-1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=u.dtype)
