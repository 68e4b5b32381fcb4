"""What the columns of a table mean: which name images, labels and splits; what can be understood in two ways is refused."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from ..core.errors import InputError, did_you_mean
from ..core.validation import require
from .csv_table import LIST, ImageTable, Record
from .splits import SPLIT_OF

_IS_VALID = "is_valid"
_MARKS_VALID = {_IS_VALID, "is_val", "valid", "val", "validation"}
_TRUTH = {"true": "valid", "1": "valid", "1.0": "valid", "false": "train", "0": "train", "0.0": "train"}
_MARKS_SPLIT = _MARKS_VALID | {"split", "is_train", "is_test", "train", "test"}
# A column of zeros and ones with one of these names holds the names of two classes.
_MARKS_LABEL = {"label", "labels", "class", "classes", "target", "targets", "category", "categories", "tag", "tags", "y"}
_NONE = ("nan", "null", "n/a", "#n/a", "<na>")
"""What programs write for a cell without content."""
_ZERO_ONE = ({"0", "1", "0.0", "1.0"}, {"false", "true"})


class Options(NamedTuple):
    """How to read a table.

    Attributes:
        image: name of the column that names the images; "": the first column, and labels are read by position.
        labels: names of the columns with labels; (): see `rows_of`.
        split: name of the column that divides the rows; "" for none.
        separator: between the labels of a cell; "": a cell is one label.
        default: separator that decides nothing, since nobody has given it.
        multi_label: whether an image can have several labels; None: as the rows show.
    """

    image: str = ""
    labels: tuple[str, ...] = ()
    split: str = "split"
    separator: str = " "
    multi_label: bool | None = None
    default: str = " "


class TableRow(NamedTuple):
    """Row of a table: its record, the name of the image, its labels, sorted, and its split."""

    record: Record
    image: str
    labels: tuple[str, ...]
    split: str


class TableRows(NamedTuple):
    """Rows of a table; `classes` are those that columns name, () where cells do."""

    rows: list[TableRow]
    multi_label: bool
    classes: tuple[str, ...]
    notes: list[str]


class _Columns(NamedTuple):
    """Positions of columns; `hot`: the columns of labels hold zeros and ones, one column for each class."""

    image: int
    labels: list[int]
    hot: bool
    split: int | None


def rows_of(table: ImageTable, options: Options) -> TableRows:
    """Read the rows of a table.

    By position, labels are in the second column, or in columns of zeros and ones from there on. By name (`image` or `labels` given, JSON)
    they are in the columns named; else in the one that is left besides image and split, in the one with a name such as label, or in all
    if each holds zeros and ones.

    Raises:
        InputError: a row cannot be used or can be understood in two ways (its line is named), or columns are missing.
    """
    by_name = bool(options.image or options.labels) or table.typed
    columns = _by_name(table, options) if by_name else _by_position(table, options)
    _check_cells(table, [columns.image, *columns.labels, *([] if columns.split is None else [columns.split])])
    header, notes = table.header, _unused(table, columns)
    if columns.hot:
        classes = tuple(header[i] for i in columns.labels)
        shown = [[header[i] for i in columns.labels if _is_one(record.cells[i])] for record in table.records]
        several = sum(len(labels) != 1 for labels in shown)
        multi_label = bool(several and options.labels) if options.multi_label is None else options.multi_label
        if several and options.multi_label is None:
            notes.append(f"{table.name}: {several} of {len(shown)} rows have several of these columns or none, so the task is multi-label")
    else:
        classes = ()
        if not table.typed and options.multi_label is None and options.separator == options.default:
            _check_separators(table, columns.labels[0])
        shown, multi_label = _cell_labels(table, columns.labels[0], options)
        notes += _missing(table, columns.labels[0])
    images = [record.cells[columns.image].strip().removeprefix("./") for record in table.records]
    rows = [
        TableRow(record, image, tuple(sorted(labels)), _split(table, record, columns.split))
        for record, image, labels in zip(table.records, images, shown, strict=True)
    ]
    if not columns.hot and not table.typed and options.multi_label is None and options.separator == " " and multi_label:
        notes += _check_words(table, rows, columns.labels[0])
    if columns.split is None and options.split:
        notes += _folders_of_splits(table, rows)
    return TableRows(rows, multi_label, classes, notes)


# ---- which column is which ----


def _by_position(table: ImageTable, options: Options) -> _Columns:
    split = _split_position(table, options.split)
    hot = _hot_columns(table, split, options)
    return _Columns(0, hot or [1], bool(hot), split)


def _split_position(table: ImageTable, name: str) -> int | None:
    """Return the position of the column that divides the rows; None if there is none."""
    header = table.header
    lower = [column.lower() for column in header]
    if len(header) > 2 and lower[1] in (_IS_VALID, "split"):
        fix = "put the labels second, or name their column in data.label_columns"
        raise InputError(f"{table.name}: the second column is {header[1]!r}, but labels are read from there; {fix}")
    return _split_among(table, name, set(range(2, len(header))))


def _split_among(table: ImageTable, name: str, places: set[int]) -> int | None:
    """Return which of several columns divides the rows: the one named or, by default, `split` or `is_valid`; None if there is none."""
    names = {i: table.header[i] for i in sorted(places)}
    column = next((i for i in names if name and names[i] == name), None)
    if column is None and name == "split":
        column = next((i for i in names if names[i].lower() == name), None)
    # A column named explicitly must exist; the default one need not.
    require(column is not None or name in ("split", ""), "data.split_column", name, f"{table.name} has the columns {table.header}")
    if column is None and name:
        return next((i for i in names if names[i].lower() == _IS_VALID), None)
    return column


def _hot_columns(table: ImageTable, split: int | None, options: Options) -> list[int]:
    """Return the positions of the columns that hold zeros and ones for the classes; none if the second column holds labels.

    Raises:
        InputError: there are such columns, but with several ones or none or something else in some rows, and `multi_label` is not given.
    """
    columns: list[int] = []
    decided = options.multi_label is not None or not options.separator
    for i, name in enumerate(table.header[1:], start=1):
        if i == split or (columns and name.lower() in _MARKS_SPLIT):
            continue
        if not name or name.lower() in _MARKS_LABEL:
            break
        odd = _odd_one(table, i)
        if odd is not None and columns and not decided and 2 * odd[1] < len(table.records):
            fix = f"write 0 or 1, or set data.multi_label to False if {table.header[columns[0]]} alone is the label"
            raise InputError(f"{odd[0].place}: {name} is {odd[0].cells[i].strip()!r}; other rows have zeros and ones there; {fix}")
        if odd is not None:
            break
        columns.append(i)
    if not columns and not decided:
        _check_shares(table, split)
    names = [table.header[i] for i in columns]
    if len(columns) < 2 or not options.separator or options.multi_label is False:
        return []
    twice = next((name for name in names if names.count(name) > 1), None)
    require(twice is None, f"{table.name}: the name of two columns", twice, "each is that of a class; rename one")
    return columns if options.multi_label else _one_each(table, columns)


def _one_each(table: ImageTable, columns: list[int]) -> list[int]:
    """Return columns of zeros and ones. Raises InputError unless each row has a single one, and names the first that has not."""
    for record in table.records:
        ones = sum(_is_one(record.cells[i]) for i in columns)
        if ones != 1:
            names = [table.header[i] for i in columns]
            raise InputError(
                f"{record.place}: {ones or 'none'} of the columns {', '.join(names[:5])}{', …' * (len(names) > 5)} are 1; "
                f"set data.multi_label to True if each is a class, to False if {names[0]} alone is the label"
            )
    return columns


def _by_name(table: ImageTable, options: Options) -> _Columns:
    image = _position(table, options.image, "data.image_column") if options.image else 0
    given = [_position(table, name, "data.label_columns") for name in options.labels]
    require(image not in given, "data.label_columns", list(options.labels), f"{table.header[image]} names the images")
    require(len(set(given)) == len(given), "data.label_columns", list(options.labels), "name each column once")
    split = _split_among(table, options.split, set(range(len(table.header))) - {image, *given})
    if len(given) == 1:
        return _Columns(image, given, False, split)
    if given:
        for i in given:
            if odd := _odd_one(table, i):
                fix = "write 0 or 1, or name one column with the labels"
                raise InputError(f"{odd[0].place}: {table.header[i]} is {odd[0].cells[i].strip()!r}, not zero or one; {fix}")
        return _Columns(image, given, True, split)
    return _left_over(table, options, image, split)


def _left_over(table: ImageTable, options: Options, image: int, split: int | None) -> _Columns:
    """Return the columns with those of labels chosen among the ones that are neither image nor split; see `rows_of`."""
    rest = [i for i, name in enumerate(table.header) if i not in (image, split) and name]
    marked = [i for i in rest if table.header[i].lower() in _MARKS_LABEL]
    if len(marked) == 1 or len(rest) == 1:
        return _Columns(image, marked if len(marked) == 1 else rest, False, split)
    hot = [i for i in rest if table.header[i].lower() not in _MARKS_SPLIT]
    if not marked and len(hot) >= 2 and options.multi_label is not False and all(_odd_one(table, i) is None for i in hot):
        return _Columns(image, hot if options.multi_label else _one_each(table, hot), True, split)
    names = ", ".join(table.header[i] for i in rest[:8]) + ", …" * (len(rest) > 8)
    fix = "name one in data.label_columns, or all of them if each is a class and holds zeros and ones"
    raise InputError(f"{table.name}: the labels may be in any of the columns {names or 'none'}; {fix}")


def _position(table: ImageTable, name: str, field: str) -> int:
    """Return the position of a column that is given by its name."""
    near = did_you_mean(name, table.header, 1)
    require(name in table.header, field, name, f"{near}{table.name} has the columns {', '.join(table.header)}")
    require(table.header.count(name) == 1, field, name, f"{table.name} has several columns of that name; rename them")
    return table.header.index(name)


# ---- cells ----


def _split(table: ImageTable, record: Record, column: int | None) -> str:
    if column is None:
        return "train"
    name, value = table.header[column], record.cells[column].strip().lower()
    known = SPLIT_OF | _TRUTH if name.lower() in _MARKS_VALID else SPLIT_OF
    options = [*SPLIT_OF, *(["true", "false"] if known is not SPLIT_OF else [])]
    require(value in known, f"{record.place}: {name}", value, f"use one of {', '.join(options)}")
    return known[value]


def _folders_of_splits(table: ImageTable, rows: Sequence[TableRow]) -> list[str]:
    """Return a line about folders of images that are called as a split is, where no column divides the rows.

    Raises:
        InputError: there are such of training images and of others, so that the folders are more likely meant to divide them. Those that
            all images share cannot be.
    """
    parents = list({PurePosixPath(row.image).parent.parts for row in rows})
    shared = posixpath.commonprefix(parents)
    folders = sorted({folder for parts in parents for folder in parts[len(shared) :] if folder.lower() in SPLIT_OF})
    others = [folder for folder in folders if SPLIT_OF[folder.lower()] != "train"]
    fix = "no column divides the rows; add a column split with train, valid or test for each, or set data.split_column to '' to mix them"
    require(not others or others == folders, f"{table.name}: folders of images called as splits", folders, fix)
    others = sorted({*others, *(folder for folder in shared if SPLIT_OF.get(folder.lower(), "train") != "train")})
    return [f"{table.name}: the folder {name!r} does not divide the images, since no column does" for name in others]


def _odd_one(table: ImageTable, column: int) -> tuple[Record, int] | None:
    """Return the first row whose cell is no zero or one as in most rows, and the number of such rows; None if there are none."""
    values = Counter(record.cells[column].strip().lower() for record in table.records)
    known = max(_ZERO_ONE, key=lambda kind: sum(values[value] for value in kind))
    count = sum(number for value, number in values.items() if value not in known)
    if not count:
        return None
    return next(record for record in table.records if record.cells[column].strip().lower() not in known), count


def _check_shares(table: ImageTable, split: int | None) -> None:
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
    raise InputError(
        f"{table.records[0].place}: the columns {names} hold shares of 1; "
        "give each image classes instead, one column of names or zeros and ones"
    )


def _is_one(cell: str) -> bool:
    return cell.strip().lower() in ("1", "1.0", "true")


def _cell_labels(table: ImageTable, column: int, options: Options) -> tuple[list[list[str]], bool]:
    """Return the labels of each cell of a column, and whether the task is multi-label.

    Raises:
        InputError: JSON lists have one label each, which may be a single-label task, or several where that is ruled out.
    """
    cells = [record.cells[column] for record in table.records]
    lists = [cell.startswith(LIST) for cell in cells]
    separator = "" if table.typed or options.multi_label is False else options.separator
    shown = [_labels(cell[1:], LIST) if a_list else _labels(cell, separator) for cell, a_list in zip(cells, lists, strict=True)]
    several = next((i for i, labels in enumerate(shown) if len(labels) > 1 or (lists[i] and not labels)), None)
    if any(lists):
        if options.multi_label is None and several is None:
            fix = "each list has one label; set data.multi_label to False if an image has exactly one, to True if it can have several"
            raise InputError(f"{table.name}: {table.header[column]}: {fix}")
        if options.multi_label is False and several is not None:
            raise InputError(f"{table.records[several].place}: a list of {len(shown[several])} labels; set data.multi_label to True")
    return shown, (several is not None if options.multi_label is None else options.multi_label)


def _labels(cell: str, separator: str) -> list[str]:
    return sorted({label.strip() for label in (cell.split(separator) if separator else [cell])} - {""})


def _check_cells(table: ImageTable, used: Sequence[int]) -> None:
    """Refuse rows whose used cells span lines or hold stray quotes: a quote was forgotten, and other rows may be inside.

    Raises:
        InputError: names the line where the quote opens.
    """
    for record in table.records if not table.typed else ():
        cells = [record.cells[i] for i in used]
        if any("\n" in cell or "\r" in cell for cell in cells):
            raise InputError(f"{record.file} line {record.opened}: a quote is not closed, so that a cell spans lines; close it")
        if record.stray and any('"' in cell for cell in cells):
            raise InputError(f'{record.place}: a quote inside a cell; put the whole cell in quotes and write "" for a quote in it')


def _unused(table: ImageTable, columns: _Columns) -> list[str]:
    """Return a line about the columns that are not used; none if all are."""
    used = {columns.image, *columns.labels, columns.split}
    # A nameless column without contents comes from commas at the ends of lines.
    rest = [
        name or f"number {i + 1}"
        for i, name in enumerate(table.header)
        if i not in used and (name or any(record.cells[i].strip() for record in table.records))
    ]
    if not rest:
        return []
    names = [table.header[i] for i in columns.labels]
    labels = f"the columns {', '.join(names)}" if columns.hot else f"the column {names[0]!r}"
    return [f"{table.name}: labels are read from {labels}; not used: the column{'s' * (len(rest) > 1)} {', '.join(rest)}"]


def _check_separators(table: ImageTable, column: int) -> None:
    """Refuse cells such as "dog,cat" whose parts, between commas or the like, are labels elsewhere too.

    That is, all parts of most such cells recur in other cells, or all parts of one are cells of their own. Some rare parts are no sign that
    a cell is one label.

    Raises:
        InputError: names such a row.
    """
    cells = {record.cells[column].strip(): record for record in reversed(table.records)}  # the first of each
    for separator in ",;|":
        parts = {cell: {part.strip() for part in cell.split(separator)} - {""} for cell in cells}
        recurrence = Counter(part for words in parts.values() for part in words)
        alone = {part for words in parts.values() if len(words) == 1 for part in words}
        several = [cell for cell in reversed(cells) if len(parts[cell]) > 1]
        recurring = [cell for cell in several if all(recurrence[part] > 1 for part in parts[cell])]
        known = [cell for cell in recurring if parts[cell] <= alone]
        if known or 2 * len(recurring) > len(several):
            cell = (known or recurring)[0]
            fix = f"set data.separator to {separator!r} if they are several, data.multi_label to False if a cell is one"
            raise InputError(f"{cells[cell].place}: {cell!r} may be one label or {len(parts[cell])}; {fix}")


def _missing(table: ImageTable, column: int) -> list[str]:
    """Return a line about labels that programs write for none; none if there are none."""
    blank = [label for record in table.records if (label := record.cells[column].strip()).casefold() in _NONE]
    rows = f"{len(blank)} of {len(table.records)} rows"
    return [f"{table.name}: {rows} have the label {blank[0]!r}, which is a class here; leave them out if it means none"] if blank else []


def _check_words(table: ImageTable, rows: Sequence[TableRow], column: int) -> list[str]:
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
    several = [row for row in rows if len(row.labels) > 1]
    for row in several:
        apart = [recurrence[word] > 1 for word in row.labels]
        if not varied or not (any(apart) if some_without else all(apart)):
            fix = "set data.multi_label to False if a cell is one label, to True if spaces separate labels"
            raise InputError(f"{row.record.place}: {row.record.cells[column].strip()!r} may be one label or {len(row.labels)}; {fix}")
    return [f"{table.name}: {len(several)} of {len(rows)} rows have several labels, separated by spaces, so the task is multi-label"]
