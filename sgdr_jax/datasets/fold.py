"""Cross-validation: another set's training and validation images, divided anew into folds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..core.errors import InputError
from ..core.types import Dataset, Source
from ..core.validation import require
from . import splits
from .folder import ImageFolder


@dataclass(frozen=True)
class Fold(Dataset):
    """The training and validation images of another set in `folds` parts of equal size and equal classes; one is for validation.

    Each image is in exactly one fold. Folds differ by at most one image, in all and (with several labels: by the rarest) of each class.
    Test images are left as they are.
    """

    data: Dataset = field(default_factory=ImageFolder)
    """The other set."""
    folds: int = 5
    """Number of folds."""
    fold: int = 0
    """The one to validate on, from 0."""
    seed: int = 0
    """Decides which image is in which fold."""

    def __post_init__(self) -> None:
        require(self.folds >= 2, "data.folds", self.folds, "use at least 2")
        require(0 <= self.fold < self.folds, "data.fold", self.fold, f"use 0…{self.folds - 1}")

    def open(self) -> Source:
        """Opens the other set and divides it."""
        source = self.data.open()
        if source.rates is not None:
            raise InputError("data: folds of a mixture are not supported; mix folds instead, Mix((Fold(a), Fold(b)))")
        pool = splits.join([splits.examples_of(source, split) for split in ("train", "valid") if split in source.labels])
        rank, stratum = splits.ranks(pool.names, pool.labels, self.seed, "fold")
        # Strata are dealt out one after the other, each going on where the last one ended.
        sizes = np.bincount(stratum)
        number = (rank + (np.cumsum(sizes) - sizes)[stratum]) % self.folds
        found = {"train": pool.at(np.flatnonzero(number != self.fold)), "valid": pool.at(np.flatnonzero(number == self.fold))}
        require(len(found["valid"].names) > 0, "data.folds", self.folds, f"there are {len(pool.names)} images; use fewer folds")
        if "test" in source.labels:
            found["test"] = splits.examples_of(source, "test")
        return splits.make_source(source.classes, found, None, self.seed)
