"""Reproducible random splits.

Whether an example is held out depends on the seed, its name and the examples that share its labels, never on the order in which a folder
or a dictionary lists them: names are ordered by their SHA-256. A split is therefore the same on another machine, with another NumPy and
with new classes, and adding a few images moves few others. Names that differ in their Unicode form only are different names here: images
that were copied by way of a disk or an archive that changes the form are split anew, as new images are.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence

import numpy as np

from ..core.validation import require
from .labels import strata

SPLIT_OF = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
"""Split that a folder or file belongs to by its name in small letters."""


def split_in(name: str) -> str | None:
    """Return the split that a word of a name tells, in small letters or capitals; None if none does, or several tell different ones.

    >>> split_in("birds_Train-00000-of-00002"), split_in("test0"), split_in("latest"), split_in("train_vs_test")
    ('train', 'test', None, None)
    """
    splits = {SPLIT_OF[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLIT_OF}
    return splits.pop() if len(splits) == 1 else None


def check_fraction(value: float) -> None:
    """Raise InputError unless the share of validation images is between 0 and 1, both excluded."""
    require(isinstance(value, (int, float)) and 0 < value < 1, "data.valid_fraction", value, "use a share between 0 and 1, such as 0.2")


def even_positions(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` positions, evenly spread, first and last among them.

    >>> even_positions(10, 4), even_positions(2, 4)
    ([0, 3, 6, 9], [0, 1])
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()


def shuffled(names: Sequence[str], seed: int, purpose: str) -> list[int]:
    """Return the positions of `names` in a random order that depends on seed, purpose and the names alone."""
    salt = f"{seed}/{purpose}/".encode()
    keys = [hashlib.sha256(salt + os.fsencode(name)).digest() for name in names]
    return sorted(range(len(names)), key=lambda i: (keys[i], names[i]))


def hold_out(names: Sequence[str], labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose the examples of the validation split: about `fraction` of each class.

    A class of n ≥ 2 examples contributes max(1, round(fraction · n)), but never its last one. Classes are processed from the rarest on,
    and an example is decided with its rarest label; so with several labels per example each class keeps at least one training example,
    and the held-out share of common classes is met as nearly as the rarer ones permit.

    Source: iterative stratification, Sechidis, Tsoumakas & Vlahavas 2011, decided class by class instead of example by example.

    Args:
        names: n distinct strings.
        labels: int [n] classes, or [n, classes] of zeros and ones.
        fraction: above 0, below 1.
        seed: seed of the split.

    Returns:
        bool [n], true where held out.

    Example:
        >>> hold_out(["a", "b", "c", "d"], np.array([0, 0, 1, 1]), 0.5, seed=0).sum()
        np.int64(2)
    """
    rows = _label_rows(labels)
    members: dict[int, list[int]] = {}
    for i in shuffled(names, seed, "hold out"):
        for label in rows[i]:
            members.setdefault(label, []).append(i)
    remaining = {label: len(having) for label, having in members.items()}
    held_out, decided = np.zeros(len(names), bool), np.zeros(len(names), bool)
    for label in sorted(members, key=lambda label: (len(members[label]), label)):
        count = len(members[label])
        wanted = max(1, int(fraction * count + 0.5)) - int(held_out[members[label]].sum())
        for i in members[label]:
            if decided[i]:
                continue
            decided[i] = True
            if wanted > 0 and all(remaining[other] > 1 for other in rows[i]):
                held_out[i] = True
                wanted -= 1
                for other in rows[i]:
                    remaining[other] -= 1
    return held_out


def per_class(names: Sequence[str], labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the ascending positions of `count` random examples of each class, or all if it has fewer. `labels` is int [n]."""
    rank, _ = ranks(names, labels, seed, "pick")
    return np.flatnonzero(rank < count)


def ranks(names: Sequence[str], labels: np.ndarray, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """Return each example's rank within its stratum (see `labels.strata`), and its stratum, both int64 [n].

    Ranks count from 0 in a random order that depends on seed, purpose and names alone.
    """
    stratum = strata(labels)
    order = np.array(shuffled(names, seed, purpose), np.int64)
    order = order[np.argsort(stratum[order], kind="stable")]
    starts = np.searchsorted(stratum[order], stratum[order])
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names)) - starts
    return rank, stratum


def _label_rows(labels: np.ndarray) -> list[tuple[int, ...]]:
    if labels.ndim == 1:
        return [(int(label),) for label in labels]
    # Examples without any label form an additional class after the real ones, so that they are split evenly too.
    return [tuple(np.flatnonzero(row).tolist()) or (labels.shape[1],) for row in labels]
