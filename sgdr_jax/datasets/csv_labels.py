"""Labels in a CSV file, images in one folder."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ..config import require
from ..types import Dataset, InputError, Source
from . import files, splits

_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}


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
        rows = self._rows(root / self.labels)
        images = self._find(rows, files.folder(root / self.images, "data.images"))
        several = any(len(row.labels) > 1 for row in rows)
        bare = [row for row in rows if not row.labels]
        if bare and not several:
            raise InputError(f"{self.labels} line {bare[0].line}: {bare[0].image!r} has no label; give it one")
        classes = sorted({label for row in rows for label in row.labels})
        number = {name: i for i, name in enumerate(classes)}
        table = np.zeros((len(rows), len(classes)), np.float32)
        for i, row in enumerate(rows):
            table[i, [number[label] for label in row.labels]] = 1
        labels = table if several else table.argmax(axis=1).astype(np.int32)
        parts = {}
        for split in ("train", "valid", "test"):
            where = [i for i, row in enumerate(rows) if row.split == split]
            require(bool(where) or split != "train", f"{self.labels}: rows of split train", len(where), "mark some rows train")
            if where:
                parts[split] = ([images[i].path for i in where], labels[where], [images[i].name for i in where])
        return splits.make_source(classes, parts, [image.identity for image in images], self.valid_fraction, self.seed)

    def _rows(self, path: Path) -> list[_Row]:
        require(path.is_file(), "data.labels", str(path), "there is no such file")
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file)
                header = next(reader, [])
                cells = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"data.labels is {str(path)!r}; not a CSV file in UTF-8 ({error})") from error
        require(len(header) >= 2 and bool(cells), "data.labels", str(path), "needs a header line such as id,label, and a row for each image")
        column = header.index(self.split_column) if self.split_column in header[2:] else None
        require(column is not None or self.split_column in ("split", ""), "data.split_column", self.split_column, f"{self.labels} has the columns {header}")
        rows = []
        for line, row in cells:
            where = f"{self.labels} line {line}"
            require(len(row) >= 2, where, row, "needs an image and its labels")
            labels = [label.strip() for label in (row[1].split(self.separator) if self.separator else [row[1]])]
            split = "train"
            if column is not None:
                value = row[column].strip().lower() if column < len(row) else ""
                require(value in _SPLITS, f"{where}: {self.split_column}", value, f"use one of {', '.join(_SPLITS)}")
                split = _SPLITS[value]
            rows.append(_Row(line, row[0].strip(), tuple(sorted({label for label in labels if label})), split))
        return rows

    def _find(self, rows: list[_Row], folder: Path) -> list[files.ImageFile]:
        listed: dict[str, list[files.ImageFile]] = {}
        parents = {folder} | {folder / PurePosixPath(row.image).parent for row in rows if "/" in row.image and ".." not in row.image}
        for parent in sorted(parent for parent in parents if parent.is_dir() and parent.is_relative_to(folder)):
            for image in files.images_in(parent, folder):
                for name in (image.name, str(PurePosixPath(image.name).with_suffix(""))):
                    listed.setdefault(name, []).append(image)
        header_is_image = [] if not listed else listed.get(self._first_cell(), [])
        require(not header_is_image, f"{self.labels} line 1", self._first_cell(), "that is an image; put a header line such as id,label before it")
        missing = [row.image for row in rows if row.image not in listed]
        if missing:
            raise InputError(f"{len(missing)} of {len(rows)} images of {self.labels} are not in {str(folder)!r}: {', '.join(missing[:3])}{', …' * (len(missing) > 3)}")
        for row in rows:
            require(len(listed[row.image]) == 1, f"{self.labels} line {row.line}", row.image, "several files have that name; write the extension too")
        found = [listed[row.image][0] for row in rows]
        twice = [name for name, count in Counter(image.name for image in found).items() if count > 1]
        require(not twice, f"{self.labels}: images listed more than once", twice[:3], "keep one row for each")
        return found
