"""Images that are arrays already: in an .npz file, or in memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.types import Dataset, Source
from ..core.validation import require
from . import splits


class _Held(str):
    """A path that is no path: "memory:" and the fingerprint of arrays it carries along.

    As text it is equal, hashed, printed and written to JSON like any field; what it carries never leaves the process.
    """

    parts: Mapping[str, np.ndarray]

    def __new__(cls, text: str, parts: Mapping[str, np.ndarray]) -> _Held:
        held = super().__new__(cls, text)
        held.parts = parts
        return held

    def __getnewargs__(self) -> tuple[Any, ...]:  # for copies
        return str(self), self.parts


@dataclass(frozen=True)
class Arrays(Dataset):
    """Images and labels from an .npz file with x_train, y_train and, where there are any, x_valid, y_valid, x_test, y_test and classes.

    Images are uint8 [n, h, w] or [n, h, w, c] with 1 or 3 channels; labels are integers [n], or zeros and ones [n, classes] for
    multi-label data; classes are names in label order. `Arrays.of` takes the same from memory. Nothing in the file can run code.
    """

    path: str = "data.npz"
    """The .npz file."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, where there is no x_valid."""
    seed: int = 0
    """Decides which images are held out."""

    def __post_init__(self) -> None:
        splits.check_fraction(self.valid_fraction)

    @classmethod
    def of(
        cls,
        train: tuple[Any, Any],
        valid: tuple[Any, Any] | None = None,
        test: tuple[Any, Any] | None = None,
        *,
        classes: Sequence[str] | None = None,
        valid_fraction: float = 0.2,
        seed: int = 0,
    ) -> Arrays:
        """A dataset of (images, labels) pairs in memory, for notebooks and tests; equal to another one with equal contents.

        Its configuration holds a fingerprint instead of the arrays: it can be hashed and written down, but what `config.from_json`
        makes of that can only be opened with the arrays saved (`np.savez`) and read by `Arrays(path)`.

        >>> data = Arrays.of((np.zeros((6, 8, 8), np.uint8), np.arange(6) % 2), valid_fraction=0.3)
        >>> data.open().sizes
        {'train': 4, 'valid': 2}
        """
        parts: dict[str, np.ndarray] = {} if classes is None else {"classes": np.asarray(classes, dtype=np.str_)}
        for split, pair in (("train", train), ("valid", valid), ("test", test)):
            if pair is not None:
                parts[f"x_{split}"], parts[f"y_{split}"] = np.asarray(pair[0]), np.asarray(pair[1])
        text = splits.fingerprint([part for name in sorted(parts) for part in (name, parts[name])])
        return cls(_Held(f"memory:{text[:16]}", parts), valid_fraction, seed)

    def open(self) -> Source:
        """Reads the arrays. Raises InputError for a missing or unreadable file, missing keys, and arrays or labels that do not fit."""
        parts = self.path.parts if isinstance(self.path, _Held) else _read(self.path)
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for split in ("train", "valid", "test"):
            if f"x_{split}" in parts or split == "train":
                for name in (f"x_{split}", f"y_{split}"):
                    require(name in parts, f"data.path {self.path}: the keys", sorted(parts), f"{name} is missing")
                found[split] = _checked(split, parts[f"x_{split}"], parts[f"y_{split}"])
        classes = [str(name) for name in parts["classes"]] if "classes" in parts else _numbered(found)
        for split, (_, labels) in found.items():
            most = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
            fits = most == len(classes) if labels.ndim == 2 else most <= len(classes)
            require(
                fits and labels.ndim == found["train"][1].ndim,
                f"y_{split}: the number of classes",
                most,
                f"there are {len(classes)}: {classes[:5]}",
            )
        named = {split: splits.numbered(split, images, labels) for split, (images, labels) in found.items()}
        return splits.make_source(classes, named, self.valid_fraction, self.seed)


def _read(path: str) -> dict[str, np.ndarray]:
    if path.startswith("memory:"):
        raise InputError(f"data.path is {path!r}; those arrays were in memory only: save them with np.savez and use Arrays(file)")
    file = Path(path).expanduser()
    require(file.is_file(), "data.path", path, "there is no such file")
    try:
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"data.path is {path!r}; not an .npz file of plain arrays, write one with np.savez ({error})") from error


def _checked(split: str, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shaped = images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))) and images.size > 0
    require(shaped, f"x_{split}", f"{images.dtype}{list(images.shape)}", "use uint8 [n, h, w] or [n, h, w, 1 or 3], values 0…255")
    kind = labels.dtype.kind
    plain = labels.ndim == 1 and kind in "iu" and bool((labels >= 0).all())
    n_hot = labels.ndim == 2 and kind in "iufb" and bool(np.isin(labels, (0, 1)).all())
    require(plain or n_hot, f"y_{split}", f"{labels.dtype}{list(labels.shape)}", "use integers from 0 [n], or zeros and ones [n, classes]")
    require(len(labels) == len(images), f"y_{split}: the length", len(labels), f"x_{split} has {len(images)} images")
    return images, labels.astype(np.int32 if plain else np.float32)


def _numbered(found: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[str]:
    return [str(i) for i in range(max(labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1 for _, labels in found.values()))]
