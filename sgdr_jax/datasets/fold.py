"""Folds for cross-validation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..core.errors import InputError
from ..core.text import several
from ..core.types import Dataset, Source
from ..core.validation import require
from .examples import examples_of, join, make_source
from .image_folder import ImageFolder
from .labels import counts
from .splits import ranks


@dataclass(frozen=True)
class Fold(Dataset):
    """Divides the training and validation images of another dataset into `folds` stratified parts and validates on one of them.

    Each image is in exactly one fold. Folds differ by at most one image, in all and of each class (with several labels per image: of the
    rarest). Test images are kept.

    Source: stratified k-fold cross-validation, Kohavi 1995, "A study of cross-validation and bootstrap".

    Example:
        >>> from sgdr_jax.datasets import Synthetic
        >>> Fold(Synthetic(train=60, valid=30), folds=3, fold=0).open().sizes
        {'train': 60, 'valid': 30}
    """

    data: Dataset = field(default_factory=ImageFolder)
    """The other dataset."""
    folds: int = 5
    """Number of folds."""
    fold: int = 0
    """Number of the fold to validate on, from 0."""
    seed: int = 0
    """Seed of the division."""

    def __post_init__(self) -> None:
        require(self.folds >= 2, "data.folds", self.folds, "use at least 2")
        require(0 <= self.fold < self.folds, "data.fold", self.fold, f"use 0…{self.folds - 1}")

    def open(self) -> Source:
        """Open the other dataset and divide it.

        Raises:
            InputError: the other dataset is a mixture with rates, has fewer images than folds, or a class has all its images in the fold.
        """
        source = self.data.open()
        if source.rates is not None:
            raise InputError("data: folds of a mixture are not supported; mix folds instead, Mix((Fold(a), Fold(b)))")
        pool = join([examples_of(source, split) for split in ("train", "valid") if split in source.labels])
        rank, stratum = ranks(pool.names, pool.labels, self.seed, "fold")
        # Strata are dealt one after the other, each continuing where the last one ended.
        sizes = np.bincount(stratum)
        number = (rank + (np.cumsum(sizes) - sizes)[stratum]) % self.folds
        examples = {"train": pool.at(np.flatnonzero(number != self.fold)), "valid": pool.at(np.flatnonzero(number == self.fold))}
        require(len(examples["valid"].names) > 0, "data.folds", self.folds, f"there are {len(pool.names)} images; use fewer folds")
        left, there = (counts(labels, len(source.classes)) for labels in (examples["train"].labels, pool.labels))
        lost = several([repr(name) for name, n, of in zip(source.classes, left, there, strict=True) if of and not n])
        require(not lost, "data.folds", self.folds, f"without fold {self.fold} no image is left to learn {lost} from; give each another")
        if "test" in source.labels:
            examples["test"] = examples_of(source, "test")
        return make_source(source.classes, examples, None, self.seed, notes=source.notes)
