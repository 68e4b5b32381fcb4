"""Examples of a dataset before decoding, and how they are joined, selected, held out and made a `Source`."""

from __future__ import annotations

import abc
import copy
import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self, cast, overload

import numpy as np

from ..core.errors import InputError
from ..core.text import is_unicode
from ..core.types import Source
from ..core.validation import require
from .labels import shared_names
from .splits import hold_out

type Item = str | bytes | np.ndarray
"""Path of an image file, an encoded image, or uint8 pixels."""
type Items = Sequence[Item] | np.ndarray


class Examples(NamedTuple):
    """Some examples of a dataset: n items, their labels, names and ids; see `Source`."""

    items: Items
    labels: np.ndarray
    names: Sequence[str]
    ids: Sequence[str]

    def at(self, where: np.ndarray) -> Examples:
        """Return the examples at these positions."""
        return Examples(items_at(self.items, where), self.labels[where], strings_at(self.names, where), strings_at(self.ids, where))


class LazyItems(Sequence[Item], abc.ABC):
    """Items that are read when they are indexed; an index array selects some of them without reading."""

    def __init__(self, count: int) -> None:
        self._where = np.arange(count)

    @abc.abstractmethod
    def read(self, position: int) -> Item:
        """Read the item at a position in the whole set."""

    @property
    def files(self) -> Sequence[str]:
        """Files that the items lie in, whose changes the items' ids may not tell; none if the ids tell all."""
        return ()

    def __len__(self) -> int:
        return len(self._where)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray) -> Self: ...
    def __getitem__(self, index: int | slice | np.ndarray) -> Item | Self:
        if isinstance(index, slice | np.ndarray):
            selected = copy.copy(self)
            selected._where = self._where[index]
            return selected
        return self.read(int(self._where[index]))


class Joined(LazyItems):
    """Items of several kinds one after the other."""

    def __init__(self, parts: Sequence[Items]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        super().__init__(int(self._ends[-1]))

    @property
    def files(self) -> Sequence[str]:
        """Files of all parts."""
        return [file for part in self._parts for file in (part.files if isinstance(part, LazyItems) else part) if isinstance(file, str)]

    def read(self, position: int) -> Item:
        """Read an item of the part that the position lies in."""
        part = int(np.searchsorted(self._ends, position, side="right"))
        return self._parts[part][position - int(self._ends[part]) + len(self._parts[part])]


def strings_at(column: Sequence[str], where: np.ndarray) -> tuple[str, ...]:
    """Return the strings at positions `where`."""
    return tuple(column[int(i)] for i in where)


def rates_at(rates: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the rates at which the images at positions `where` are drawn, relative to each other as before, whose mean is 1.

    >>> rates_at(np.array([1.0, 3.0, 2.0]), np.array([0, 1])).tolist()
    [0.5, 1.5]
    """
    return rates[where] * len(where) / rates[where].sum()


def items_at(items: Items, where: np.ndarray) -> Items:
    """Return the items at positions `where`: a tuple for a list or tuple, else the result of indexing with the positions."""
    if isinstance(items, list | tuple):
        return tuple(items[int(i)] for i in where)
    return cast(LazyItems | np.ndarray, items)[where]


def join(parts: Sequence[Examples]) -> Examples:
    """Concatenate examples; arrays of one image shape stay an array."""
    columns = [part.items for part in parts]
    arrays = [items for items in columns if isinstance(items, np.ndarray)]
    if len(arrays) == len(columns) and len({items.shape[1:] for items in arrays}) == 1:
        items = np.concatenate(arrays)
    elif all(isinstance(items, tuple) for items in columns):
        items = tuple(itertools.chain(*columns))
    else:
        items = Joined(columns)
        parts = [_with_shape(part) for part in parts]
    names, ids = (tuple(itertools.chain(*column)) for column in ((p.names for p in parts), (p.ids for p in parts)))
    return Examples(items, np.concatenate([part.labels for part in parts]), names, ids)


def _with_shape(part: Examples) -> Examples:
    """Return examples whose ids tell the shape of arrays too.

    Joined to others, their decoded images are kept under their ids, which tell the bytes alone so that those of whole arrays stay as they
    have always been.
    """
    if not isinstance(part.items, np.ndarray):
        return part
    shape = "x".join(map(str, part.items.shape[1:]))
    return part._replace(ids=[f"{text} {shape}" for text in part.ids])


def examples_of(source: Source, split: str) -> Examples:
    """Return a split of an opened dataset."""
    return Examples(source.items[split], source.labels[split], source.names[split], source.ids[split])


def numbered(split: str, items: Items, labels: np.ndarray, contents: str = "") -> Examples:
    """Name images by their numbers; their ids follow from `contents`, or from their pixels if that is empty."""
    names = [f"{split}/{i}" for i in range(len(labels))]
    if contents:
        return Examples(items, labels, names, [f"{contents}/{name}" for name in names])
    return Examples(items, labels, names, [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()[:20] for image in items])


def fingerprint(parts: Iterable[object]) -> str:
    """Return the SHA-256 in hex of strings, numbers, tuples of them and arrays (with dtype and shape), each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            head = f"{part.dtype.str}{part.shape}"
            body = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
        else:
            head, body = "", os.fsencode(part) if isinstance(part, str) else repr(part).encode()
        digest.update(f"{head}:{len(body)}:".encode())
        digest.update(body)
    return digest.hexdigest()


def make_source(
    classes: Sequence[str],
    examples: Mapping[str, Examples],
    valid_fraction: float | None,
    seed: int,
    rates: np.ndarray | None = None,
    notes: Iterable[str] = (),
) -> Source:
    """Make a Source of the given splits, with a validation split held out of "train" if there is none.

    Args:
        classes: names of the classes in label order.
        examples: split name ("train", "valid", "test") to its examples.
        valid_fraction: share of each class to hold out; None: hold nothing out.
        seed: seed of the held-out split.
        rates: see `Source.rates`.
        notes: see `Source.notes`; names that several classes share are added, and why more images than asked for are held out.

    Raises:
        InputError: there are fewer than two classes, a name of one is not UTF-8, a class has no training example, or the training set is
            too small to divide.
    """
    splits = dict(examples)
    train = splits["train"]
    require(len(classes) >= 2, "data: the list of classes", list(classes), "a classifier needs at least two")
    foreign = [name for name in classes if not is_unicode(name)]
    require(not foreign, "data: names of classes", foreign[:5], "they are not UTF-8, so no run could record them; rename them")
    if "valid" not in splits and valid_fraction is not None:
        held_out = hold_out(train.names, train.labels, valid_fraction, seed)
        if not held_out.any():
            raise InputError(
                f"data: none of the {len(train.names)} training images can be held out for validation; give at least two images of a class"
            )
        notes = [*notes, *_hold_out_notes(int(held_out.sum()), len(held_out), valid_fraction)]
        splits["train"], splits["valid"] = train.at(np.flatnonzero(~held_out)), train.at(np.flatnonzero(held_out))
    labels = splits["train"].labels
    seen = set(np.flatnonzero(labels.any(axis=0)).tolist() if labels.ndim == 2 else labels.tolist())
    missing = [name for label, name in enumerate(classes) if label not in seen]
    require(not missing, "data: classes without a training image", missing[:5], "give each class at least one")
    ordered = {split: splits[split] for split in ("train", "valid", "test") if split in splits}
    parts = [part for split, x in ordered.items() for part in (split, tuple(x.ids), tuple(x.names), x.labels)]
    return Source(
        classes=tuple(classes),
        labels={split: x.labels for split, x in ordered.items()},
        items={split: x.items for split, x in ordered.items()},
        names={split: tuple(x.names) for split, x in ordered.items()},
        ids={split: tuple(x.ids) for split, x in ordered.items()},
        fingerprint=fingerprint((tuple(classes), *parts, *(() if rates is None else (rates,)))),
        rates=rates,
        notes=tuple(dict.fromkeys((*notes, *shared_names(classes)))),
    )


def _hold_out_notes(held_out: int, images: int, fraction: float) -> list[str]:
    """Return a line where many more images than asked for are held out, as of classes with few images: one of two is a half."""
    if held_out <= 1.5 * fraction * images:
        return []
    why = f"more than the share of {fraction:g}, since each class of two or more gives at least one"
    return [f"{held_out:,} of {images:,} images are held out for validation, {why}"]
