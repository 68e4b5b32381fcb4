"""Splitting examples reproducibly, and the fingerprint of what was split.

Whether an example is held out depends on the seed, its own name and the examples that share its labels, never on the order in which
a folder or a dictionary lists them: names are ordered by their SHA-256. So a split survives another machine, another NumPy and
new classes, and adding a few images moves few others.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import InputError
from ..core.types import Source
from ..core.validation import require
from .labels import strata


def check_fraction(value: float, field: str = "data.valid_fraction") -> None:
    """Raises InputError unless `value` is a share between 0 and 1, both excluded."""
    require(isinstance(value, (int, float)) and 0 < value < 1, field, value, "use a share between 0 and 1, such as 0.2")


def shuffled(names: Sequence[str], seed: int, purpose: str) -> list[int]:
    """Positions of `names` in an order that is random but depends on seed, purpose and the names alone."""
    salt = f"{seed}/{purpose}/".encode()
    keys = [hashlib.sha256(salt + os.fsencode(name)).digest() for name in names]
    return sorted(range(len(names)), key=lambda i: (keys[i], names[i]))


def hold_out(names: Sequence[str], labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which examples form the validation split: about `fraction` of each class.

    A class of n ≥ 2 examples gives max(1, round(fraction · n)) of them, but never its last one. Classes are served from the rarest
    on, and an example is decided with its rarest label; so with several labels per example each class keeps at least one training
    example, and the held-out share of common classes is met as nearly as the rarer ones leave it.
    Source: iterative stratification, Sechidis, Tsoumakas & Vlahavas 2011, decided class by class instead of example by example.

    Args:
        names: n distinct strings.
        labels: int [n] classes, or [n, classes] of zeros and ones.
        fraction: above 0, below 1.
        seed: another seed, another split.

    Returns:
        bool [n], true where held out.

    >>> hold_out(["a", "b", "c", "d"], np.array([0, 0, 1, 1]), 0.5, seed=0).sum()
    np.int64(2)
    """
    rows = _label_rows(labels)
    order = shuffled(names, seed, "hold out")
    members: dict[int, list[int]] = {}
    for i in order:
        for label in rows[i]:
            members.setdefault(label, []).append(i)
    kept = {label: len(having) for label, having in members.items()}
    held, decided = np.zeros(len(names), bool), np.zeros(len(names), bool)
    for label in sorted(members, key=lambda label: (len(members[label]), label)):
        count = len(members[label])
        wanted = max(1, int(fraction * count + 0.5)) - int(held[members[label]].sum())
        for i in members[label]:
            if decided[i]:
                continue
            decided[i] = True
            if wanted > 0 and all(kept[other] > 1 for other in rows[i]):
                held[i] = True
                wanted -= 1
                for other in rows[i]:
                    kept[other] -= 1
    return held


def per_class(names: Sequence[str], labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions, rising, of `count` random examples of each class (all of a class that has fewer). `labels` is int [n]."""
    rank, _ = ranks(names, labels, seed, "pick")
    return np.flatnonzero(rank < count)


def _label_rows(labels: np.ndarray) -> list[tuple[int, ...]]:
    if labels.ndim == 1:
        return [(int(label),) for label in labels]
    # An example without any label is of a class of its own, after the real ones, so that such examples are split evenly too.
    return [tuple(np.flatnonzero(row).tolist()) or (labels.shape[1],) for row in labels]


def fingerprint(parts: Iterable[Any]) -> str:
    """SHA-256 in hex over strings, numbers, tuples of them and arrays (with dtype and shape), each with its length before it."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            head = f"{part.dtype.str}{part.shape}"
            body: Any = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
        else:
            head, body = "", os.fsencode(part) if isinstance(part, str) else repr(part).encode()
        digest.update(f"{head}:{len(body)}:".encode())
        digest.update(body)
    return digest.hexdigest()


def take(items: Any, where: np.ndarray) -> Any:
    """The items at positions `where`: of a list or tuple as a tuple, else by indexing with the positions, as arrays allow."""
    return tuple(items[int(i)] for i in where) if isinstance(items, (list, tuple)) else items[where]


class Examples(NamedTuple):
    """Part of a set: n items, their labels, names and ids; see `types.Source`."""

    items: Any
    labels: np.ndarray
    names: Sequence[str]
    ids: Sequence[str]

    def at(self, where: np.ndarray) -> Examples:
        """The examples at these positions."""
        return Examples(take(self.items, where), self.labels[where], take(tuple(self.names), where), take(tuple(self.ids), where))


class Joined(Sequence[Any]):
    """Items of several kinds one after the other; an index array gives some of them in any order."""

    def __init__(self, parts: Sequence[Any], where: np.ndarray | None = None) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self._where = np.arange(self._ends[-1]) if where is None else where

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, np.ndarray):
            return Joined(self._parts, self._where[index])
        place = int(self._where[index])
        part = int(np.searchsorted(self._ends, place, side="right"))
        return self._parts[part][place - int(self._ends[part]) + len(self._parts[part])]


def join(parts: Sequence[Examples]) -> Examples:
    """Several parts of sets as one; arrays stay an array where they are of one shape."""
    items: Any = [part.items for part in parts]
    if all(isinstance(x, np.ndarray) and x.shape[1:] == items[0].shape[1:] for x in items):
        items = np.concatenate(items)
    elif all(isinstance(x, tuple) for x in items):
        items = tuple(itertools.chain(*items))
    else:
        items = Joined(items)
    names, ids = (tuple(itertools.chain(*column)) for column in ((p.names for p in parts), (p.ids for p in parts)))
    return Examples(items, np.concatenate([part.labels for part in parts]), names, ids)


def examples_of(source: Source, split: str) -> Examples:
    """A split of an opened set."""
    return Examples(source.items[split], source.labels[split], source.names[split], source.ids[split])


def ranks(names: Sequence[str], labels: np.ndarray, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """Each example's rank within its stratum (see `labels.strata`), from 0, in an order that is random but depends on seed, purpose and
    names alone; and its stratum. Both int64 [n]."""
    stratum = strata(labels)
    order = np.array(shuffled(names, seed, purpose), np.int64)
    order = order[np.argsort(stratum[order], kind="stable")]
    starts = np.searchsorted(stratum[order], stratum[order])
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names)) - starts
    return rank, stratum


def make_source(
    classes: Sequence[str], found: Mapping[str, Examples], valid_fraction: float | None, seed: int, rates: np.ndarray | None = None
) -> Source:
    """A Source of the splits `found`, with a validation split held out of "train" if there is none; `valid_fraction` None: without one.

    Raises InputError for fewer than two classes, a class without training example, and a training set too small to divide.
    """
    splits = dict(found)
    train = splits["train"]
    require(len(classes) >= 2, "data: the list of classes", list(classes), "a classifier needs at least two")
    if "valid" not in splits and valid_fraction is not None:
        held = hold_out(train.names, train.labels, valid_fraction, seed)
        if not held.any():
            raise InputError(
                f"data: none of the {len(train.names)} training images can be held out for validation; give at least two images of a class"
            )
        splits["train"], splits["valid"] = train.at(np.flatnonzero(~held)), train.at(np.flatnonzero(held))
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
    )


def numbered(split: str, items: Any, labels: np.ndarray, contents: str = "") -> Examples:
    """Images named by their numbers; told apart by `contents`, or by their pixels where that is empty."""
    names = [f"{split}/{i}" for i in range(len(labels))]
    if contents:
        return Examples(items, labels, names, [f"{contents}/{name}" for name in names])
    return Examples(items, labels, names, [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()[:20] for image in items])
