"""Decoded images: kept on disk for all runs that need the same, held in memory, or decoded anew each time.

    canvas/KEY/pixels        uint8 [n, side, side, channels], one image after the other
    canvas/KEY/digests       uint64 [n], of the pixels of each image (`digest`); 0 for one that cannot be read
    canvas/KEY/canvas.json   side, channels, and why images cannot be read

KEY is a hash of the images' identities and the side. A folder KEY.part is one that is being made: it is gone on with after an
interruption, and takes its name when it is complete. A file KEY.lock lets only one process at a time make it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..core.errors import InputError
from ..core.files import write_atomically
from ..core.paths import cache_folder
from . import decode

_SAVE_SECONDS = 0.5


class Pixels(Protocol):
    """Decoded images wherever they lie; an array uint8 [n, side, side, channels] is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, side, side, channels)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> np.ndarray: ...


class Stored:
    """Images in a canvas file, read when asked for; reading does not hold them in memory."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        where = np.arange(len(self))[index]
        out = np.empty((len(where), *self.shape[1:]), np.uint8)
        for row, i in zip(out, where.tolist(), strict=True):
            if os.preadv(self._file, [row.data], i * row.nbytes) != row.nbytes:
                raise InputError(f"the file of decoded images has lost image {i}; start again, and it is made anew")
        return out


class Undecoded:
    """Images that are decoded each time they are asked for; all have been decoded once before, so that they are known to be sound."""

    def __init__(self, get: Callable[[int], Any], names: Sequence[str], side: int, channels: int) -> None:
        self.shape = (len(names), side, side, channels)
        self._get, self._names = get, names

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        decode.ready()
        where = np.arange(len(self))[index]
        out = np.empty((len(where), *self.shape[1:]), np.uint8)
        for row, i in zip(out, where.tolist(), strict=True):
            square = decode.attempt(lambda i=i: self._get(i), *self.shape[2:])
            if isinstance(square, str):
                raise InputError(f"image {self._names[i]} could be read before but not now: {square}; put it back, or start again")
            row[...] = square
        return out


class Taken:
    """Some images of others, in any order."""

    def __init__(self, pixels: Pixels, where: np.ndarray) -> None:
        self.shape = (len(where), *pixels.shape[1:])
        self._pixels, self._where = pixels, where

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._pixels[self._where[index]]


class Canvas(NamedTuple):
    """The images of a set, decoded.

    Attributes:
        pixels: all of them; those of unreadable images mean nothing.
        digests: uint64 [n], of each image's pixels; 0 for unreadable ones.
        bad: position of an unreadable image to the reason.
        found: whether nothing had to be decoded.
    """

    pixels: Pixels
    digests: np.ndarray
    bad: Mapping[int, str]
    found: bool


class Items(NamedTuple):
    """The undecoded images of a set.

    Attributes:
        get: position to a path, bytes or an array; see `decode.attempt`.
        names: for messages.
        ids: strings that change with the images.
    """

    get: Callable[[int], Any]
    names: Sequence[str]
    ids: Sequence[str]


Tick = Callable[[int, Mapping[int, str]], None]
"""Told how many images are done and which of them are bad, from time to time; may raise to stop."""


def folder() -> Path:
    """Where the canvases are kept."""
    return cache_folder() / "canvas"


def key(ids: Sequence[str], side: int, channels: int | None) -> str:
    """Twenty hex digits for these images at this size; `channels` None: 1 where all are grey, else 3."""
    digest = hashlib.sha256(f"{decode.VERSION} {side} {channels} {len(ids)}".encode())
    for text in ids:
        digest.update(b"\0" + os.fsencode(text))
    return digest.hexdigest()[:20]


def is_kept(items: Items, side: int, channels: int | None = None) -> bool:
    """Whether the canvas of these images is on disk already."""
    return _read(_place(items, side, channels), items, side) is not None


def _place(items: Items, side: int, channels: int | None) -> Path:
    """The folder of a canvas. Channels that were asked for may be those that the images have by themselves."""
    own = folder() / key(items.ids, side, None)
    if channels and (canvas := _read(own, items, side)) and canvas.pixels.shape[3] == channels:
        return own
    return folder() / key(items.ids, side, channels)


def on_disk(items: Items, side: int, channels: int | None, tick: Tick, wait: Callable[[str], None] = lambda text: None) -> Canvas:
    """The canvas of these images from its file, made first where it is not there.

    Args:
        items: the images.
        side: in pixels.
        channels: 1 or 3; None: 1 where all images are grey, else 3.
        tick: told about images decoded.
        wait: told when another process is at it.

    Raises:
        OSError: when the file cannot be written.
    """
    place = _place(items, side, channels)
    if canvas := _read(place, items, side):
        return canvas
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_suffix(".lock"), wait):
        if canvas := _read(place, items, side):  # made by another process in the meantime
            return canvas
        shutil.rmtree(place, ignore_errors=True)  # damaged
        part = place.with_suffix(".part")
        _make(part, items, side, channels, tick)
        with contextlib.suppress(OSError):  # Without locks another process may have been faster.
            part.rename(place)
    canvas = _read(place, items, side)
    if canvas is None:
        raise OSError(f"{place} vanished as soon as it was made")
    return canvas._replace(found=False)


def in_memory(items: Items, side: int, channels: int | None, tick: Tick, keep: bool = True) -> Canvas:
    """The canvas of these images as an array; with `keep` unset all are decoded once to see which can be, and then each time anew."""
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
    return Canvas(pixels if keep else Undecoded(items.get, items.names, side, deep), digests, bad, False)


def _channels(items: Items) -> int:
    decode.ready()
    return 3 if any(decode.in_threads(lambda i: decode.is_colour(lambda: items.get(i)), range(len(items.names)))) else 1


def _decoded(
    items: Items, positions: Sequence[int], side: int, channels: int, store: Callable[[int, np.ndarray], None]
) -> Iterator[int | str]:
    """For each position the digest of its pixels, which are handed to `store`, or the reason why there are none."""
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
    """64 bits that tell an image's pixels from others', never 0: the CRC-32 of its upper and of its lower half.

    A cryptographic hash would take as long as a tenth of the decoding.
    """
    flat = np.ascontiguousarray(square).reshape(-1).data
    half = len(flat) // 2
    return zlib.crc32(flat[:half]) << 32 | zlib.crc32(flat[half:]) or 1


def _note(i: int, got: int | str, digests: np.ndarray, bad: dict[int, str]) -> None:
    if isinstance(got, str):
        bad[i] = got
    else:
        digests[i] = got


def _make(part: Path, items: Items, side: int, channels: int | None, tick: Tick) -> None:
    """Makes a canvas folder, or goes on with one. An image is marked as done only once its pixels are safe on the disk."""
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

        # Waiting for the disk is left to a thread of its own, so that decoding goes on meanwhile.
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


def _read(place: Path, items: Items, side: int) -> Canvas | None:
    """A canvas that is complete, or None."""
    try:
        about = json.loads((place / "canvas.json").read_text())
        n, shape = about["images"], (about["images"], side, side, about["channels"])
        digests = np.fromfile(place / "digests", np.uint64)
        if n != len(items.names) or len(digests) != n or (place / "pixels").stat().st_size != int(np.prod(shape)):
            return None
        with contextlib.suppress(OSError):  # a folder of somebody else's
            os.utime(place / "canvas.json")  # Canvases unused for longest are the first to make room.
        return Canvas(Stored(place / "pixels", shape), digests, {int(i): str(reason) for i, reason in about["bad"]}, True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _reserved(path: Path, size: int) -> Iterator[int]:
    """The descriptor of a file of `size` bytes; where the disk has no room for them this fails at once."""
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
    """Holds a lock on `path`; where the file system has none, two processes at worst do the same work."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait("another run is decoding the same images; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass
        yield


def make_room(needed: int) -> None:
    """Removes the canvases that went unused for longest, as far as the disk has no room for `needed` bytes, with a tenth to spare.

    Runs that have one open go on reading it. Unfinished ones are removed after a week.
    """
    kept = []
    for about in folder().glob("*/canvas.json"):
        with contextlib.suppress(OSError):
            kept.append((about.stat().st_mtime, about.parent))
    for used, place in sorted(kept):
        if place.suffix == ".part" and time.time() - used < 7 * 86400:
            continue
        if shutil.disk_usage(folder()).free >= needed * 1.1:
            return
        shutil.rmtree(place, ignore_errors=True)
