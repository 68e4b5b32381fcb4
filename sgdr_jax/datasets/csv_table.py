"""Strict reading of tables, CSV files and JSON lines: each row with its line.

A quote that is not closed in a CSV file is an error instead of a cell of many lines.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import InputError
from ..core.validation import require

# A quoted cell of RFC 4180 without its closing quote: what is inside, with each quote doubled. Possessive, so that it never backtracks.
_QUOTED = re.compile(r'"(?:[^"]|"")*+')
_PLAIN = re.compile(r"[^,\r\n]*+")

LIST = "\x1f"
"""Begins the cell of a JSON list, and stands before each of its items."""


class Record(NamedTuple):
    """Row of a table.

    Attributes:
        file: name of the file, for messages.
        line: number of its first line, from 1.
        cells: as many as the header has, empty ones added.
        text: its lines in the file if they are several, else "".
        opened: number of the line where its first cell of several lines begins.
        stray: whether a cell without quotes around it contains one.
    """

    file: str
    line: int
    cells: list[str]
    text: str = ""
    opened: int = 1
    stray: bool = False

    @property
    def place(self) -> str:
        """Place of the row for messages."""
        return f"{self.file} line {self.line}"


class ImageTable(NamedTuple):
    """Table with a row for each image.

    Attributes:
        name: of the file, for messages.
        header: names of the columns, without blanks around them.
        records: rows that are not blank.
        typed: whether the file tells lists from texts, as JSON does, so that no text holds several labels.
    """

    name: str
    header: list[str]
    records: list[Record]
    typed: bool = False


def read_table(path: Path, name: str = "") -> ImageTable:
    """Read a table in UTF-8: a CSV file with a header line, a row for each image and commas between the cells, or JSON lines (.jsonl).

    Args:
        path: the file.
        name: of the file, for messages; "" for that of the path.

    Raises:
        InputError: the file is missing or not CSV, or a row has more cells than the header; names the line.
    """
    name = name or path.name
    require(path.is_file(), "data.labels", str(path), "there is no such file")
    lines = path.suffix.lower() == ".jsonl"
    try:
        with path.open(encoding="utf-8-sig", newline=None if lines else "") as file:
            if lines:
                return _json_table(name, file)
            records = list(_records(name, file))
    except UnicodeDecodeError as error:
        raise InputError(f"data.labels is {str(path)!r}; not a {'JSON' if lines else 'CSV'} file in UTF-8 ({error})") from error
    first, *rest = records or [Record(name, 1, [])]
    header = [cell.strip() for cell in first.cells]
    rest = [record for record in rest if any(cell.strip() for cell in record.cells)]
    if first.text:
        raise InputError(f"{name} line {first.opened}: a quote is not closed in the header; close it")
    require(
        len(header) >= 2 and bool(rest),
        "data.labels",
        str(path),
        "needs a header line such as id,label, then a row for each image, with commas",
    )
    return ImageTable(name, header, [_fitted(record, len(header)) for record in rest])


def joined(tables: Sequence[ImageTable]) -> ImageTable:
    """Return tables of the same columns, in any order, as one.

    Raises:
        InputError: a column is missing in one of them.
    """
    first, *others = tables
    records = list(first.records)
    for table in others:
        if sorted(table.header) != sorted(first.header):
            differing = ", ".join(sorted({*table.header} ^ {*first.header})) or "several of one name"
            raise InputError(f"{table.name} has other columns than {first.name} ({differing}); give both the same columns")
        order = [table.header.index(name) for name in first.header]
        records += [record._replace(cells=[record.cells[i] for i in order]) for record in table.records]
    return ImageTable(", ".join(table.name for table in tables), first.header, records, any(table.typed for table in tables))


def _json_table(name: str, lines: Iterable[str]) -> ImageTable:
    """Read an object a line: its names are the columns. Lists are cells that begin with `LIST`; what is missing or null is empty."""
    rows: list[tuple[int, dict[str, Any]]] = []
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name} line {line}: not JSON ({error}); write one object a line") from error
        require(isinstance(row, dict), f"{name} line {line}", text.strip()[:40], 'write an object, such as {"file_name": "a.jpg"}')
        rows.append((line, row))
    header = list(dict.fromkeys(key for _, row in rows for key in row))
    fix = 'needs an object for each image, such as {"file_name": "a.jpg", "label": "cat"}'
    require(bool(rows) and len(header) >= 2, "data.labels", name, fix)
    return ImageTable(name, header, [Record(name, line, [_json_cell(row.get(key)) for key in header]) for line, row in rows], typed=True)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; raises ValueError for one that has a name twice."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return record


def _json_cell(value: object) -> str:
    if isinstance(value, list):
        return "".join(LIST + _json_cell(item).replace(LIST, " ") for item in value) or LIST
    return "" if value is None else value.replace(LIST, " ") if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fitted(record: Record, count: int) -> Record:
    """Return the row with as many cells as the header."""
    cells = record.cells
    require(len(cells) >= 2, record.place, cells, "write an image and its labels")
    if any(cell.strip() for cell in cells[count:]):
        fix = "put a cell that contains a comma in quotes, or name the column"
        raise InputError(f"{record.place}: {len(cells)} cells, but the header has {count}; {fix}")
    return record._replace(cells=(cells + [""] * (count - len(cells)))[:count])


def _records(name: str, lines: Iterable[str]) -> Iterator[Record]:
    taken: list[str] = []

    def feed() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(feed(), strict=True)
    start = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            quotes = _scan("".join(taken))
            fault = quotes.fault or f"not a row of a CSV file ({error}); repair it"
            raise InputError(f"{name} line {start + quotes.opened}: {fault}") from error
        if cells is None:
            return
        text = "".join(taken)
        quotes = _scan(text) if '"' in text else _Quotes(0, False)
        yield Record(name, start, cells, text if len(taken) > 1 else "", start + quotes.opened, quotes.stray)
        start += len(taken)
        taken.clear()


class _Quotes(NamedTuple):
    """Quotes of a row.

    Attributes:
        opened: number of line ends before the first quoted cell that is wrong or spans lines.
        stray: whether a cell without quotes around it contains one.
        fault: what is wrong with a quoted cell, and the fix; "" for nothing.
    """

    opened: int
    stray: bool
    fault: str = ""


def _scan(text: str) -> _Quotes:
    """Return what the quotes of a row are like."""
    position, spans, stray = 0, None, False
    while True:
        quoted = _QUOTED.match(text, position)
        if quoted:
            if spans is None and _line_ends(quoted[0]):
                spans = position
            end = quoted.end() + 1
            closed = text[quoted.end() : end] == '"'
            if not closed or text[end : end + 1] not in ("", ",", "\r", "\n"):
                # After a cell of several lines the closing quote is more likely the opening one of a later row.
                unclosed = not closed or spans is not None
                fault = "a quote is not closed; close it" if unclosed else "text follows a closing quote; put the whole cell in quotes"
                fault += ', and write "" for a quote in a cell'
                return _Quotes(_line_ends(text[: position if spans is None else spans]), stray, fault)
        else:
            plain = _PLAIN.match(text, position)
            assert plain is not None
            end = plain.end()
            stray |= '"' in plain[0]
        if text[end : end + 1] != ",":
            return _Quotes(_line_ends(text[: spans or 0]), stray)
        position = end + 1


def _line_ends(text: str) -> int:
    """Return the number of line ends in a text, however they are written."""
    return len(re.findall(r"\r\n|\r|\n", text))
