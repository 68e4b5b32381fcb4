"""Images in one folder with labels in a CSV file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ..core.errors import InputError
from ..core.types import LATER, Dataset, Source
from ..core.validation import require
from . import files
from .csv_table import Record, Table, read_table
from .examples import make_source
from .labels import form_notes, n_hot, normal_form, one_form
from .splits import check_fraction

_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}
_IS_VALID = "is_valid"
_MARKS_VALID = {_IS_VALID, "is_val", "valid", "val", "validation"}
_TRUTH = {"true": "valid", "1": "valid", "1.0": "valid", "false": "train", "0": "train", "0.0": "train"}
_MARKS_SPLIT = _MARKS_VALID | {"split", "is_train", "is_test", "train", "test"}
# A column of zeros and ones with one of these names holds the names of two classes.
_MARKS_LABEL = {"label", "labels", "class", "classes", "target", "targets", "category", "categories", "tag", "tags", "y"}
_ZERO_ONE = ({"0", "1", "0.0", "1.0"}, {"false", "true"})


class _Row(NamedTuple):
    place: str
    image: str
    labels: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class CsvLabels(Dataset):
    """Reads labels from a CSV file with a header line: the image in the first column, its labels in the second, separated by spaces.

    With exactly one label in every row the task is single-label; otherwise it is multi-label, and a row may have no label. Instead of
    labels, the second and further columns may hold zeros and ones, a column for each class (one-hot). A column `split`, or `is_valid` as
    fastai writes it, divides the images. `Source.notes` names the columns and files that are not used.

    A cell with a space may be one label or several. If the words do not recur in other combinations, the set is refused unless
    `separator` or `multi_label` decides.

    Source: the layout of Kaggle competitions, `labels.csv` beside the images in `train`; `from_csv` of fastai 0.7; the CSV files of
    RFC 4180.

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
    """Column with train, valid or test for each row, or is_valid with true or false; without one, is_valid if there is such a column,
    else a share is held out."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, if no row is marked valid."""
    seed: int = 0
    """Seed of the held-out split."""
    multi_label: bool | None = field(default=None, metadata=LATER)
    """True: an image can have several labels; False: each cell of the second column is one label; None: as the rows show."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)

    def open(self) -> Source:
        """Read the CSV file and list the images.

        Raises:
            InputError: a row cannot be used or can be understood in two ways (its line is named), or images are missing (the first few
                are named).
        """
        root = files.existing_folder(self.root, "data.root")
        folder = files.existing_folder(root / self.images, "data.images")
        table = read_table(root / self.labels)
        rows, multi_label, names, notes = self._understood(table)
        images = _image_files(table, rows, folder)
        unlabelled = [row for row in rows if not row.labels]
        if unlabelled and not multi_label:
            raise InputError(f"{unlabelled[0].place}: {unlabelled[0].image!r} has no label; give it one")
        forms = one_form(label for row in rows for label in row.labels)
        classes = names or sorted(set(forms.values()))
        number = {name: i for i, name in enumerate(classes)}
        table_of_labels = n_hot([[number[forms[label]] for label in row.labels] for row in rows], len(classes))
        labels = table_of_labels if multi_label else table_of_labels.argmax(axis=1).astype(np.int32)
        examples = {}
        for split in ("train", "valid", "test"):
            where = [i for i, row in enumerate(rows) if row.split == split]
            require(bool(where) or split != "train", "data.labels: the number of rows marked train", 0, "mark some")
            if where:
                examples[split] = files.examples([images[i] for i in where], labels[where])
        notes += [*form_notes(forms), *_unused_files(root, self.labels, folder, [image.name for image in images])]
        return make_source(classes, examples, self.valid_fraction, self.seed, notes=notes)

    def _understood(self, table: Table) -> tuple[list[_Row], bool, list[str], list[str]]:
        """Return the rows, whether they are multi-label, the classes if columns name them, and notes."""
        split = _split_position(table, self.split_column)
        hot = self._hot_columns(table, split)
        used = [0, *(hot or [1]), *([] if split is None else [split])]
        _check_cells(table, used)
        header = table.header
        if hot:
            names = [header[i] for i in hot]
            shown = [[header[i] for i in hot if _is_one(record.cells[i])] for record in table.records]
            multi_label = self.multi_label is True
        else:
            names = []
            shown = [_labels(record.cells[1], "" if self.multi_label is False else self.separator) for record in table.records]
            multi_label = any(len(labels) > 1 for labels in shown) if self.multi_label is None else self.multi_label
        rows = [
            _Row(table.place(record), record.cells[0].strip(), tuple(sorted(labels)), _split(table, record, split))
            for record, labels in zip(table.records, shown, strict=True)
        ]
        notes = _unused_columns(table, used, hot)
        if not hot and self.multi_label is None and self.separator == " " and multi_label:
            notes += _check_words(table, rows)
        return rows, multi_label, names, notes

    def _hot_columns(self, table: Table, split: int | None) -> list[int]:
        """Return the positions of the columns that hold zeros and ones for the classes; none if the second column holds labels.

        Raises:
            InputError: there are such columns, but with several ones or none or something else in some rows, and `multi_label` is not
                given.
        """
        columns: list[int] = []
        decided = self.multi_label is not None or not self.separator
        for i, name in enumerate(table.header[1:], start=1):
            if i == split or (columns and name.lower() in _MARKS_SPLIT):
                continue
            if not name or name.lower() in _MARKS_LABEL:
                break
            odd = _odd_one(table, i)
            if odd is not None and columns and not decided and 2 * odd[1] < len(table.records):
                fix = f"write 0 or 1, or set data.multi_label to False if {table.header[columns[0]]} alone is the label"
                raise InputError(
                    f"{table.place(odd[0])}: {name} is {odd[0].cells[i].strip()!r}; other rows have zeros and ones there; {fix}"
                )
            if odd is not None:
                break
            columns.append(i)
        if not columns and not decided:
            _check_shares(table, split)
        names = [table.header[i] for i in columns]
        if len(columns) < 2 or not self.separator or len(set(names)) < len(names):
            return []
        ones = [sum(_is_one(record.cells[i]) for i in columns) for record in table.records]
        several = next((i for i, count in enumerate(ones) if count != 1), None)
        if several is None or self.multi_label:
            return columns
        if self.multi_label is False:
            return []
        raise InputError(
            f"{table.place(table.records[several])}: {ones[several] or 'none'} of the columns {', '.join(names[:5])}"
            f"{', …' * (len(names) > 5)} are 1; set data.multi_label to True if each is a class, to False if {names[0]} alone is the label"
        )


def _split_position(table: Table, name: str) -> int | None:
    """Return the position of the column that divides the rows; None if there is none."""
    header = table.header
    lower = [column.lower() for column in header]
    if len(header) > 2 and lower[1] in (_IS_VALID, "split"):
        raise InputError(f"{table.name}: the second column is {header[1]!r}, but labels are read from there; put the labels second")
    column = header.index(name, 2) if name and name in header[2:] else None
    if column is None and name == "split" and name in lower[2:]:
        column = lower.index(name, 2)
    # A column named explicitly must exist; the default one need not.
    require(column is not None or name in ("split", ""), "data.split_column", name, f"{table.name} has the columns {header}")
    if column is None and name and _IS_VALID in lower[2:]:
        return lower.index(_IS_VALID, 2)
    return column


def _split(table: Table, record: Record, column: int | None) -> str:
    if column is None:
        return "train"
    name, value = table.header[column], record.cells[column].strip().lower()
    known = _SPLITS | _TRUTH if name.lower() in _MARKS_VALID else _SPLITS
    options = [*_SPLITS, *(["true", "false"] if known is not _SPLITS else [])]
    require(value in known, f"{table.place(record)}: {name}", value, f"use one of {', '.join(options)}")
    return known[value]


def _odd_one(table: Table, column: int) -> tuple[Record, int] | None:
    """Return the first row whose cell is no zero or one as in most rows, and the number of such rows; None if there are none."""
    values = Counter(record.cells[column].strip().lower() for record in table.records)
    known = max(_ZERO_ONE, key=lambda kind: sum(values[value] for value in kind))
    count = sum(number for value, number in values.items() if value not in known)
    if not count:
        return None
    return next(record for record in table.records if record.cells[column].strip().lower() not in known), count


def _check_shares(table: Table, split: int | None) -> None:
    """Refuse columns that hold a share for each class.

    Raises:
        InputError: all cells but the first and that of the split are shares that sum to 1 in each row.
    """
    columns = [i for i in range(1, len(table.header)) if i != split]
    if len(columns) < 2 or table.header[1].lower() in _MARKS_LABEL:
        return
    for record in table.records:
        try:
            shares = [float(record.cells[i]) for i in columns]
        except ValueError:
            return
        if min(shares) < 0 or not abs(sum(shares) - 1) < 1e-3:
            return
    names = ", ".join(table.header[i] for i in columns[:5]) + ", …" * (len(columns) > 5)
    place = table.place(table.records[0])
    raise InputError(
        f"{place}: the columns {names} hold shares of 1; give each image classes instead, one column of names or zeros and ones"
    )


def _is_one(cell: str) -> bool:
    return cell.strip().lower() in ("1", "1.0", "true")


def _labels(cell: str, separator: str) -> list[str]:
    return sorted({label.strip() for label in (cell.split(separator) if separator else [cell])} - {""})


def _check_cells(table: Table, used: Sequence[int]) -> None:
    """Refuse rows whose used cells span lines or hold stray quotes: a quote was forgotten, and other rows may be inside.

    Raises:
        InputError: names the line where the quote opens.
    """
    for record in table.records:
        cells = [record.cells[i] for i in used]
        if any("\n" in cell or "\r" in cell for cell in cells):
            raise InputError(f"{table.name} line {record.opened}: a quote is not closed, so that a cell spans lines; close it")
        if record.stray and any('"' in cell for cell in cells):
            raise InputError(f'{table.place(record)}: a quote inside a cell; put the whole cell in quotes and write "" for a quote in it')


def _unused_columns(table: Table, used: Sequence[int], hot: Sequence[int]) -> list[str]:
    rest = [name or f"number {i + 1}" for i, name in enumerate(table.header) if i not in used]
    # A nameless column without contents comes from commas at the ends of lines.
    rest = [
        name
        for name, i in zip(rest, (i for i in range(len(table.header)) if i not in used), strict=True)
        if table.header[i] or any(record.cells[i].strip() for record in table.records)
    ]
    if not rest:
        return []
    labels = f"the columns {', '.join(table.header[i] for i in hot)}" if hot else f"the column {table.header[1]!r}"
    return [f"{table.name}: labels are read from {labels}; not used: the column{'s' * (len(rest) > 1)} {', '.join(rest)}"]


def _check_words(table: Table, rows: Sequence[_Row]) -> list[str]:
    """Return a line that the cells with spaces hold several labels, if the words of them recur in other combinations.

    Words that never occur apart are as likely one label with a space, and so are those of a set that has the same number in every row. An
    image without a label can only be one of multi-label data: then it is enough that some word of each cell recurs.

    Raises:
        InputError: a cell can be understood in two ways.
    """
    combinations = {row.labels for row in rows if row.labels}
    recurrence = Counter(word for labels in combinations for word in labels)
    some_without = any(not row.labels for row in rows)
    varied = some_without or len({len(labels) for labels in combinations}) > 1
    several = [(row, record) for row, record in zip(rows, table.records, strict=True) if len(row.labels) > 1]
    for row, record in several:
        apart = [recurrence[word] > 1 for word in row.labels]
        if not varied or not (any(apart) if some_without else all(apart)):
            fix = "set data.multi_label to False if a cell is one label, to True if spaces separate labels"
            raise InputError(f"{row.place}: {record.cells[1].strip()!r} may be one label or {len(row.labels)}; {fix}")
    return [f"{table.name}: {len(several)} of {len(rows)} rows have several labels, separated by spaces, so the task is multi-label"]


def _unused_files(root: Path, labels: str, folder: Path, names: Sequence[str]) -> list[str]:
    """Return notes about the files in the folder of the set, and in that of the images if it lies elsewhere."""
    place = os.path.relpath(folder, root).replace(os.sep, "/")
    prefix = "" if place == "." else place + "/"
    notes = files.notes(root, [labels, *(prefix + name for name in names)])
    return notes + (files.notes(folder, names) if place.startswith("..") else [])


def _image_files(table: Table, rows: Sequence[_Row], folder: Path) -> list[files.ImageFile]:
    """Return the image file of each row. Only files below `folder` are listed, so no row can name one elsewhere."""
    inside = {PurePosixPath(row.image).parent for row in rows}
    listed: dict[str, list[files.ImageFile]] = {}
    for parent in sorted(folder / part for part in inside if not part.is_absolute() and ".." not in part.parts):
        for image in files.images_in(parent, folder) if parent.is_dir() else ():
            for name in (image.name, str(PurePosixPath(image.name).with_suffix(""))):
                listed.setdefault(name, []).append(image)
    header = table.header
    require(
        header[0] not in listed, "data.labels: the first line", header, "that names an image; put a header line such as id,label before it"
    )
    _check_swallowed(table, listed)
    composed: dict[str, list[files.ImageFile]] = {}
    if any(row.image not in listed for row in rows):
        for name, found in listed.items():
            composed.setdefault(normal_form(name), []).extend(found)
    matches = [listed.get(row.image) or composed.get(normal_form(row.image), []) for row in rows]
    missing = [row.image for row, found in zip(rows, matches, strict=True) if not found]
    if missing:
        names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "") + _unread(missing[0], folder)
        raise InputError(
            f"{len(missing)} of {len(rows)} images in the CSV file are not in {str(folder)!r}: {names}; put them there, or remove the rows"
        )
    for row, found in zip(rows, matches, strict=True):
        require(len(found) == 1, row.place, row.image, "several files have that name; write the extension too")
    images = [found[0] for found in matches]
    first: dict[str, Record] = {}
    for image, record in zip(images, table.records, strict=True):
        if first.setdefault(image.name, record) is not record:
            before = f"first in line {first[image.name].line}"
            raise InputError(f"{table.place(record)}: {image.name!r} is listed more than once, {before}; keep one row for each")
    return images


def _check_swallowed(table: Table, listed: Mapping[str, object]) -> None:
    """Refuse a cell of an unused column with lines that begin as rows do: with the name of an image.

    Raises:
        InputError: names the line where the quote opens.
    """
    for record in table.records:
        for line in record.text.splitlines()[1:]:
            first = line.split(",")[0].strip().strip('"')
            if first in listed:
                place, fix = f"{table.name} line {record.opened}", "close it, or remove the line break"
                raise InputError(f"{place}: a quote is not closed before the row of {first!r}; {fix}")


def _unread(name: str, folder: Path) -> str:
    """Return a hint if there is a file of that name in a format that is not read."""
    path = folder / name
    if ".." in path.parts or PurePosixPath(name).is_absolute() or not path.parent.is_dir():
        return ""
    found = path if path.is_file() else next((other for other in sorted(path.parent.iterdir()) if other.stem == path.name), None)
    kinds = ", ".join(files.EXTENSIONS)
    return f" ({found.name} is there, but {found.suffix or 'a file without extension'} is not read, only {kinds})" if found else ""
