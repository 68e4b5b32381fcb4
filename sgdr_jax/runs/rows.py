"""Rows of a run in metrics.jsonl: one JSON object a line, in the order of time, each with its number.

A row that is lost is noticed by the number of the next one. Rows that are changed, or lost at the end, are noticed by the digest that a
checkpoint records.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ..core.errors import InputError
from ..core.files import write_atomically
from ..core.json_files import parse_json
from .records import Row

_NUMBER = "row"


def plain(value: Any) -> Any:
    """Return a value as JSON data: NumPy and jax arrays become lists and numbers, numbers that are not finite None.

    Bytes of names that are not UTF-8 are written as in Python: "\\udcff".
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (str, Path)):
        return str(value).encode(errors="backslashreplace").decode()
    return value


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file, without their numbers; an incomplete last line, which a kill leaves, is ignored.

    Rows of early versions have no number. Raises InputError where a line is damaged, or one before it is lost.
    """
    rows: list[Row] = []
    numbered = False
    for place, line in enumerate(_lines(path)):
        try:
            row = cast(dict[str, Any], parse_json(line, Row, whole=False))
        except ValueError as error:
            reason = f"it is damaged ({error}), restore it or use another run folder"
            raise InputError(f"{path} line {place + 1} is {line[:60]!r}; {reason}") from error
        number = row.pop(_NUMBER, None)
        numbered = numbered or number is not None
        if numbered and number != place:
            raise InputError(
                f"{path} line {place + 1} has number {number}, not {place}: rows are lost; restore them or use another run folder"
            )
        rows.append(cast(Row, row))
    return rows


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


class RowFile:
    """The rows of a run that is being written; a process that dies loses none of them.

    Args:
        path: the file; its folder must exist. An incomplete last line is cut off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        lines = _lines(self._path)
        whole = sum(len(line) + 1 for line in lines)
        if self._path.exists() and self._path.stat().st_size > whole:
            os.truncate(self._path, whole)
        self._count, self._size, self._digest = len(lines), whole, _digest(lines)
        # Without a buffer, which would write a row that failed once more when the file is closed.
        self._file = self._path.open("ab", buffering=0)

    def append(self, row: Row) -> None:
        """Append one row. Raises OSError with the path where there is no room; the file then has the rows before it."""
        numbered = plain(row) | {_NUMBER: self._count}
        line = json.dumps(numbered, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._size)
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._digest.update(line)
        self._count, self._size = self._count + 1, self._size + len(line)

    def mark(self) -> tuple[int, str]:
        """Flush all rows to the disk; return how many there are and their digest."""
        os.fsync(self._file.fileno())
        return self._count, self._digest.hexdigest()

    def holds(self, count: int, digest: str) -> bool:
        """Return whether the file begins with the rows that `mark` described."""
        lines = _lines(self._path)[:count]
        return len(lines) == count and _digest(lines).hexdigest() == digest

    def truncate(self, count: int) -> int:
        """Drop all rows but the first `count`; return how many."""
        lines = _lines(self._path)
        if len(lines) > count:
            self._file.close()
            write_atomically(self._path, b"".join(line + b"\n" for line in lines[:count]))
            self._open()
        return max(len(lines) - count, 0)

    def truncate_after(self, stage: str, step: int) -> int:
        """Drop the rows of everything that happened after `step` updates of `stage`; return how many.

        Keeps what was written before the stage began, of the stage itself training rows with a smaller `step` and other rows up to
        `step`, and nothing of later stages. For checkpoints of early versions, which do not record the number of rows.
        """
        rows = self.rows()
        own = next((i for i, row in enumerate(rows) if row.get("stage") == stage), len(rows))

        def kept(row: Row) -> bool:
            at = row.get("step", 0)
            return row.get("stage", stage) == stage and (at < step if row.get("kind") == "train" else at <= step)

        return self.truncate(own + len(list(itertools.takewhile(kept, rows[own:]))))

    def rows(self) -> list[Row]:
        """Return the rows so far."""
        return read_rows(self._path)

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._file.close()


def _digest(lines: list[bytes]) -> hashlib.blake2b:
    digest = hashlib.blake2b(digest_size=16)
    for line in lines:
        digest.update(line + b"\n")
    return digest
