"""Part of another dataset's training images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..core.types import Dataset, Source
from ..core.validation import require
from .examples import examples_of, make_source, rates_at
from .image_folder import ImageFolder
from .splits import ranks


@dataclass(frozen=True)
class Part(Dataset):
    """Keeps n_c ← min(ceil(share·n_c), per_class) training images of each class c of another dataset; validation and test images stay.

    Parts with one seed nest: the images of a smaller share, or of a smaller number per class, are in all larger ones. With several labels
    for an image, its class is the rarest of them. At least one image of each class is kept.

    Example:
        >>> from sgdr_jax.datasets import Synthetic
        >>> Part(Synthetic(classes=2, train=64), per_class=5).open().sizes
        {'train': 10, 'valid': 32}
    """

    data: Dataset = field(default_factory=ImageFolder)
    """The other dataset."""
    share: float = 1.0
    """Share of each class to keep, above 0, up to 1."""
    per_class: int | None = None
    """Largest number of images per class: small for few-shot learning, large to cap the commonest classes; None: no limit."""
    seed: int = 0
    """Seed of the selection."""

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, "data.share", self.share, "use a share above 0, up to 1")
        require(self.per_class is None or self.per_class >= 1, "data.per_class", self.per_class, "use 1 or more, or None")

    def open(self) -> Source:
        """Open the other dataset and select images."""
        source = self.data.open()
        train = examples_of(source, "train")
        rank, stratum = ranks(train.names, train.labels, self.seed, "part")
        most = np.array([math.ceil(self.share * n - 1e-9) for n in np.bincount(stratum)])
        limit = most if self.per_class is None else np.minimum(most, self.per_class)
        kept = rank < limit[stratum]
        if source.multi_label:
            # The only images of a class may be counted with rarer ones. The first of them are in larger parts too.
            order = np.argsort(rank if self.per_class is not None else rank / np.bincount(stratum)[stratum], kind="stable")
            for having in train.labels[order].T > 0:
                if having.any() and not kept[order][having].any():
                    kept[order[having][0]] = True
        where = np.flatnonzero(kept)
        examples = {split: examples_of(source, split) for split in source.labels} | {"train": train.at(where)}
        rates = None if source.rates is None else rates_at(source.rates, where)
        return make_source(source.classes, examples, None, self.seed, rates, source.notes)
