"""The image files that the rows of a table name, and the examples that follow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..core.errors import InputError
from ..core.validation import require
from . import files
from .csv_table import Record
from .examples import Examples
from .labels import n_hot, normal_form, one_form
from .table_columns import TableRow, TableRows


def examples_of_rows(
    table: TableRows, folder: Path, header: str, extensions: Sequence[str]
) -> tuple[list[str], dict[str, Examples], dict[str, str]]:
    """Find the images of a table's rows.

    Args:
        table: the rows, whose images are named relative to `folder`, with or without extension.
        folder: holds the images.
        header: name of the column of images, which is refused if it names an image.
        extensions: of image files.

    Returns:
        (names of the classes, split name to examples, the form of each name, see `one_form`).

    Raises:
        InputError: images are missing (the first few are named), an image is named twice or has no label, no row is marked train.
    """
    rows = table.rows
    images = _image_files(rows, folder, header, extensions)
    unlabelled = [row for row in rows if not row.labels]
    if unlabelled and not table.multi_label:
        raise InputError(f"{unlabelled[0].record.place}: {unlabelled[0].image!r} has no label; give it one")
    forms = one_form(label for row in rows for label in row.labels)
    classes = list(table.classes) or sorted(set(forms.values()))
    number = {name: i for i, name in enumerate(classes)}
    table_of_labels = n_hot([[number[forms[label]] for label in row.labels] for row in rows], len(classes))
    labels = table_of_labels if table.multi_label else table_of_labels.argmax(axis=1).astype(np.int32)
    examples = {}
    for split in ("train", "valid", "test"):
        where = [i for i, row in enumerate(rows) if row.split == split]
        require(bool(where) or split != "train", "data.labels: the number of rows marked train", 0, "mark some")
        if where:
            examples[split] = files.examples([images[i] for i in where], labels[where])
    return classes, examples, forms


def unused_files(root: Path, tables: Iterable[str], folder: Path, names: Iterable[str], extensions: Sequence[str]) -> list[str]:
    """Return notes about the files in the folder of the set, and in that of the images if it lies elsewhere.

    Args:
        root: folder of the set.
        tables: names of the tables, relative to it.
        folder: of the images.
        names: of the images that are used, relative to `folder`.
        extensions: of image files.
    """
    place = os.path.relpath(folder, root).replace(os.sep, "/")
    prefix, names = "" if place == "." else place + "/", list(names)
    notes = files.notes(root, [*tables, *(prefix + name for name in names)], extensions)
    return notes + (files.notes(folder, names, extensions) if place.startswith("..") else [])


def _image_files(rows: Sequence[TableRow], folder: Path, header: str, extensions: Sequence[str]) -> list[files.ImageFile]:
    """Return the image file of each row. Only files below `folder` are listed, so no row can name one elsewhere."""
    inside = {PurePosixPath(row.image).parent for row in rows}
    listed: dict[str, list[files.ImageFile]] = {}
    for parent in sorted(folder / part for part in inside if not part.is_absolute() and ".." not in part.parts):
        for image in files.images_in(parent, folder, extensions) if parent.is_dir() else ():
            for name in (image.name, str(PurePosixPath(image.name).with_suffix(""))):
                listed.setdefault(name, []).append(image)
    require(
        header not in listed, "data.labels: the first line", header, "that names an image; put a header line such as id,label before it"
    )
    _check_swallowed((row.record for row in rows), listed)
    composed: dict[str, list[files.ImageFile]] = {}
    if any(row.image not in listed for row in rows):
        for name, candidates in listed.items():
            composed.setdefault(normal_form(name), []).extend(candidates)
    exact = {image.name: [image] for candidates in listed.values() for image in candidates}
    matches = [exact.get(row.image) or listed.get(row.image) or composed.get(normal_form(row.image), []) for row in rows]
    missing = [row.image for row, candidates in zip(rows, matches, strict=True) if not candidates]
    if missing:
        names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "") + _unread(missing[0], folder, extensions)
        raise InputError(
            f"{len(missing)} of {len(rows)} images in the CSV file are not in {str(folder)!r}: {names}; put them there, or remove the rows"
        )
    for row, candidates in zip(rows, matches, strict=True):
        require(len(candidates) == 1, row.record.place, row.image, "several files have that name; write the extension too")
    images = [candidates[0] for candidates in matches]
    first: dict[str, Record] = {}
    for image, row in zip(images, rows, strict=True):
        before = first.setdefault(image.name, row.record)
        if before is not row.record:
            where = f"line {before.line}" if before.file == row.record.file else before.place
            raise InputError(f"{row.record.place}: {image.name!r} is listed more than once, first in {where}; keep one row for each")
    return images


def _check_swallowed(records: Iterable[Record], listed: Mapping[str, object]) -> None:
    """Refuse a cell of an unused column with lines that begin as rows do: with the name of an image.

    Raises:
        InputError: names the line where the quote opens.
    """
    for record in records:
        prefix = PurePosixPath(record.file).parent
        for line in record.text.splitlines()[1:]:
            first = line.split(",")[0].strip().strip('"')
            if first in listed or str(prefix / first) in listed:
                place, fix = f"{record.file} line {record.opened}", "close it, or remove the line break"
                raise InputError(f"{place}: a quote is not closed before the row of {first!r}; {fix}")


def _unread(name: str, folder: Path, extensions: Sequence[str]) -> str:
    """Return a hint if there is a file of that name in a format that is not read."""
    path = folder / name
    if ".." in path.parts or PurePosixPath(name).is_absolute() or not path.parent.is_dir():
        return ""
    file = path if path.is_file() else next((other for other in sorted(path.parent.iterdir()) if other.stem == path.name), None)
    if not file or file.suffix.lower() in extensions:
        return ""
    kinds = ", ".join(extensions)
    reason = f"({file.name} is there, but {file.suffix or 'a file without extension'} is not read, only {kinds}"
    return f" {reason}{files.format_fix(file.suffix)})"
