"""Summary of a dataset as training will see it: class counts, image sizes, duplicates, unreadable files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..core.types import Source
from ..datasets.labels import counts
from . import decode
from .load import Data, image_digests


class DatasetSummary(NamedTuple):
    """Summary of a dataset.

    Attributes:
        counts: split to int64 [classes], images of each class.
        sizes: smallest, median and largest (width, height) of the undecoded images, each side by itself.
        across_splits: groups of names, "split: name", of images with the same pixels in more than one split.
        within_split: number of images that duplicate another of their split.
        conflicting: groups of names of images with the same pixels and different labels.
        unreadable: name and reason of each unreadable image.
    """

    counts: Mapping[str, np.ndarray]
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    across_splits: tuple[tuple[str, ...], ...]
    within_split: int
    conflicting: tuple[tuple[str, ...], ...]
    unreadable: tuple[tuple[str, str], ...]


def summarize(source: Source, data: Data) -> DatasetSummary:
    """Summarize an opened dataset and its decoded images."""
    same: dict[int, list[tuple[str, int]]] = {}
    for split in data.labels:
        for i, digest in enumerate(image_digests(data, split).tolist()):
            same.setdefault(digest, []).append((split, i))
    groups = [group for group in same.values() if len(group) > 1]

    def names(group: list[tuple[str, int]]) -> tuple[str, ...]:
        return tuple(f"{split}: {data.names[split][i]}" for split, i in group)

    def label(split: str, i: int) -> object:
        return data.labels[split][i].tolist()

    return DatasetSummary(
        counts={split: counts(labels, len(data.classes)) for split, labels in data.labels.items()},
        sizes=_sizes(source),
        across_splits=tuple(names(group) for group in groups if len({split for split, _ in group}) > 1),
        within_split=sum(len(group) - len({split for split, _ in group}) for group in groups),
        conflicting=tuple(names(group) for group in groups if any(label(*one) != label(*group[0]) for one in group)),
        unreadable=data.bad,
    )


def _sizes(source: Source) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    sizes: list[tuple[int, int]] = []
    decode.ready()
    for items in source.items.values():
        if isinstance(items, np.ndarray):
            sizes += [(items.shape[2], items.shape[1])] * len(items)
        else:
            read = decode.in_threads(lambda i, items=items: decode.dimensions(lambda: items[i]), range(len(items)))
            sizes += [size for size in read if size]
    ordered = np.sort(np.array(sizes or [(0, 0)]), axis=0)
    low, middle, high = (ordered[i].tolist() for i in (0, len(ordered) // 2, -1))
    return (low[0], low[1]), (middle[0], middle[1]), (high[0], high[1])
