"""Decoded images wherever they are: in a cache file, in memory, or decoded on each access. All are indexed alike."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ..core.errors import InputError
from ..core.experiment import Resize
from ..core.sealed import checksum
from ..core.threads import in_threads
from . import decode

_log = logging.getLogger(__name__)

_MANY = 1024  # Images from which threads read faster than one; batches are read in threads anyway.

type Index = slice | np.ndarray
"""Positions of images: a slice, or an array of integers."""


class EncodedImages(NamedTuple):
    """The undecoded images of a set.

    Attributes:
        get: returns the image at a position; see `decode.attempt`.
        names: for messages.
        ids: change with the images' content.
        resize: how they are made square, see `Experiment.resize`.
    """

    get: Callable[[int], decode.Encoded]
    names: Sequence[str]
    ids: Sequence[str]
    resize: Resize = "crop"


class Pixels(Protocol):
    """Decoded images wherever they are stored; an array uint8 [n, side, side, channels] conforms."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, side, side, channels)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Index, /) -> np.ndarray: ...


class _RowPixels(ABC):
    """Images that are read one by one when indexed."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> np.ndarray:
        positions = np.arange(len(self))[index]
        out = np.empty((len(positions), *self.shape[1:]), np.uint8)

        def read(k: int) -> None:
            self._read(int(positions[k]), out[k])

        deque(in_threads(read, range(len(out))) if len(out) >= _MANY else map(read, range(len(out))), 0)
        return out

    @abstractmethod
    def _read(self, i: int, row: np.ndarray) -> None: ...


class StoredPixels(_RowPixels):
    """Images in a cache file, read on access and never held in memory.

    Each is compared with its digest whenever it is read. When one is damaged all are verified, and those that are damaged are decoded
    anew and stored, which is logged in one line.

    Args:
        path: file with one image after the other.
        shape: (n, side, side, channels).
        digests: uint64 [n], of each image; 0 for images that are not there.
        items: where the images came from.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], digests: np.ndarray, items: EncodedImages) -> None:
        super().__init__(shape)
        self._path, self._digests, self._items = path, digests, items
        self._file = os.open(path, os.O_RDONLY)
        self._mending, self._mended = threading.Lock(), dict[int, np.ndarray]()
        weakref.finalize(self, os.close, self._file)

    def _read(self, i: int, row: np.ndarray) -> None:
        if not self._intact(i, row):
            with self._mending:
                if not self._intact(i, row):  # Another thread may have mended it.
                    self._mend()
                    if not self._intact(i, row):
                        raise InputError(f"{self._path} cannot be read as it was written; check the disk of the cache, then start again")

    def _intact(self, i: int, row: np.ndarray) -> bool:
        """Read an image and tell whether it is what was stored."""
        if i in self._mended:
            row[...] = self._mended[i]
        else:
            data = memoryview(row.reshape(-1))
            if os.preadv(self._file, [data], i * row.nbytes) != row.nbytes:
                return False
        return not self._digests[i] or digest(row) == self._digests[i]

    def _mend(self) -> None:
        """Verify all images; decode damaged ones anew, and store them, or keep them in memory if the file cannot be written."""
        rows = np.empty(self.shape[1:], np.uint8)
        wrong = [i for i in range(len(self)) if not self._intact(i, rows)]
        names = ", ".join(repr(self._items.names[i]) for i in wrong[:3]) + ("…" if len(wrong) > 3 else "")
        _log.warning("%d of %d cached images were damaged (%s) in %s; decoded anew", len(wrong), len(self), names, self._path)
        decode.ready()
        squares = in_threads(self._decode, wrong)
        try:
            with self._path.open("r+b", buffering=0) as file:
                for i, square in zip(wrong, squares, strict=True):
                    file.seek(i * square.nbytes)
                    file.write(square.data)
                os.fsync(file.fileno())
        except OSError:
            self._mended |= {i: self._decode(i) for i in wrong}

    def _decode(self, i: int) -> np.ndarray:
        square = decode.attempt(lambda: self._items.get(i), self.shape[2], self.shape[3], self._items.resize)
        if isinstance(square, str) or digest(square) != self._digests[i]:
            why = square if isinstance(square, str) else "its pixels are others now"
            with contextlib.suppress(OSError):
                self._path.unlink()  # The next run decodes all images.
            raise InputError(f"image {self._items.names[i]} is damaged in the cache and cannot be decoded again: {why}; start again")
        return np.ascontiguousarray(square)


class LazyPixels(_RowPixels):
    """Images decoded on each access; all were decoded once before, so they are known to be readable.

    Reading one that has changed since raises InputError.

    Args:
        items: where the images come from.
        side: in pixels.
        channels: 1 or 3.
        digests: uint64 [n], of each image as first decoded; 0 for images that cannot be read.
    """

    def __init__(self, items: EncodedImages, side: int, channels: int, digests: np.ndarray) -> None:
        super().__init__((len(items.names), side, side, channels))
        self._items, self._digests = items, digests

    def __getitem__(self, index: Index) -> np.ndarray:
        decode.ready()
        return super().__getitem__(index)

    def _read(self, i: int, row: np.ndarray) -> None:
        square = decode.attempt(lambda: self._items.get(i), self.shape[2], self.shape[3], self._items.resize)
        if isinstance(square, str):
            raise InputError(f"image {self._items.names[i]} could be read before but not now: {square}; restore it, or start again")
        if self._digests[i] and digest(square) != self._digests[i]:
            raise InputError(f"image {self._items.names[i]} has other pixels than when the run began; restore it, or start again")
        row[...] = square


class PixelSubset:
    """A selection of other pixels, in any order."""

    def __init__(self, pixels: Pixels, positions: np.ndarray) -> None:
        self.shape = (len(positions), *pixels.shape[1:])
        self._pixels, self._positions = pixels, positions

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> np.ndarray:
        return self._pixels[self._positions[index]]


def digest(square: np.ndarray) -> int:
    """Return a 64-bit digest of an image's pixels, never 0; see `sealed.checksum`."""
    return checksum(np.ascontiguousarray(square).reshape(-1).data)
