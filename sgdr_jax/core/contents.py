"""Digests of file contents. Names, sizes and times do not identify contents: unpacking an archive may set any times.

A file is read once, and recognised later by device, inode, size, mtime and ctime (which no program can set), unless it changed within the
seconds before it was read. `contents/KEY.npy` in the cache folder has a row for each file of a set.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import sealed
from .files import keep_newest, replacing
from .paths import cache_folder
from .threads import in_threads

_LIMIT = 256 << 20
_FRESH = 2 * 10**9  # Nanoseconds within which a second change could leave the time of the first, on file systems with coarse clocks.


def content_ids(paths: Sequence[str | os.PathLike[str]], largest: float = math.inf) -> list[str]:
    """Return the first sixteen hex digits of the SHA-256 of each file; "unread" for those that are missing or larger than `largest` bytes.

    Files are read in threads.
    """
    place = cache_folder() / "contents" / f"{_key(paths)}.npy"
    before = _known(place, len(paths))
    now = time.time_ns()
    rows = np.array(list(in_threads(lambda i: _status(paths[i]), range(len(paths)))), np.uint64).reshape(len(paths), -1)
    same = (
        (before[:, :5] == rows).all(axis=1)
        & (before[:, 5] != 0)
        & (before[:, 3:5].max(axis=1, initial=0) + np.uint64(_FRESH) < before[:, 6])
    )
    digests = np.where(same, before[:, 5], 0).astype(np.uint64)
    changed = np.flatnonzero(~same).tolist()
    for i, digest in zip(changed, in_threads(lambda i: _digest(paths[i], largest), changed), strict=True):
        digests[i] = digest
    if changed:
        read = np.where(same, before[:, 6], now).astype(np.uint64)
        with contextlib.suppress(OSError):  # With a full or read-only disk the next run reads them again.
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing(place) as file:
                sealed.write(file, place.stem, np.column_stack([rows, digests, read]))
            keep_newest(place.parent, _LIMIT)
    return [f"{digest:016x}" if digest else "unread" for digest in digests.tolist()]


def _key(paths: Sequence[str | os.PathLike[str]]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(os.path.abspath(path)) + b"\0")
    return digest.hexdigest()[:20]


def _known(place: Path, count: int) -> np.ndarray:
    """Return the recorded rows, uint64 [count, 7]: device, inode, size, mtime, ctime, digest, time of reading; zeros where unknown."""
    with contextlib.suppress(OSError, sealed.DamagedFile):
        rows = sealed.read(place, place.stem)
        if rows.shape == (count, 7) and rows.dtype == np.uint64:
            return rows
    return np.zeros((count, 7), np.uint64)


def _status(path: str | os.PathLike[str]) -> tuple[int, int, int, int, int]:
    try:
        s = os.stat(path)
    except OSError:
        return (0, 0, 0, 0, 0)
    numbers = (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
    return tuple(number % 2**64 for number in numbers)  # pyright: ignore[reportReturnType]


def _digest(path: str | os.PathLike[str], largest: float) -> int:
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > largest:
            return 0
        with open(path, "rb") as file:
            return int.from_bytes(hashlib.file_digest(file, "sha256").digest()[:8]) or 1
    except OSError:
        return 0
