"""Strict reading of CSV files: each row with its line; a quote that is not closed is an error instead of a cell of many lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..core.errors import InputError
from ..core.validation import require

# A quoted cell of RFC 4180 without its closing quote: what is inside, with each quote doubled. Possessive, so that it never backtracks.
_QUOTED = re.compile(r'"(?:[^"]|"")*+')
_PLAIN = re.compile(r"[^,\r\n]*+")


class Record(NamedTuple):
    """Row of a CSV file.

    Attributes:
        line: number of its first line, from 1.
        cells: as many as the header has, empty ones added.
        text: its lines in the file if they are several, else "".
        opened: number of the line where its first cell of several lines begins.
        stray: whether a cell without quotes around it contains one.
    """

    line: int
    cells: list[str]
    text: str
    opened: int
    stray: bool


class Table(NamedTuple):
    """CSV file.

    Attributes:
        name: of the file, for messages.
        header: names of the columns, without blanks around them.
        records: rows that are not blank.
    """

    name: str
    header: list[str]
    records: list[Record]

    def place(self, record: Record) -> str:
        """Return the place of a row for messages."""
        return f"{self.name} line {record.line}"


def read_table(path: Path) -> Table:
    """Read a CSV file in UTF-8 with a header line, a row for each image, and commas between the cells.

    Raises:
        InputError: the file is missing or not CSV, or a row has more cells than the header; names the line.
    """
    require(path.is_file(), "data.labels", str(path), "there is no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            records = list(_records(path.name, file))
    except UnicodeDecodeError as error:
        raise InputError(f"data.labels is {str(path)!r}; not a CSV file in UTF-8 ({error})") from error
    first, *rest = records or [Record(1, [], "", 1, False)]
    header = [cell.strip() for cell in first.cells]
    rest = [record for record in rest if any(cell.strip() for cell in record.cells)]
    if first.text:
        raise InputError(f"{path.name} line {first.opened}: a quote is not closed in the header; close it")
    require(
        len(header) >= 2 and bool(rest),
        "data.labels",
        str(path),
        "needs a header line such as id,label, then a row for each image, with commas",
    )
    return Table(path.name, header, [_fitted(path.name, record, len(header)) for record in rest])


def _fitted(name: str, record: Record, count: int) -> Record:
    """Return the row with as many cells as the header."""
    cells = record.cells
    require(len(cells) >= 2, f"{name} line {record.line}", cells, "write an image and its labels")
    if any(cell.strip() for cell in cells[count:]):
        fix = "put a cell that contains a comma in quotes, or name the column"
        raise InputError(f"{name} line {record.line}: {len(cells)} cells, but the header has {count}; {fix}")
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
        yield Record(start, cells, text if len(taken) > 1 else "", start + quotes.opened, quotes.stray)
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
