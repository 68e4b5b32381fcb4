"""Arithmetic on label arrays: int [n] of classes, or [n, classes] of zeros and ones if an example can have several."""

from __future__ import annotations

import contextlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..core.text import several


def counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the number of examples of each class, int64 [classes]."""
    return np.bincount(labels, minlength=classes) if labels.ndim == 1 else labels.astype(np.int64).sum(axis=0)


def strata(labels: np.ndarray) -> np.ndarray:
    """Return each example's stratum, int64 [n]: its class, or the rarest of its labels; the number of classes if it has no label."""
    if labels.ndim == 1:
        return labels.astype(np.int64)
    rarity = np.append(counts(labels, labels.shape[1]), len(labels) + 1)
    having = np.concatenate([labels > 0, ~labels.any(axis=1, keepdims=True)], axis=1)
    return np.where(having, rarity, len(labels) + 2).argmin(axis=1)


def n_hot(rows: Sequence[Sequence[int] | np.ndarray], classes: int) -> np.ndarray:
    """Return float32 [n, classes] with ones at each row's class numbers.

    Example:
        >>> n_hot([[0, 2], []], classes=3).tolist()
        [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    table = np.zeros((len(rows), classes), np.float32)
    for row, shown in zip(table, rows, strict=True):
        row[shown] = 1
    return table


def normal_form(name: str) -> str:
    """Return a name in the composed Unicode form (NFC), which is equal for texts that look alike by the standard."""
    return unicodedata.normalize("NFC", name)


def one_form(names: Iterable[str]) -> dict[str, str]:
    """Return the name that each spelling stands for: spellings that differ in their Unicode form only stand for one.

    A name with a single spelling keeps it, whatever its form: it may be part of a finished run.
    """
    spellings = dict.fromkeys(names)
    count = Counter(normal_form(name) for name in spellings)
    return {name: normal_form(name) if count[normal_form(name)] > 1 else name for name in spellings}


def form_notes(forms: dict[str, str]) -> list[str]:
    """Return a line about the names that `one_form` has joined; none if there are none."""
    joined = sorted({name for spelling, name in forms.items() if spelling != name})
    return [f"names that differ in their Unicode form only are taken for one: {', '.join(map(repr, joined))}"] if joined else []


def shared_names(classes: Sequence[str]) -> list[str]:
    """Return a line for each name that several classes have, and for names that look alike.

    Example:
        >>> shared_names(["crane", "gull", "crane", "Gull"])
        ["2 classes are named 'crane'", "the classes 'gull', 'Gull' look alike, or are the same number"]
    """
    lines = [f"{count} classes are named {name!r}" for name, count in Counter(classes).items() if count > 1]
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(classes):
        alike.setdefault(_look(name), []).append(name)
    groups = [", ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    return lines + [f"the classes {names} look alike, or are the same number" for names in groups]


def constant_notes(classes: Sequence[str], labels: Mapping[str, np.ndarray], most: int = 8) -> list[str]:
    """Return a line that names at most `most` labels of multi-label data that all images of a split have, or none; [] without such labels.

    Example:
        >>> constant_notes(["day", "rain"], {"train": np.array([[1, 1], [1, 0]], np.float32)})
        ["labels that do not vary, which the mean average precision leaves out: 'day' (train)"]
    """
    splits: dict[int, list[str]] = {}
    for split, table in labels.items():
        for c in np.flatnonzero((table == table[:1]).all(axis=0)).tolist() if table.ndim == 2 else ():
            splits.setdefault(c, []).append(split)
    named = [f"{classes[c]!r} ({', '.join(where)})" for c, where in splits.items()]
    return [f"labels that do not vary, which the mean average precision leaves out: {several(named, most)}"] if named else []


def _look(name: str) -> str:
    """Return a text that is equal for names that look alike, or are the same number.

    Without capitals, blanks, quotes, invisible characters and compatibility forms; Greek and Cyrillic letters as the Latin ones that they
    look like.
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).translate(_LATIN)
    plain = "".join(letter for letter in plain if not letter.isspace() and unicodedata.category(letter) not in ("Cf", "Cc", "Pi", "Pf"))
    plain = plain.strip("'\"`\u201a\u201e")
    with contextlib.suppress(ValueError, OverflowError):
        return repr(int(plain) if plain.lstrip("+-").isdecimal() else float(plain) + 0).removesuffix(".0")
    return plain


_LATIN = str.maketrans("аеорсухкмтвіјѕһԁԛԝαορντικυχ", "aeopcyxkmtbijshdqwaopvtikux")
