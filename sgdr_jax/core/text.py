"""Names as data: one function for each kind of output that shows names of classes, files, stages and runs.

HTML pages are made by templates that escape every value (`report.html`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

_CONTROL = {i: f"\\x{i:02x}" for i in (*range(32), *range(127, 160))} | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
_BREAKS = {i: text for i, text in _CONTROL.items() if chr(i) not in "\n\t"}
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def one_line(text: object) -> str:
    r"""Return text in one line for a terminal: control characters, which could move the cursor or colour what follows, as escapes.

    Example:
        >>> one_line("a\x1b[31m\nb")
        'a\\x1b[31m\\nb'
    """
    return str(text).translate(_CONTROL)


def several(names: Sequence[str], most: int = 3) -> str:
    """Join the first `most` names and count the rest.

    >>> several(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def is_unicode(text: str) -> bool:
    """Return whether a text can be written as UTF-8, which the name of a file or folder need not be on Linux.

    >>> is_unicode("Ä"), is_unicode("\\udcc4")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def lines(text: str) -> str:
    r"""Return text for a terminal, with its line breaks and tabs; other control characters as escapes.

    Example:
        >>> lines("a\x1b[31m\nb")
        'a\\x1b[31m\nb'
    """
    return text.translate(_BREAKS)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV. Texts that a spreadsheet would execute as a formula begin with an apostrophe; `csv_value` removes it.

    Example:
        >>> csv_text([["name", "p"], ["=cmd()", -0.5]])
        "name,p\\n'=cmd(),-0.5\\n"
    """
    return "".join(_csv_row([_cell(value) for value in row], ",") + "\n" for row in rows)


def csv_list(names: Sequence[str], delimiter: str) -> str:
    """Return names as one cell: a list that `csv.reader` reads with this delimiter, since names that hold it are quoted.

    Example:
        >>> csv_list(["a", "b c"], " ")
        'a "b c"'
    """
    return _csv_row(names, delimiter)


def _csv_row(cells: Sequence[object], delimiter: str) -> str:
    # Before Python 3.13 only those line breaks are quoted that end a row, so the row ends with both.
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n")


def csv_value(cell: str) -> str:
    """Return the text of a cell that `csv_text` has written.

    Example:
        >>> csv_value("'=cmd()"), csv_value("'quoted'")
        ('=cmd()', "'quoted'")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _cell(value: object) -> object:
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value


def tsv_text(rows: Iterable[Sequence[str]]) -> str:
    r"""Return rows as lines with fields between tabs; tabs, line breaks and backslashes within fields as escapes.

    Example:
        >>> tsv_text([["a\tb\n.png", "no image"]])
        'a\\tb\\n.png\tno image\n'
    """
    return "".join("\t".join(field.translate(_TSV) for field in row) + "\n" for row in rows)


def tsv_rows(text: str) -> list[list[str]]:
    """Return the rows that `tsv_text` has written."""
    back = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
    whole = (line.split("\t") for line in text.split("\n") if line)
    return [[re.sub(r"\\[\\tnr]", lambda escape: back[escape[0]], field) for field in row] for row in whole]


_TSV = {ord("\\"): "\\\\", ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"}


def markdown(text: str) -> str:
    r"""Return text in one line that Markdown shows as it is, HTML included.

    Example:
        >>> markdown("<b>x</b> | *y*")
        '\\<b\\>x\\</b\\> \\| \\*y\\*'
    """
    return re.sub(r"([\\|*_<>&`\[\]#~])", r"\\\1", " ".join(one_line(part) for part in text.split("\n")))
