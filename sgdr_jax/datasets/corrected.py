"""Corrections of another dataset: images left out, labels changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..core.types import Dataset, Source
from ..core.validation import require
from .examples import Examples, examples_of, make_source, rates_at
from .image_folder import ImageFolder
from .labels import n_hot


@dataclass(frozen=True)
class Corrected(Dataset):
    """Leaves images of another dataset out and changes labels: label_i ← labels[name_i]. Files stay as they are.

    Splits stay as they are too, so that figures before and after can be compared on the other images.

    Example:
        >>> from sgdr_jax.datasets import Synthetic
        >>> source = Corrected(Synthetic(train=9), drop=("train/0",), labels=(("train/1", "rings2"),)).open()
        >>> source.sizes["train"], source.labels["train"][:2].tolist()
        (8, [2, 2])
    """

    data: Dataset = field(default_factory=ImageFolder)
    """The other dataset."""
    drop: tuple[str, ...] = ()
    """Names of the images to leave out, as predictions and messages have them."""
    labels: tuple[tuple[str, ...], ...] = ()
    """(name of an image, its class) for each label to change; for multi-label data the name is followed by all its classes, or none."""

    def __post_init__(self) -> None:
        require(all(len(row) >= 1 for row in self.labels), "data.labels", self.labels, "give the name of an image, then its class")
        names = [row[0] for row in self.labels]
        twice = sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set())
        require(not twice, "data.labels", twice[:3], "give each image one label")
        both = sorted({*names} & {*self.drop})
        require(not both, "data.drop", both[:3], "leave an image out or change its label, not both")

    def open(self) -> Source:
        """Open the other dataset and correct it.

        Raises:
            InputError: there is no such image or class, or a class has no training image left.
        """
        source = self.data.open()
        known = {name for names in source.names.values() for name in names}
        missing = [name for name in (*self.drop, *(row[0] for row in self.labels)) if name not in known]
        require(not missing, "data: images to correct", missing[:3], "there are no such images; names are those of `sgdr-jax eval --out`")
        changed = self._changes(source)
        examples, rates, dropped = {}, source.rates, set(self.drop)
        for split in source.labels:
            part = _relabelled(examples_of(source, split), changed)
            where = np.array([i for i, name in enumerate(part.names) if name not in dropped], np.int64)
            if len(where):
                examples[split] = part.at(where)
            if split == "train" and rates is not None:
                rates = rates_at(rates, where)
        require("train" in examples, "data.drop", len(self.drop), "leave training images")
        return make_source(source.classes, examples, None, 0, rates, source.notes)

    def _changes(self, source: Source) -> dict[str, np.ndarray]:
        """Return the new label of each image to change, in the form of the source's labels."""
        number = {name: i for i, name in enumerate(source.classes)}
        changed = {}
        for name, *classes in self.labels:
            unknown = [c for c in classes if c not in number]
            require(not unknown, f"data.labels of {name!r}", unknown, f"the classes are {', '.join(source.classes[:20])}")
            row = [number[c] for c in classes]
            require(source.multi_label or len(row) == 1, f"data.labels of {name!r}", classes, "give one class")
            changed[name] = n_hot([row], len(number))[0] if source.multi_label else np.int32(row[0])
        return changed


def _relabelled(part: Examples, changed: Mapping[str, np.ndarray]) -> Examples:
    labels = part.labels.copy()
    for i, name in enumerate(part.names):
        if name in changed:
            labels[i] = changed[name]
    return part._replace(labels=labels)
