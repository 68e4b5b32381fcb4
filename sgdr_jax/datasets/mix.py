"""Several sets as one, drawn from in set proportions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from ..core.types import Dataset, Source
from ..core.validation import require
from . import splits
from .folder import ImageFolder


@dataclass(frozen=True)
class Mix(Dataset):
    """Several sets together: classes of one name are one class, and each epoch draws from the training sets in proportion to weights.

    An epoch is as long as all training sets together. Validation and test images are those of all sets, each once.
    """

    sets: tuple[Dataset, ...] = (ImageFolder(),)
    """The sets."""
    weights: tuple[float, ...] = ()
    """One for each set: how much of an epoch comes from it, relative to the others; none: every image comes up once."""

    def __post_init__(self) -> None:
        require(len(self.sets) >= 1, "data.sets", self.sets, "give at least one set")
        fits = not self.weights or (len(self.weights) == len(self.sets) and min(self.weights) > 0)
        require(fits, "data.weights", self.weights, f"give {len(self.sets)} positive numbers, one for each set, or none")

    def open(self) -> Source:
        """Opens all sets. Raises InputError where single-label and multi-label sets meet."""
        sources = [data.open() for data in self.sets]
        if len({source.multi_label for source in sources}) > 1:
            raise InputError("data.sets: some have one label for each image, others several; mix sets of one kind")
        classes = tuple(dict.fromkeys(name for source in sources for name in source.classes))
        found = {}
        for split in ("train", "valid", "test"):
            parts = [self._part(k, source, split, classes) for k, source in enumerate(sources) if split in source.labels]
            if parts:
                found[split] = splits.join(parts)
        sizes = np.array([source.sizes["train"] for source in sources])
        inner = [np.ones(n) if source.rates is None else source.rates for n, source in zip(sizes, sources, strict=True)]
        rates = None
        if self.weights or any(source.rates is not None for source in sources):
            shares = np.array(self.weights or sizes, np.float64)
            shares = shares / shares.sum() * sizes.sum() / sizes
            rates = np.concatenate([rate * share for rate, share in zip(inner, shares, strict=True)])
        return splits.make_source(classes, found, None, 0, rates)

    @staticmethod
    def _part(number: int, source: Source, split: str, classes: tuple[str, ...]) -> splits.Examples:
        """A split of one set with the labels of all; its names and ids begin with the number of the set."""
        own = np.array([classes.index(name) for name in source.classes])
        part = splits.examples_of(source, split)
        if source.multi_label:
            labels = np.zeros((len(part.labels), len(classes)), np.float32)
            labels[:, own] = part.labels
        else:
            labels = own[part.labels].astype(np.int32)
        return splits.Examples(part.items, labels, *([f"{number}/{text}" for text in column] for column in (part.names, part.ids)))
