"""Files that are replaced as a whole, flushed to the disk, and kept within a limit."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from .validation import require


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file as a whole: after a crash it holds the old content or the new, never a part.

    Args:
        path: file to write; its folder must exist.
        content: text is encoded as UTF-8.

    Example:
        >>> write_atomically(getfixture("tmp_path") / "a", "text")
        >>> (getfixture("tmp_path") / "a").read_text()
        'text'
    """
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_output(path: Path, content: str | bytes) -> None:
    """Write a file that was asked for, whole or not at all. Devices and pipes are written to, where a link leads its target is replaced.

    Args:
        path: file to write; its folder must exist.
        content: text is encoded as UTF-8; bytes of file names that are not, as they are.
    """
    content = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(content)
    else:
        write_atomically(path.resolve(), content)


@contextlib.contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a temporary file beside `path`, which replaces it when the block ends without an error and is removed otherwise.

    File and folder are flushed to the disk, so that not even a power failure leaves a part. Of concurrent writers the last wins.
    """
    # Not tempfile, whose files only their owner may read; hidden, so that listings of the folder skip one that a kill left behind.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in FULL:
            raise OSError(error.errno, f"{error.strerror}; free some, then repeat the command", str(path)) from error
        raise
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk without room: full, over the quota, or over the limit of a file's size."""


def is_full(error: Exception) -> bool:
    """Return whether an error means a disk without room; libraries in C++ tell it in their text alone."""
    code = getattr(error, "errno", None)
    return code in FULL or any(os.strerror(number) in str(error) for number in FULL)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise InputError where the disk of a folder has no room for `needed` bytes of `what`."""
    free = shutil.disk_usage(folder).free
    fix = f"{what} needs {needed:,} bytes; free some, then repeat the command with --resume"
    require(free >= needed, f"free space of {folder}", f"{free:,} bytes", fix)


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, so that files that were made, renamed or removed in it survive a power failure."""
    with contextlib.suppress(OSError):  # Some network file systems cannot flush a folder.
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def flush_tree(path: Path) -> None:
    """Flush all files and folders below a folder, and itself, to the disk."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            file = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        flush_folder(Path(folder))


def keep_newest(folder: Path, limit: int) -> None:
    """Remove the files of a folder that were changed longest ago until the rest fits into `limit` bytes; none that is still written.

    A file above the limit goes alone. Hidden files are parts that are being written, or have been left behind if they are a day old.
    """
    files = list[tuple[float, int, Path]]()
    for file in folder.glob("*"):
        with contextlib.suppress(OSError):  # removed or renamed by another process in this moment
            status = file.lstat()
            if stat.S_ISREG(status.st_mode) and (file.name[0] != "." or time.time() - status.st_mtime > 86_400):
                files.append((status.st_mtime, status.st_size, file))
    total = 0
    for _, size, file in sorted(files, reverse=True):
        if total + size > limit:
            file.unlink(missing_ok=True)
        else:
            total += size
