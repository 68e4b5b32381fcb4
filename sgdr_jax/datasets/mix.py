"""Mixture of several datasets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from ..core.types import Dataset, Source
from ..core.validation import require
from .examples import Examples, examples_of, join, make_source
from .image_folder import ImageFolder
from .labels import form_notes, one_form


@dataclass(frozen=True)
class Mix(Dataset):
    """Joins several datasets and draws from their training images in proportion to weights: P(set k) = w_k / Σ w.

    Classes of equal names are one class. An epoch is as long as all training sets together. Validation and test images are those of all
    sets, each once.

    Example:
        >>> from sgdr_jax.datasets import Synthetic
        >>> source = Mix((Synthetic(train=90), Synthetic(train=10, seed=1)), weights=(1.0, 1.0)).open()
        >>> source.sizes["train"], source.rates[[0, -1]].round(3)
        (100, array([0.556, 5.   ]))
    """

    sets: tuple[Dataset, ...] = (ImageFolder(),)
    """The datasets."""
    weights: tuple[float, ...] = ()
    """One for each dataset: its share of an epoch relative to the others; empty: every image appears once."""

    def __post_init__(self) -> None:
        require(len(self.sets) >= 1, "data.sets", self.sets, "give at least one set")
        fits = not self.weights or (len(self.weights) == len(self.sets) and min(self.weights) > 0)
        require(fits, "data.weights", self.weights, f"give {len(self.sets)} positive numbers, one for each set, or none")

    def open(self) -> Source:
        """Open all datasets and join them.

        Raises:
            InputError: some sets are single-label and others multi-label.
        """
        sources = [data.open() for data in self.sets]
        if len({source.multi_label for source in sources}) > 1:
            raise InputError("data.sets: some have one label for each image, others several; mix sets of one kind")
        forms = one_form(name for source in sources for name in source.classes)
        classes = tuple(dict.fromkeys(forms.values()))
        own = [np.array([classes.index(forms[name]) for name in source.classes]) for source in sources]
        examples = {}
        for split in ("train", "valid", "test"):
            parts = [self._part(k, source, split, own[k], len(classes)) for k, source in enumerate(sources) if split in source.labels]
            if parts:
                examples[split] = join(parts)
        sizes = np.array([source.sizes["train"] for source in sources])
        rates = None
        if self.weights or any(source.rates is not None for source in sources):
            inner = [np.ones(n) if source.rates is None else source.rates for n, source in zip(sizes, sources, strict=True)]
            shares = np.array(self.weights or sizes, np.float64)
            shares = shares / shares.sum() * sizes.sum() / sizes
            rates = np.concatenate([rate * share for rate, share in zip(inner, shares, strict=True)])
        notes = [*(note for source in sources for note in source.notes), *form_notes(forms)]
        return make_source(classes, examples, None, 0, rates, notes)

    @staticmethod
    def _part(number: int, source: Source, split: str, own: np.ndarray, classes: int) -> Examples:
        """Return a split of one set with labels among all `classes`, of which `own` are its own; number prefixes its names and ids."""
        part = examples_of(source, split)
        if source.multi_label:
            labels = np.zeros((len(part.labels), classes), np.float32)
            for to, column in zip(own, part.labels.T, strict=True):  # two of its own classes may have one name
                labels[:, to] = np.maximum(labels[:, to], column)
        else:
            labels = own[part.labels].astype(np.int32)
        names, ids = ([f"{number}/{text}" for text in column] for column in (part.names, part.ids))
        return Examples(part.items, labels, names, ids)
