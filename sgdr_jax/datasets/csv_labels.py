"""Labels in a CSV file, images in one folder."""

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
from . import files, splits

_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}


class _Row(NamedTuple):
    where: str
    image: str
    labels: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class CsvLabels(Dataset):
    """Labels from a CSV file with a header line: the image in the first column, its labels in the second, separated by spaces.

    `CsvLabels("data/dogs")` reads the layout of Kaggle competitions: `data/dogs/labels.csv` and the images in `data/dogs/train`.
    With exactly one label in every row the task is single-label; otherwise multi-label, where a row may also have none.
    """

    root: str = "data"
    """Folder that the other two are looked up in."""
    labels: str = "labels.csv"
    """The CSV file."""
    images: str = "train"
    """The folder with the images; the first column names them relative to it, with or without extension."""
    separator: str = " "
    """Stands between the labels of one image; empty: the whole cell is one label."""
    split_column: str = "split"
    """Column with train, valid or test for each row; without a column of that name a share is held out."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, where no row is marked valid."""
    seed: int = 0
    """Decides which images are held out."""

    def __post_init__(self) -> None:
        splits.check_fraction(self.valid_fraction)

    def open(self) -> Source:
        """Reads the CSV file and lists the images. Raises InputError naming the line for rows that cannot be used, and the first few
        images that are missing."""
        root = files.folder(self.root, "data.root")
        header, rows = _read(root / self.labels, self.separator, self.split_column)
        images = _find(header, rows, files.folder(root / self.images, "data.images"))
        several = any(len(row.labels) > 1 for row in rows)
        bare = [row for row in rows if not row.labels]
        if bare and not several:
            raise InputError(f"{bare[0].where}: {bare[0].image!r} has no label; give it one")
        classes = sorted({label for row in rows for label in row.labels})
        number = {name: i for i, name in enumerate(classes)}
        table = np.zeros((len(rows), len(classes)), np.float32)
        for i, row in enumerate(rows):
            table[i, [number[label] for label in row.labels]] = 1
        labels = table if several else table.argmax(axis=1).astype(np.int32)
        parts = {}
        for split in ("train", "valid", "test"):
            where = [i for i, row in enumerate(rows) if row.split == split]
            require(bool(where) or split != "train", "data.labels: the number of rows marked train", 0, "mark some")
            if where:
                parts[split] = files.examples([images[i] for i in where], labels[where])
        return splits.make_source(classes, parts, self.valid_fraction, self.seed)


def _read(path: Path, separator: str, split_column: str) -> tuple[list[str], list[_Row]]:
    """The header and the rows, blank lines left out."""
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
    # A name that somebody chose must be there; the default one need not.
    require(column is not None or split_column in ("split", ""), "data.split_column", split_column, f"{path.name} has the columns {header}")
    return header, [_row(where, cells, separator, column, split_column) for where, cells in lines]


def _row(where: str, cells: list[str], separator: str, column: int | None, split_column: str) -> _Row:
    require(len(cells) >= 2, where, cells, "write an image and its labels")
    labels = {label.strip() for label in (cells[1].split(separator) if separator else [cells[1]])} - {""}
    split = "train"
    if column is not None:
        split = cells[column].strip().lower() if column < len(cells) else ""
        require(split in _SPLITS, f"{where}: {split_column}", split, f"use one of {', '.join(_SPLITS)}")
    return _Row(where, cells[0].strip(), tuple(sorted(labels)), _SPLITS[split])


def _find(header: list[str], rows: list[_Row], folder: Path) -> list[files.ImageFile]:
    """The image file of each row. Only files below `folder` are ever listed, so no row can name one elsewhere."""
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
        require(len(listed[row.image]) == 1, row.where, row.image, "several files have that name; write the extension too")
    found = [listed[row.image][0] for row in rows]
    twice = [name for name, count in Counter(image.name for image in found).items() if count > 1]
    require(not twice, "data.labels: images listed more than once", twice[:3], "keep one row for each")
    return found
