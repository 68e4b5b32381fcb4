"""Images that are arrays, in an .npz file or in memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import InputError
from ..core.paths import expanded
from ..core.types import OMIT_DEFAULT, Dataset, Source
from ..core.validation import require
from .examples import fingerprint, make_source, numbered
from .labels import n_hot
from .splits import check_fraction


class _InMemory(str):
    """Placeholder for a path: the text "memory:" and a fingerprint, with the arrays attached.

    It is compared, hashed, printed and written to JSON as text; the arrays never leave the process.
    """

    arrays: Mapping[str, np.ndarray]

    def __new__(cls, text: str, arrays: Mapping[str, np.ndarray]) -> _InMemory:
        path = super().__new__(cls, text)
        path.arrays = arrays
        return path

    def __getnewargs__(self) -> tuple[str, Mapping[str, np.ndarray]]:  # for copies
        return str(self), self.arrays


@dataclass(frozen=True)
class Arrays(Dataset):
    """Reads images and labels from an .npz file with x_train, y_train and optionally x_valid, y_valid, x_test, y_test and classes.

    Images are uint8 [n, h, w] or [n, h, w, c] with 1 or 3 channels; labels are integers [n], or zeros and ones [n, classes] for
    multi-label data; classes are names in label order. `Arrays.of` takes the same from memory. Rows with a single one each may also be
    one-hot labels of single-label data: they are refused unless `multi_label` decides. Nothing in the file can run code.

    Source: the keys of the .npz files of `keras.datasets`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = f"{folder}/digits.npz"
        ...     np.savez(file, x_train=np.zeros((10, 8, 8), np.uint8), y_train=np.arange(10) % 2)
        ...     source = Arrays(file).open()
        >>> source.classes, source.sizes
        (('0', '1'), {'train': 8, 'valid': 2})
    """

    path: str = "data.npz"
    """The .npz file."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, if there is no x_valid."""
    seed: int = 0
    """Seed of the held-out split."""
    multi_label: bool | None = field(default=None, metadata=OMIT_DEFAULT)
    """True: an image can have several classes; False: it has one, and labels [n, classes] are one-hot; None: as the labels show."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)

    @classmethod
    def of(
        cls,
        train: tuple[npt.ArrayLike, npt.ArrayLike],
        valid: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        test: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        *,
        classes: Sequence[str] | None = None,
        valid_fraction: float = 0.2,
        seed: int = 0,
        multi_label: bool | None = None,
    ) -> Arrays:
        """Make a dataset of (images, labels) pairs in memory, for notebooks and tests; equal to another one with equal contents.

        Its configuration holds a fingerprint instead of the arrays: it can be hashed and written to JSON, but a dataset read back from
        JSON cannot be opened. For that, save the arrays with `np.savez` and use `Arrays(path)`.

        Example:
            >>> data = Arrays.of((np.zeros((6, 8, 8), np.uint8), np.arange(6) % 2), valid_fraction=0.3)
            >>> data.open().sizes
            {'train': 4, 'valid': 2}
        """
        arrays: dict[str, np.ndarray] = {} if classes is None else {"classes": np.asarray(classes, dtype=np.str_)}
        for split, pair in (("train", train), ("valid", valid), ("test", test)):
            if pair is not None:
                arrays[f"x_{split}"], arrays[f"y_{split}"] = np.asarray(pair[0]), np.asarray(pair[1])
        digest = fingerprint([part for name in sorted(arrays) for part in (name, arrays[name])])
        return cls(_InMemory(f"memory:{digest[:16]}", arrays), valid_fraction, seed, multi_label)

    def open(self) -> Source:
        """Read the arrays.

        Raises:
            InputError: the file is missing or unreadable, keys are missing, arrays or labels have a wrong type or shape, or labels may
                be one-hot or multi-label.
        """
        arrays = self.path.arrays if isinstance(self.path, _InMemory) else _read(self.path)
        pairs: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for split in ("train", "valid", "test"):
            if f"x_{split}" in arrays or split == "train":
                for name in (f"x_{split}", f"y_{split}"):
                    require(name in arrays, f"data.path {self.path}: the keys", sorted(arrays), f"{name} is missing")
                pairs[split] = _checked(split, arrays[f"x_{split}"], arrays[f"y_{split}"])
        classes = [str(name) for name in arrays["classes"]] if "classes" in arrays else _numbers(pairs)
        for split, (_, labels) in pairs.items():
            most = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
            fits = (most == len(classes) if labels.ndim == 2 else most <= len(classes)) and labels.ndim == pairs["train"][1].ndim
            require(fits, f"y_{split}: the number of classes", most, f"there are {len(classes)}: {classes[:5]}")
        labels = self._in_one_kind({split: labels for split, (_, labels) in pairs.items()}, len(classes))
        examples = {split: numbered(split, images, labels[split]) for split, (images, _) in pairs.items()}
        known = {f"{kind}_{split}" for split in pairs for kind in "xy"} | {"classes"}
        unused = sorted(set(arrays) - known)
        notes = [f"{Path(self.path).name}: not used: the arrays {', '.join(unused)}"] if unused else []
        return make_source(classes, examples, self.valid_fraction, self.seed, notes=notes)

    def _in_one_kind(self, labels: dict[str, np.ndarray], classes: int) -> dict[str, np.ndarray]:
        """Return the labels of all splits as classes, or as rows of zeros and ones.

        Raises:
            InputError: all rows are one-hot, or some are not although the data are said to have one label for each image.
        """
        if labels["train"].ndim == 1:
            return {split: n_hot(list(part[:, None]), classes) for split, part in labels.items()} if self.multi_label else labels
        one_hot = {split: bool((part.sum(axis=1) == 1).all()) for split, part in labels.items()}
        if self.multi_label is False:
            wrong = next((split for split, ok in one_hot.items() if not ok), "")
            require(not wrong, "data.multi_label", False, f"some rows of y_{wrong} have several ones or none; use True")
            return {split: part.argmax(axis=1).astype(np.int32) for split, part in labels.items()}
        if self.multi_label is None and all(one_hot.values()):
            fix = "give integers, y.argmax(axis=1), or set data.multi_label to False if an image has one class, else to True"
            raise InputError(f"y_train is one-hot, with a single one in every row; {fix}")
        return labels


def _read(path: str) -> dict[str, np.ndarray]:
    if path.startswith("memory:"):
        raise InputError(f"data.path is {path!r}; those arrays were in memory only; save them with np.savez and use Arrays(file)")
    file = expanded(path)
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
    if plain and int(labels.max(initial=0)) > 2**31 - 1:
        raise InputError(f"y_{split} has the label {labels.max()}; number the classes from 0")
    n_hot = labels.ndim == 2 and kind in "iufb" and bool(np.isin(labels, (0, 1)).all())
    require(plain or n_hot, f"y_{split}", f"{labels.dtype}{list(labels.shape)}", "use integers from 0 [n], or zeros and ones [n, classes]")
    require(len(labels) == len(images), f"y_{split}: the length", len(labels), f"x_{split} has {len(images)} images")
    return images, labels.astype(np.int32 if plain else np.float32)


def _numbers(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """Return the numbers of the classes as names. Raises InputError for a label so large that most classes before it have no image."""
    count = max(labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1 for _, labels in pairs.values())
    images = sum(len(labels) for _, labels in pairs.values())
    if count > images and all(labels.ndim == 1 for _, labels in pairs.values()):
        raise InputError(f"the largest label is {count - 1} with {images} images; number the classes from 0 without gaps")
    return [str(i) for i in range(count)]
