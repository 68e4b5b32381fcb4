"""What a dataset holds, looked at as training will see it: counts, sizes, the same picture twice, unreadable files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..core.types import Source
from ..datasets.labels import counts
from . import decode
from .load import Data, image_digests


class Survey(NamedTuple):
    """Findings.

    Attributes:
        counts: split to int64 [classes], images of each class.
        sizes: smallest, middle and largest width and height of the undecoded images: ((w, h), (w, h), (w, h)), each by itself.
        across: groups of names, "split: name", of images with the same pixels in more than one split.
        inside: number of images that repeat one of their own split.
        quarrels: groups of names of images with the same pixels and different labels.
        rejected: name and reason of each unreadable image.
    """

    counts: Mapping[str, np.ndarray]
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    across: tuple[tuple[str, ...], ...]
    inside: int
    quarrels: tuple[tuple[str, ...], ...]
    rejected: tuple[tuple[str, str], ...]


def survey(source: Source, data: Data) -> Survey:
    """Looks at an opened set and what was decoded of it."""
    same: dict[int, list[tuple[str, int]]] = {}
    for split in data.labels:
        for i, digest in enumerate(image_digests(data, split).tolist()):
            same.setdefault(digest, []).append((split, i))
    groups = [group for group in same.values() if len(group) > 1]

    def names(group: list[tuple[str, int]]) -> tuple[str, ...]:
        return tuple(f"{split}: {data.names[split][i]}" for split, i in group)

    def label(split: str, i: int) -> object:
        return data.labels[split][i].tolist()

    return Survey(
        counts={split: counts(labels, len(data.classes)) for split, labels in data.labels.items()},
        sizes=_sizes(source),
        across=tuple(names(group) for group in groups if len({split for split, _ in group}) > 1),
        inside=sum(len(group) - len({split for split, _ in group}) for group in groups),
        quarrels=tuple(names(group) for group in groups if any(label(*one) != label(*group[0]) for one in group)),
        rejected=data.bad,
    )


def _sizes(source: Source) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    found: list[tuple[int, int]] = []
    decode.ready()
    for items in source.items.values():
        if isinstance(items, np.ndarray):
            found += [(items.shape[2], items.shape[1])] * len(items)
        else:
            read = decode.in_threads(lambda i, items=items: decode.dimensions(lambda: items[i]), range(len(items)))
            found += [size for size in read if size]
    ordered = np.sort(np.array(found or [(0, 0)]), axis=0)
    low, middle, high = (ordered[i].tolist() for i in (0, len(ordered) // 2, -1))
    return (low[0], low[1]), (middle[0], middle[1]), (high[0], high[1])
