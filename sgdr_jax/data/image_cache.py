"""Decoded images: cached on disk and shared by runs, held in memory, or decoded on each access.

    canvas/KEY/pixels        uint8 [n, side, side, channels], one image after the other
    canvas/KEY/digests       uint64 [n], of the pixels of each image (`pixels.digest`); 0 for one that cannot be read
    canvas/KEY/canvas.json   key, side, channels, the reasons of unreadable images, and the digest of the digests

KEY is a hash of the images' contents, the side and how they are made square. KEY.part is a folder under construction: an interrupted run
resumes it, and it is renamed when complete. The file lock KEY.lock admits one builder at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from ..core.experiment import Resize
from ..core.files import write_atomically
from ..core.paths import cache_folder
from ..core.sealed import checksum
from ..core.threads import in_threads
from . import decode
from .pixels import EncodedImages, LazyPixels, Pixels, StoredPixels, digest
from .placement import DISK_SHARE

_SAVE_SECONDS = 0.5
_TELL_SECONDS = 1.0


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


type DecodeTick = Callable[[int, Mapping[int, str]], None]
"""Progress callback: number of images done, and position to reason of the bad ones; may raise to stop."""


def folder() -> Path:
    """Return the folder of all canvases."""
    return cache_folder() / "canvas"


def key(ids: Sequence[str], side: int, channels: int | None, resize: Resize = "crop") -> str:
    """Return the cache key of images at a size, twenty hex digits; `channels` None: 1 if all are grey, else 3."""
    digest = hashlib.sha256(f"{decode.VERSION} {side} {channels} {len(ids)}{'' if resize == 'crop' else f' {resize}'}".encode())
    for text in ids:
        digest.update(b"\0" + os.fsencode(text))
    return digest.hexdigest()[:20]


def is_cached(items: EncodedImages, side: int, channels: int | None = None) -> bool:
    """Return whether the canvas of these images is on disk."""
    return _read(_place(items, side, channels), items, side) is not None


def _place(items: EncodedImages, side: int, channels: int | None) -> Path:
    """Return the folder of a canvas; requested channels may equal the native ones, which share a canvas."""
    native = folder() / key(items.ids, side, None, resize=items.resize)
    if channels and (canvas := _read(native, items, side)) and canvas.pixels.shape[3] == channels:
        return native
    return folder() / key(items.ids, side, channels, resize=items.resize)


def on_disk(
    items: EncodedImages, side: int, channels: int | None, tick: DecodeTick, wait: Callable[[str], None] = lambda text: None
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


def in_memory(items: EncodedImages, side: int, channels: int | None, tick: DecodeTick, keep: bool = True) -> DecodedImages:
    """Decode these images into an array; with `keep` unset decode all once to find unreadable ones, and again on each access."""
    deep = channels or _channels(items)
    n = len(items.names)
    digests, bad = np.zeros(n, np.uint64), {}
    pixels = np.empty((n if keep else 0, side, side, deep), np.uint8)

    def store(i: int, square: np.ndarray) -> None:
        if keep:
            pixels[i] = square

    told = time.monotonic()
    for i, got in enumerate(_decoded(items, range(n), side, deep, store)):
        _note(i, got, digests, bad)
        if i + 1 == n or (i + 1) % 64 == 0 or time.monotonic() - told > _TELL_SECONDS:
            tick(i + 1, bad)
            told = time.monotonic()
    return DecodedImages(pixels if keep else LazyPixels(items, side, deep, digests), digests, bad, False)


def _channels(items: EncodedImages) -> int:
    decode.ready()
    return 3 if any(in_threads(lambda i: decode.is_colour(lambda: items.get(i)), range(len(items.names)))) else 1


def _decoded(
    items: EncodedImages, positions: Sequence[int], side: int, channels: int, store: Callable[[int, np.ndarray], None]
) -> Iterator[int | str]:
    """Yield the digest of the pixels at each position, after passing them to `store`, or the reason of an unreadable image."""
    decode.ready()

    def work(i: int) -> int | str:
        square = decode.attempt(lambda: items.get(i), side, channels, items.resize)
        if isinstance(square, str):
            return square
        square = np.ascontiguousarray(square)
        store(i, square)
        return digest(square)

    return in_threads(work, positions)


def _note(i: int, got: int | str, digests: np.ndarray, bad: dict[int, str]) -> None:
    if isinstance(got, str):
        bad[i] = got
    else:
        digests[i] = got


def _make(part: Path, items: EncodedImages, side: int, channels: int | None, tick: DecodeTick) -> None:
    """Build or resume a canvas folder; an image is marked as done only after its pixels are flushed to disk."""
    n, about = len(items.names), part / "canvas.json"
    part.mkdir(exist_ok=True)
    deep = (_json(about) or {}).get("channels")
    if deep not in (1, 3):
        shutil.rmtree(part)  # new, or damaged
        part.mkdir()
        deep = channels or _channels(items)
        write_atomically(about, json.dumps({"side": side, "channels": deep}))
    size = side * side * deep
    with _reserved(part / "pixels", n * size) as pixels, _reserved(part / "digests", 8 * n) as marks:
        digests, bad = np.fromfile(part / "digests", np.uint64, n), {}
        todo = np.flatnonzero(digests == 0).tolist()
        done, saved = n - len(todo), time.monotonic()
        told = saved

        def save(marked: np.ndarray) -> None:
            os.utime(about)  # for `make_room`, which removes what nobody works at
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
                    if done == n or done % 64 == 0 or time.monotonic() - told > _TELL_SECONDS:
                        tick(done, bad)
                        told = time.monotonic()
                    if saving.done() and time.monotonic() - saved > _SAVE_SECONDS:
                        saving.result()
                        saving, saved = saver.submit(save, digests.copy()), time.monotonic()
            finally:
                saving.result()
                save(digests)
    facts = {
        "key": part.stem,
        "side": side,
        "channels": deep,
        "images": n,
        "bad": sorted(bad.items()),
        "digests": checksum(digests.data.cast("B")),
    }
    write_atomically(about, json.dumps(facts))


def _json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if there is none."""
    try:
        record = json.loads(path.read_text())
        return record if isinstance(record, dict) else None
    except (OSError, ValueError, RecursionError):
        return None


def _read(place: Path, items: EncodedImages, side: int) -> DecodedImages | None:
    """Open a complete canvas; return None if there is none, or an image that could not be read when it was made can be read now."""
    about = _json(place / "canvas.json") or {}
    try:
        n, shape = about["images"], (about["images"], side, side, about["channels"])
        digests = np.fromfile(place / "digests", np.uint64)
        bad = {int(i): str(reason) for i, reason in about["bad"]}
        if n != len(items.names) or len(digests) != n or (place / "pixels").stat().st_size != int(np.prod(shape)):
            return None
        if about["key"] != place.name or about["digests"] != checksum(digests.data.cast("B")):
            return None
        if sorted(bad) != np.flatnonzero(digests == 0).tolist() or _mended(items, bad, side, about["channels"]):
            return None
        with contextlib.suppress(OSError):  # owned by another user
            os.utime(place / "canvas.json")  # The least recently used are evicted first.
        return DecodedImages(StoredPixels(place / "pixels", shape, digests, items), digests, bad, True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mended(items: EncodedImages, bad: Iterable[int], side: int, channels: int) -> bool:
    """Return whether one of these images can be read after all: a failing disk or full memory passes, a decoder may be installed."""
    return any(isinstance(got, int) for got in _decoded(items, list(bad), side, channels, lambda *_: None))


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


def make_room(items: EncodedImages, side: int, channels: int | None, needed: int) -> int:
    """Evict the least recently used canvases until that of these images may be stored; none if all together would not make room.

    Runs that have one open can still read it. Unfinished ones of other images are removed after a week.

    Args:
        items: the images.
        side: in pixels.
        channels: as in `on_disk`.
        needed: bytes of the whole canvas.

    Returns:
        The bytes that an unfinished canvas of these images, which is gone on with, takes already.
    """
    own = _place(items, side, channels).with_suffix(".part")
    begun, canvases = min(_size(own), needed), []
    for about in folder().glob("*/canvas.json"):
        with contextlib.suppress(OSError):
            used = about.stat().st_mtime
            if about.parent != own and (about.parent.suffix != ".part" or time.time() - used >= 7 * 86400):
                canvases.append((used, about.parent))
    freed = sum(_size(place) for _, place in canvases)
    if not canvases or needed - begun > DISK_SHARE * (shutil.disk_usage(folder()).free + freed):
        return begun
    for _, place in sorted(canvases):
        if needed - begun <= DISK_SHARE * shutil.disk_usage(folder()).free:
            break
        shutil.rmtree(place, ignore_errors=True)
    return begun


def _size(place: Path) -> int:
    """Return the bytes that the files of a canvas take on disk."""
    size = 0
    for name in ("pixels", "digests"):
        with contextlib.suppress(OSError):
            size += (place / name).stat().st_blocks * 512
    return size
