"""Images in one folder with labels in a CSV file."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ..core.errors import InputError
from ..core.types import Dataset, Source
from ..core.validation import require
from . import files
from .examples import make_source
from .labels import n_hot
from .splits import check_fraction

_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}


class _Row(NamedTuple):
    place: str
    image: str
    labels: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class CsvLabels(Dataset):
    """Reads labels from a CSV file with a header line: the image in the first column, its labels in the second, separated by spaces.

    With exactly one label in every row the task is single-label; otherwise it is multi-label, and a row may have no label.

    Source: the layout of Kaggle competitions, `labels.csv` beside the images in `train`; `from_csv` of fastai 0.7.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Path(root, "train").mkdir()
        ...     for name in "abcd":
        ...         Path(root, "train", f"{name}.jpg").touch()
        ...     _ = Path(root, "labels.csv").write_text("id,breed\\na,pug\\nb,boxer\\nc,pug\\nd,boxer\\n")
        ...     source = CsvLabels(root, valid_fraction=0.5).open()
        >>> source.classes, source.sizes
        (('boxer', 'pug'), {'train': 2, 'valid': 2})
    """

    root: str = "data"
    """Folder that contains the CSV file and the images."""
    labels: str = "labels.csv"
    """Name of the CSV file."""
    images: str = "train"
    """Folder of the images; the first column names them relative to it, with or without extension."""
    separator: str = " "
    """Separator of the labels of one image; empty: the whole cell is one label."""
    split_column: str = "split"
    """Column with train, valid or test for each row; if there is no such column, a share is held out."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, if no row is marked valid."""
    seed: int = 0
    """Seed of the held-out split."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)

    def open(self) -> Source:
        """Read the CSV file and list the images.

        Raises:
            InputError: a row cannot be used (its line is named), or images are missing (the first few are named).
        """
        root = files.existing_folder(self.root, "data.root")
        header, rows = _read(root / self.labels, self.separator, self.split_column)
        images = _image_files(header, rows, files.existing_folder(root / self.images, "data.images"))
        multi_label = any(len(row.labels) > 1 for row in rows)
        unlabelled = [row for row in rows if not row.labels]
        if unlabelled and not multi_label:
            raise InputError(f"{unlabelled[0].place}: {unlabelled[0].image!r} has no label; give it one")
        classes = sorted({label for row in rows for label in row.labels})
        number = {name: i for i, name in enumerate(classes)}
        table = n_hot([[number[label] for label in row.labels] for row in rows], len(classes))
        labels = table if multi_label else table.argmax(axis=1).astype(np.int32)
        examples = {}
        for split in ("train", "valid", "test"):
            where = [i for i, row in enumerate(rows) if row.split == split]
            require(bool(where) or split != "train", "data.labels: the number of rows marked train", 0, "mark some")
            if where:
                examples[split] = files.examples([images[i] for i in where], labels[where])
        return make_source(classes, examples, self.valid_fraction, self.seed)


def _read(path: Path, separator: str, split_column: str) -> tuple[list[str], list[_Row]]:
    """Return the header and the rows without blank lines."""
    require(path.is_file(), "data.labels", str(path), "there is no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            lines = [(f"{path.name} line {reader.line_num}", row) for row in reader if any(cell.strip() for cell in row)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"data.labels is {str(path)!r}; not a CSV file in UTF-8 ({error})") from error
    require(len(header) >= 2 and bool(lines), "data.labels", str(path), "needs a header line such as id,label, then a row for each image")
    column = header.index(split_column, 2) if split_column in header[2:] else None
    # A column named explicitly must exist; the default one need not.
    require(column is not None or split_column in ("split", ""), "data.split_column", split_column, f"{path.name} has the columns {header}")
    return header, [_row(place, cells, separator, column, split_column) for place, cells in lines]


def _row(place: str, cells: list[str], separator: str, column: int | None, split_column: str) -> _Row:
    require(len(cells) >= 2, place, cells, "write an image and its labels")
    labels = {label.strip() for label in (cells[1].split(separator) if separator else [cells[1]])} - {""}
    split = "train"
    if column is not None:
        split = cells[column].strip().lower() if column < len(cells) else ""
        require(split in _SPLITS, f"{place}: {split_column}", split, f"use one of {', '.join(_SPLITS)}")
    return _Row(place, cells[0].strip(), tuple(sorted(labels)), _SPLITS[split])


def _image_files(header: list[str], rows: list[_Row], folder: Path) -> list[files.ImageFile]:
    """Return the image file of each row. Only files below `folder` are listed, so no row can name one elsewhere."""
    inside = {PurePosixPath(row.image).parent for row in rows}
    listed: dict[str, list[files.ImageFile]] = {}
    for parent in sorted(folder / part for part in inside if not part.is_absolute() and ".." not in part.parts):
        for image in files.images_in(parent, folder) if parent.is_dir() else ():
            for name in (image.name, str(PurePosixPath(image.name).with_suffix(""))):
                listed.setdefault(name, []).append(image)
    require(
        header[0] not in listed, "data.labels: the first line", header, "that names an image; put a header line such as id,label before it"
    )
    missing = [row.image for row in rows if row.image not in listed]
    if missing:
        names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise InputError(
            f"{len(missing)} of {len(rows)} images in the CSV file are not in {str(folder)!r}: {names}; put them there, or remove the rows"
        )
    for row in rows:
        require(len(listed[row.image]) == 1, row.place, row.image, "several files have that name; write the extension too")
    images = [listed[row.image][0] for row in rows]
    twice = [name for name, count in Counter(image.name for image in images).items() if count > 1]
    require(not twice, "data.labels: images listed more than once", twice[:3], "keep one row for each")
    return images
