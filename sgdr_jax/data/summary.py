"""Summary of a dataset as training will see it: class counts, image sizes, duplicates, unreadable files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ..core.threads import in_threads
from ..core.types import Source
from ..datasets.labels import counts
from . import decode
from .load import Data


class DatasetSummary(NamedTuple):
    """Summary of a dataset.

    Attributes:
        counts: split to int64 [classes], images of each class.
        sizes: (width, height) of the undecoded images of the smallest, median and largest area.
        across_splits: groups of names, "split: name", of images with the same pixels in more than one split; the first of each split lead.
        within_split: number of images that duplicate another of their split.
        conflicting: groups of names of images with the same pixels and different labels; the first of each label lead.
        unreadable: name and reason of each unreadable image.
        images: split to number of images, which can have several classes or none.
    """

    counts: Mapping[str, np.ndarray]
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    across_splits: tuple[tuple[str, ...], ...]
    within_split: int
    conflicting: tuple[tuple[str, ...], ...]
    unreadable: tuple[tuple[str, str], ...]
    images: Mapping[str, int]


def groups_text(groups: int, images: int) -> str:
    """Return how many groups of images with the same pixels there are, and of how many images.

    >>> groups_text(1, 12), groups_text(0, 0)
    ('1 group, 12 images', '0 groups')
    """
    return f"{groups:,} group{'s' * (groups != 1)}" + (f", {images:,} images" if images else "")


class Duplicates(NamedTuple):
    """Images with the same pixels; see `DatasetSummary`."""

    across_splits: tuple[tuple[str, ...], ...]
    within_split: int
    conflicting: tuple[tuple[str, ...], ...]


def summarize(source: Source, data: Data) -> DatasetSummary:
    """Summarize an opened dataset and its decoded images."""
    images = {split: len(labels) for split, labels in data.labels.items()}
    return DatasetSummary(class_counts(data), _sizes(source), *find_duplicates(data), data.bad, images)


def class_counts(data: Data) -> dict[str, np.ndarray]:
    """Count the images of each class, int64 [classes] by split."""
    return {split: counts(labels, len(data.classes)) for split, labels in data.labels.items()}


def find_duplicates(data: Data) -> Duplicates:
    """Find the images with the same pixels."""
    values, numbers = np.unique(np.concatenate([*data.digests.values()]), return_counts=True)
    repeated, same = values[numbers > 1], dict[int, list[tuple[str, int]]]()
    for split, own in data.digests.items():
        for i in np.flatnonzero(np.isin(own, repeated)).tolist():
            same.setdefault(int(own[i]), []).append((split, i))
    groups = list(same.values())

    def names(group: list[tuple[str, int]], kind: Callable[[str, int], str]) -> tuple[str, ...]:
        leading = set({kind(*one): one for one in reversed(group)}.values())  # so that the first few names show what is wrong
        return tuple(f"{split}: {data.names[split][i]}" for split, i in sorted(group, key=lambda one: one not in leading))

    def label(split: str, i: int) -> str:
        return str(data.labels[split][i].tolist())

    return Duplicates(
        across_splits=tuple(names(group, lambda split, _: split) for group in groups if len({split for split, _ in group}) > 1),
        within_split=sum(len(group) - len({split for split, _ in group}) for group in groups),
        conflicting=tuple(names(group, label) for group in groups if any(label(*one) != label(*group[0]) for one in group)),
    )


def _sizes(source: Source) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    sizes: list[tuple[int, int]] = []
    decode.ready()
    for items in source.items.values():
        if isinstance(items, np.ndarray):
            sizes += [(items.shape[2], items.shape[1])] * len(items)
        else:
            read = in_threads(lambda i, items=items: decode.dimensions(lambda: items[i]), range(len(items)))
            sizes += [size for size in read if size]
    ordered = sorted(sizes or [(0, 0)], key=lambda size: (size[0] * size[1], size))
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]
