"""A part of another set's training images: a share, or a number for each class."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..core.types import Dataset, Source
from ..core.validation import require
from . import splits
from .folder import ImageFolder


@dataclass(frozen=True)
class Part(Dataset):
    """Some of the training images of another set, the same share of each class; its validation and test images are all kept.

    Parts with one seed nest: the images of a smaller share, or of a smaller number for each class, are in all larger ones. With several
    labels for an image, its class is the rarest of them. At least one image of each class is kept.
    """

    data: Dataset = field(default_factory=ImageFolder)
    """The other set."""
    share: float = 1.0
    """Share of each class that is kept, above 0, up to 1."""
    per_class: int | None = None
    """Images of each class at most: a few for few-shot learning, many to cap the commonest classes; None: no limit."""
    seed: int = 0
    """Decides which images are kept."""

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, "data.share", self.share, "use a share above 0, up to 1")
        require(self.per_class is None or self.per_class >= 1, "data.per_class", self.per_class, "use 1 or more, or None")

    def open(self) -> Source:
        """Opens the other set and picks."""
        source = self.data.open()
        train = splits.examples_of(source, "train")
        rank, stratum = splits.ranks(train.names, train.labels, self.seed, "part")
        most = np.array([math.ceil(self.share * n - 1e-9) for n in np.bincount(stratum)])
        limit = most if self.per_class is None else np.minimum(most, self.per_class)
        where = np.flatnonzero(rank < limit[stratum])
        found = {split: splits.examples_of(source, split) for split in source.labels} | {"train": train.at(where)}
        rates = None if source.rates is None else source.rates[where] * len(where) / source.rates[where].sum()
        return splits.make_source(source.classes, found, None, self.seed, rates)
