"""Arrays in files that notice damage: a .npy file, followed by digests of its blocks.

    the file as `numpy.save` writes it
    JSON                                  {"name", "header": bytes of the header, "blocks": digests of the header and of each block}
    24 hex digits                         length of the JSON (8) and its digest (16)

A file is used only if its name and every digest are right, so neither a flipped bit nor a file under another's name passes for data.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

_BLOCK = 1 << 22
_TAIL = 24


class DamagedFile(ValueError):
    """A file that differs from what was written; the message names the damaged part."""


def checksum(data: bytes | memoryview) -> int:
    """Return a 64-bit digest, never 0: the CRC-32 of the first and of the second half.

    It notices every burst of up to 32 wrong bits and others with a probability of 1 - 2^-32. Cryptographic hashes take two to four times
    as long.

    >>> hex(checksum(b"ab"))
    '0xe8b7be4371beeff9'
    """
    half = len(data) // 2
    return zlib.crc32(data[:half]) << 32 | zlib.crc32(data[half:]) or 1


def write(file: BinaryIO, name: str, array: np.ndarray) -> None:
    """Write an array.

    Args:
        file: empty, open for writing.
        name: of what is written; `read` asks for it.
        array: of any shape and dtype without Python objects.
    """
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    data = _bytes(array)
    file.write(header.getvalue())
    file.write(data)
    blocks = [checksum(header.getvalue()), *_checksums(data)]
    facts = json.dumps({"name": name, "header": len(header.getvalue()), "blocks": blocks}).encode()
    file.write(facts + _tail(len(facts), checksum(facts)))


def read(path: Path, name: str) -> np.ndarray:
    """Read an array and verify it.

    Raises:
        DamagedFile: if the file is not what `write` wrote under this name.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        facts, length = _facts(file, os.fstat(file.fileno()).st_size)
        if facts["name"] != name:
            raise DamagedFile(f"holds {facts['name']}")
        file.seek(0)
        header = file.read(facts["header"])
        if checksum(header) != facts["blocks"][0]:
            raise DamagedFile("its header is damaged")
        shape, _, dtype = np.lib.format.read_array_header_1_0(_after_magic(header))
        array = np.empty(shape, dtype)
        data = _bytes(array)
        if len(data) != length - len(header) or file.readinto(data) != len(data):
            raise DamagedFile("its length is wrong")
    wrong = sum(actual != wanted for actual, wanted in itertools.zip_longest(_checksums(data), facts["blocks"][1:]))
    if wrong:
        raise DamagedFile(f"{wrong} of its {len(facts['blocks']) - 1} blocks {'is' if wrong == 1 else 'are'} damaged")
    return array


def _facts(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return what is written after the array, verified, and the length of what is before it."""
    if size < _TAIL:
        raise DamagedFile("its end is missing")
    file.seek(size - _TAIL)
    tail = file.read(_TAIL)
    try:
        count, digest = int(tail[:8], 16), int(tail[8:], 16)
    except ValueError:
        count, digest = size, 0
    start = size - _TAIL - count
    if start < 0 or tail != _tail(count, digest):
        raise DamagedFile("its end is damaged")
    file.seek(start)
    text = file.read(count)
    if checksum(text) != digest:
        raise DamagedFile("its digests are damaged")
    return cast(dict[str, Any], json.loads(text)), start


def _tail(length: int, digest: int) -> bytes:
    return f"{length:08x}{digest:016x}".encode()


def _after_magic(header: bytes) -> io.BytesIO:
    file = io.BytesIO(header)
    np.lib.format.read_magic(file)
    return file


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _checksums(data: memoryview) -> list[int]:
    def block(start: int) -> int:
        return checksum(data[start : start + _BLOCK])

    with ThreadPoolExecutor() as pool:
        return list(pool.map(block, range(0, len(data), _BLOCK)))
