"""Decoded images: cached on disk and shared by runs, held in memory, or decoded on each access.

    canvas/KEY/pixels        uint8 [n, side, side, channels], one image after the other
    canvas/KEY/digests       uint64 [n], of the pixels of each image (`digest`); 0 for one that cannot be read
    canvas/KEY/canvas.json   side, channels, and the reasons of unreadable images

KEY is a hash of the images' identities and the side. KEY.part is a folder under construction: an interrupted run resumes it, and it is
renamed when complete. The file lock KEY.lock admits one builder at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import weakref
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from filelock import FileLock, Timeout

from ..core.errors import InputError
from ..core.files import write_atomically
from ..core.paths import cache_folder
from . import decode

_SAVE_SECONDS = 0.5

type Index = slice | np.ndarray
"""Positions of images: a slice, or an array of integers."""


class EncodedImages(NamedTuple):
    """The undecoded images of a set.

    Attributes:
        get: returns the image at a position; see `decode.attempt`.
        names: for messages.
        ids: change with the images' content.
    """

    get: Callable[[int], decode.Encoded]
    names: Sequence[str]
    ids: Sequence[str]


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
        for row, i in zip(out, positions.tolist(), strict=True):
            self._read(i, row)
        return out

    @abstractmethod
    def _read(self, i: int, row: np.ndarray) -> None: ...


class StoredPixels(_RowPixels):
    """Images in a cache file, read on access and never held in memory."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def _read(self, i: int, row: np.ndarray) -> None:
        if os.preadv(self._file, [row.data], i * row.nbytes) != row.nbytes:
            raise InputError(f"image {i} is missing from the cache file; start again to rebuild it")


class LazyPixels(_RowPixels):
    """Images decoded on each access; all were decoded once before, so they are known to be readable."""

    def __init__(self, items: EncodedImages, side: int, channels: int) -> None:
        super().__init__((len(items.names), side, side, channels))
        self._items = items

    def __getitem__(self, index: Index) -> np.ndarray:
        decode.ready()
        return super().__getitem__(index)

    def _read(self, i: int, row: np.ndarray) -> None:
        square = decode.attempt(lambda: self._items.get(i), *self.shape[2:])
        if isinstance(square, str):
            raise InputError(f"image {self._items.names[i]} could be read before but not now: {square}; restore it, or start again")
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


class DecodedImages(NamedTuple):
    """The decoded images of a set.

    Attributes:
        pixels: of all images; undefined for unreadable ones.
        digests: uint64 [n], of each image's pixels; 0 for unreadable ones.
        bad: position to reason, of unreadable images.
        cached: whether they were read from the cache.
    """

    pixels: Pixels
    digests: np.ndarray
    bad: Mapping[int, str]
    cached: bool


Tick = Callable[[int, Mapping[int, str]], None]
"""Progress callback: number of images done, and position to reason of the bad ones; may raise to stop."""


def folder() -> Path:
    """Return the folder of all canvases."""
    return cache_folder() / "canvas"


def key(ids: Sequence[str], side: int, channels: int | None) -> str:
    """Return the cache key of images at a size, twenty hex digits; `channels` None: 1 if all are grey, else 3."""
    digest = hashlib.sha256(f"{decode.VERSION} {side} {channels} {len(ids)}".encode())
    for text in ids:
        digest.update(b"\0" + os.fsencode(text))
    return digest.hexdigest()[:20]


def is_cached(items: EncodedImages, side: int, channels: int | None = None) -> bool:
    """Return whether the canvas of these images is on disk."""
    return _read(_place(items, side, channels), items, side) is not None


def _place(items: EncodedImages, side: int, channels: int | None) -> Path:
    """Return the folder of a canvas; requested channels may equal the native ones, which share a canvas."""
    native = folder() / key(items.ids, side, None)
    if channels and (canvas := _read(native, items, side)) and canvas.pixels.shape[3] == channels:
        return native
    return folder() / key(items.ids, side, channels)


def on_disk(
    items: EncodedImages, side: int, channels: int | None, tick: Tick, wait: Callable[[str], None] = lambda text: None
) -> DecodedImages:
    """Return the canvas of these images from the disk cache; decode and store them first if it is missing.

    Args:
        items: the images.
        side: in pixels.
        channels: 1 or 3; None: 1 if all images are grey, else 3.
        tick: progress callback.
        wait: called with a message when another process is building the same canvas.

    Raises:
        OSError: if the cache cannot be written.
    """
    place = _place(items, side, channels)
    if canvas := _read(place, items, side):
        return canvas
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_suffix(".lock"), wait):
        if canvas := _read(place, items, side):  # built by another process in the meantime
            return canvas
        shutil.rmtree(place, ignore_errors=True)  # damaged
        part = place.with_suffix(".part")
        _make(part, items, side, channels, tick)
        with contextlib.suppress(OSError):  # Without locks another process may have been faster.
            part.rename(place)
    canvas = _read(place, items, side)
    if canvas is None:
        raise OSError(f"{place} vanished as soon as it was made")
    return canvas._replace(cached=False)


def in_memory(items: EncodedImages, side: int, channels: int | None, tick: Tick, keep: bool = True) -> DecodedImages:
    """Decode these images into an array; with `keep` unset decode all once to find unreadable ones, and again on each access."""
    deep = channels or _channels(items)
    n = len(items.names)
    digests, bad = np.zeros(n, np.uint64), {}
    pixels = np.empty((n if keep else 0, side, side, deep), np.uint8)

    def store(i: int, square: np.ndarray) -> None:
        if keep:
            pixels[i] = square

    for i, got in enumerate(_decoded(items, range(n), side, deep, store)):
        _note(i, got, digests, bad)
        if i + 1 == n or (i + 1) % 64 == 0:
            tick(i + 1, bad)
    return DecodedImages(pixels if keep else LazyPixels(items, side, deep), digests, bad, False)


def _channels(items: EncodedImages) -> int:
    decode.ready()
    return 3 if any(decode.in_threads(lambda i: decode.is_colour(lambda: items.get(i)), range(len(items.names)))) else 1


def _decoded(
    items: EncodedImages, positions: Sequence[int], side: int, channels: int, store: Callable[[int, np.ndarray], None]
) -> Iterator[int | str]:
    """Yield the digest of the pixels at each position, after passing them to `store`, or the reason of an unreadable image."""
    decode.ready()

    def work(i: int) -> int | str:
        square = decode.attempt(lambda: items.get(i), side, channels)
        if isinstance(square, str):
            return square
        square = np.ascontiguousarray(square)
        store(i, square)
        return digest(square)

    return decode.in_threads(work, positions)


def digest(square: np.ndarray) -> int:
    """Return a 64-bit digest of an image's pixels, never 0: the CRC-32 of its upper and of its lower half.

    A cryptographic hash would take a tenth of the decoding time.
    """
    flat = np.ascontiguousarray(square).reshape(-1).data
    half = len(flat) // 2
    return zlib.crc32(flat[:half]) << 32 | zlib.crc32(flat[half:]) or 1


def _note(i: int, got: int | str, digests: np.ndarray, bad: dict[int, str]) -> None:
    if isinstance(got, str):
        bad[i] = got
    else:
        digests[i] = got


def _make(part: Path, items: EncodedImages, side: int, channels: int | None, tick: Tick) -> None:
    """Build or resume a canvas folder; an image is marked as done only after its pixels are flushed to disk."""
    n, about = len(items.names), part / "canvas.json"
    part.mkdir(exist_ok=True)
    if not about.is_file():
        write_atomically(about, json.dumps({"side": side, "channels": channels or _channels(items)}))
    deep = json.loads(about.read_text())["channels"]
    size = side * side * deep
    with _reserved(part / "pixels", n * size) as pixels, _reserved(part / "digests", 8 * n) as marks:
        digests, bad = np.fromfile(part / "digests", np.uint64, n), {}
        todo = np.flatnonzero(digests == 0).tolist()
        done, saved = n - len(todo), time.monotonic()

        def save(marked: np.ndarray) -> None:
            os.fsync(pixels)
            _write_at(marks, marked, 0)
            os.fsync(marks)

        # A separate thread waits for the disk, so that decoding continues meanwhile.
        with ThreadPoolExecutor(1) as saver:
            saving = saver.submit(save, digests.copy())
            try:
                got = _decoded(items, todo, side, deep, lambda i, square: _write_at(pixels, square, i * size))
                for i, result in zip(todo, got, strict=True):
                    _note(i, result, digests, bad)
                    done += 1
                    if done == n or done % 64 == 0:
                        tick(done, bad)
                    if saving.done() and time.monotonic() - saved > _SAVE_SECONDS:
                        saving.result()
                        saving, saved = saver.submit(save, digests.copy()), time.monotonic()
            finally:
                saving.result()
                save(digests)
    write_atomically(about, json.dumps({"side": side, "channels": deep, "images": n, "bad": sorted(bad.items())}))


def _read(place: Path, items: EncodedImages, side: int) -> DecodedImages | None:
    """Open a complete canvas; return None if there is none."""
    try:
        about = json.loads((place / "canvas.json").read_text())
        n, shape = about["images"], (about["images"], side, side, about["channels"])
        digests = np.fromfile(place / "digests", np.uint64)
        if n != len(items.names) or len(digests) != n or (place / "pixels").stat().st_size != int(np.prod(shape)):
            return None
        with contextlib.suppress(OSError):  # owned by another user
            os.utime(place / "canvas.json")  # The least recently used are evicted first.
        return DecodedImages(StoredPixels(place / "pixels", shape), digests, {int(i): str(reason) for i, reason in about["bad"]}, True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _reserved(path: Path, size: int) -> Iterator[int]:
    """Open a file of `size` bytes and yield its descriptor; fail at once if the disk lacks room."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(file, 0, size)
        os.truncate(file, size)
        yield file
    finally:
        os.close(file)


def _write_at(file: int, array: np.ndarray, offset: int) -> None:
    rest = array.reshape(-1).view(np.uint8).data
    while len(rest):
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


@contextlib.contextmanager
def _locked(path: Path, wait: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock on `path`; on file systems without locks two processes may do the same work."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        wait("another run is decoding the same images; waiting for it")
        lock.acquire()
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()


def make_room(needed: int) -> None:
    """Evict the least recently used canvases until the disk has room for `needed` bytes plus a tenth.

    Runs that have one open can still read it. Unfinished ones are removed after a week.
    """
    canvases = []
    for about in folder().glob("*/canvas.json"):
        with contextlib.suppress(OSError):
            canvases.append((about.stat().st_mtime, about.parent))
    for used, place in sorted(canvases):
        if place.suffix == ".part" and time.time() - used < 7 * 86400:
            continue
        if shutil.disk_usage(folder()).free >= needed * 1.1:
            return
        shutil.rmtree(place, ignore_errors=True)
