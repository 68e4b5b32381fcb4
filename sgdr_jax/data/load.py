"""Loads an opened dataset: files are decoded once to square uint8 images, arrays are used as they are."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..core.console import NullConsole
from ..core.contents import content_ids
from ..core.errors import InputError
from ..core.experiment import Experiment, Resize
from ..core.machine import free_memory
from ..core.threads import in_threads
from ..core.types import Source
from ..datasets.examples import LazyItems, fingerprint, items_at, rates_at, strings_at
from ..datasets.labels import constant_notes, counts
from . import decode, image_cache
from .pixels import EncodedImages, Pixels, PixelSubset, digest
from .placement import Storage, choose_storage, free_disk

type Progress = Callable[[int, int], None]
"""Progress callback: numbers of images done and in total; called from the thread that called `load`."""


class Canvas(NamedTuple):
    """Form in which images are stored.

    Attributes:
        side: in pixels.
        resize: how they become square, as `Experiment.resize`.
        exact: whether a set of smaller arrays alone is enlarged to the side, too.
    """

    side: int
    resize: Resize = "crop"
    exact: bool = False


class Data(NamedTuple):
    """A dataset with decoded images.

    Attributes:
        classes: names of the classes, in label order.
        images: split to `Pixels`, uint8 [n, side, side, channels], with one side and 1 or 3 channels for all splits.
        labels: split to int32 [n], or float32 [n, classes] of zeros and ones for multi-label data.
        names: split to n strings.
        rates: average number of times that an epoch shows each training image, float64 [n]; None: once.
        bad: name and reason of each unreadable image, all of which were left out.
        storage: of the decoded images.
        storage_reason: storage and the reason for it, for the log.
        fingerprint: hex digest of source, side, channels, how images were made square, and those left out.
        source: fingerprint of the source.
        digests: split to uint64 [n], `pixels.digest` of each image.
    """

    classes: tuple[str, ...]
    images: Mapping[str, Pixels]
    labels: Mapping[str, np.ndarray]
    names: Mapping[str, tuple[str, ...]]
    rates: np.ndarray | None
    bad: tuple[tuple[str, str], ...]
    storage: Storage
    storage_reason: str
    fingerprint: str
    source: str
    digests: Mapping[str, np.ndarray]

    @property
    def multi_label(self) -> bool:
        """Whether examples can have several classes."""
        return self.labels["train"].ndim == 2

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.images["train"].shape[3]

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples in each split."""
        return {split: len(labels) for split, labels in self.labels.items()}

    @property
    def bytes(self) -> int:
        """Size of all decoded images."""
        return sum(math.prod(pixels.shape) for pixels in self.images.values())


class DecodedFiles(NamedTuple):
    """Decoded images of arbitrary files.

    Attributes:
        images: uint8 [m, side, side, channels], the readable ones.
        index: int64 [m], their positions among the given files.
        digests: uint64 [m], `pixels.digest` of each.
        bad: name and reason of each unreadable one.
    """

    images: np.ndarray
    index: np.ndarray
    digests: np.ndarray
    bad: tuple[tuple[str, str], ...]


def canvas_side(canvas: int | None, largest_size: int) -> int:
    """Return the side in pixels of stored images: `canvas`, or 1.15 times the largest training size, for random crops and zooms."""
    return canvas or math.ceil(1.15 * largest_size)


def load(
    source: Source,
    *,
    canvas: int | Canvas,
    channels: int | None = None,
    only: str | None = None,
    images: str = "auto",
    max_bad_share: float = 0.01,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Data:
    """Decode the files of a source, or reuse those decoded by an earlier run; the result does not depend on either, nor on threads.

    Files are decoded by `decode.attempt`. Arrays are made square alike, but resized only if they are larger than the canvas; training
    enlarges smaller ones.

    Args:
        source: an opened dataset.
        canvas: to store; a side alone to crop.
        channels: 1 or 3; None: 1 if all images are grey, else 3.
        only: the split to load; None: all.
        images: as `Experiment.images`.
        max_bad_share: share of all image files that may be unreadable, 0…1; such files are left out and listed in `Data.bad`.
        progress: progress callback for image files.
        say: called with messages about waiting.

    Raises:
        InputError: if more images are unreadable, or no image is left of a split or of a training class.
    """
    form = canvas if isinstance(canvas, Canvas) else Canvas(canvas)
    side, canvas, resize = _side(source, form), form.side, form.resize
    encoded = {split: items for split, items in source.items.items() if not isinstance(items, np.ndarray)}
    arrays = {split: items for split, items in source.items.items() if isinstance(items, np.ndarray)}
    if only:
        arrays = {split: items for split, items in arrays.items() if split == only}
        if encoded and not image_cache.is_cached(_items(source, encoded, resize)[0], canvas, channels):
            encoded = {split: items for split, items in encoded.items() if split == only}
    pixels: dict[str, Pixels] = {split: _from_array(items, side, channels, resize) for split, items in arrays.items()}
    readable = {split: np.arange(len(items)) for split, items in arrays.items()}
    digests = {split: _digests(pixels[split]) for split in arrays}
    bad, storage, reason = (), "memory", "arrays in memory"
    if encoded:
        items, rows = _items(source, encoded, resize)
        wanted = {int(i) for split, positions in rows.items() if only in (None, split) for i in positions}
        total = sum(len(items) for items in source.items.values() if not isinstance(items, np.ndarray))

        def tick(done: int, reasons: Mapping[int, str]) -> None:
            _check_bad([(items.names[i], reason) for i, reason in sorted(reasons.items()) if i in wanted], total, max_bad_share)
            if progress is not None:
                progress(done, len(items.names))

        decoded, storage, reason = _decoded(items, side, channels, images, tick, say)
        tick(len(items.names), decoded.bad)
        for split, positions in rows.items():
            readable[split] = np.flatnonzero(decoded.digests[positions])
            positions = positions[readable[split]]
            pixels[split], digests[split] = PixelSubset(decoded.pixels, positions), decoded.digests[positions]
        bad = tuple(sorted((items.names[i], why) for i, why in decoded.bad.items() if i in wanted))

    most_channels = max(part.shape[3] for part in pixels.values())
    splits = [split for split in source.items if split in pixels and only in (None, split)]
    labels = {split: source.labels[split][readable[split]] for split in splits}
    if bad:
        _check_left(source, labels)
    return Data(
        classes=tuple(source.classes),
        images={split: _with_channels(pixels[split], most_channels) for split in splits},
        labels=labels,
        names={split: strings_at(source.names[split], readable[split]) for split in splits},
        rates=_rates_left(source.rates, readable["train"]) if source.rates is not None and "train" in splits else None,
        bad=bad,
        storage=storage,
        storage_reason=reason,
        source=source.fingerprint,
        fingerprint=fingerprint(
            [source.fingerprint, side, most_channels, tuple(name for name, _ in bad), *([] if resize == "crop" else [resize])]
        ),
        digests={split: digests[split] for split in splits},
    )


def _side(source: Source, canvas: Canvas) -> int:
    """Return the side of the stored images whichever of them are loaded: of the canvas, or of smaller arrays if these are all."""
    arrays = [items.shape[1:3] for items in source.items.values() if isinstance(items, np.ndarray)]
    if canvas.exact or len(arrays) < len(source.items):
        return canvas.side
    return min(canvas.side, max(map(min if canvas.resize == "crop" else max, arrays)))


def _rates_left(rates: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the rates of the readable training images; those of all as they are, to the last bit."""
    return rates if len(rows) == len(rates) else rates_at(rates, rows)


SOME = "some"
"""Name of the split of `load_some`."""


def load_some(source: Source, index: list[int], canvas: int, channels: int | None = None, resize: Resize = "crop") -> Data:
    """Decode some of the training images, as the split "some"; unreadable ones are left out and listed in `Data.bad`.

    A split of another name than "train" may lose all images of a class.
    """
    items, names, ids = source.items["train"], source.names["train"], source.ids.get("train")
    some = source._replace(
        labels={SOME: source.labels["train"][index]},
        items={SOME: items_at(items, np.array(index, np.int64))},
        names={SOME: [names[i] for i in index]},
        ids={SOME: [ids[i] for i in index]} if ids else source.ids,
        rates=None,
    )
    return load(some, canvas=Canvas(_side(source, Canvas(canvas, resize)), resize, exact=True), channels=channels, max_bad_share=1)


def load_for(experiment: Experiment, source: Source, ui: NullConsole, max_bad_share: float | None = None) -> Data:
    """Load the data of an experiment, with a progress bar, and say what is not used of them."""
    for note in (*source.notes, *constant_notes(source.classes, source.labels)):
        ui.say(note)
    done = 0
    with ui.bar("decoding images", sum(source.sizes.values())) as tick:

        def progress(now: int, total: int) -> None:
            nonlocal done
            tick(now - done)
            done = now

        return load(
            source,
            canvas=Canvas(canvas_side(experiment.canvas, experiment.largest_size), experiment.resize),
            images=experiment.images,
            max_bad_share=experiment.max_bad_share if max_bad_share is None else max_bad_share,
            progress=progress,
            say=ui.say,
        )


def _with_channels(pixels: Pixels, channels: int) -> Pixels:
    return pixels if pixels.shape[3] == channels else np.repeat(pixels[:], channels, axis=3)


def _items(source: Source, encoded: Mapping[str, Sequence[decode.Encoded]], resize: Resize) -> tuple[EncodedImages, dict[str, np.ndarray]]:
    """Return the files of all splits in an order independent of the split, and the positions of each split in it."""
    refs = [(split, i) for split, items in encoded.items() for i in range(len(items))]
    ids = [text for split in encoded for text in source.ids[split]]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    names = [name for split in encoded for name in source.names[split]]
    known = [text for split, items in encoded.items() for text in _content_ids(items, source.ids[split])]

    def get(position: int) -> decode.Encoded:
        split, i = refs[order[position]]
        return encoded[split][i]

    ends = np.cumsum([len(items) for items in encoded.values()])[:-1]
    rows = dict(zip(encoded, np.split(place, ends), strict=True))
    return EncodedImages(get, *([column[i] for i in order] for column in (names, known)), resize=resize), rows


def _content_ids(items: Sequence[decode.Encoded], ids: Sequence[str]) -> Sequence[str]:
    """Return ids that change with the contents of the files that hold the items, whatever their names, sizes and times."""
    if isinstance(items, LazyItems):
        paths = items.files
        together = fingerprint(content_ids(paths))[:16] if paths else ""
        return [f"{text} {together}" for text in ids] if together else ids
    files = [item for item in items if isinstance(item, str | os.PathLike)]
    return content_ids(files, decode.MAX_BYTES) if len(files) == len(items) else ids


def _decoded(
    items: EncodedImages, side: int, channels: int | None, wanted: str, tick: image_cache.DecodeTick, say: Callable[[str], None]
) -> tuple[image_cache.DecodedImages, Storage, str]:
    needed = len(items.names) * side * side * (channels or 3)
    cached = image_cache.is_cached(items, side, channels)
    disk, begun = free_disk(image_cache.folder()), 0
    if not cached and disk and wanted != "decoded":
        begun = image_cache.make_room(items, side, channels, needed)
        disk = free_disk(image_cache.folder())
    storage, reason = choose_storage(wanted, needed, disk=disk, host=free_memory(), cached=cached, begun=begun)
    if storage == "disk":
        try:
            return image_cache.on_disk(items, side, channels, tick, say), storage, reason
        except OSError as error:  # A full or read-only disk must not fail the run.
            storage, reason = choose_storage(wanted, needed, disk=0, host=free_memory(), cached=False)
            reason = f"{reason} (the cache cannot be written: {error})"
    return image_cache.in_memory(items, side, channels, tick, keep=storage == "memory"), storage, reason


def decode_files(
    images: Sequence[decode.LazyEncoded], canvas: int, channels: int | None = None, first: int = 0, resize: Resize = "crop"
) -> DecodedFiles:
    """Decode images as `load` does, for prediction; unreadable ones are reported, not raised.

    Args:
        images: files, bytes or arrays, or functions that fetch them.
        canvas: side of the result in pixels.
        channels: of the result; None for as many as they have.
        first: number of the first image, by which those without a file are named.
        resize: as `Experiment.resize`.
    """
    names = [str(x) if isinstance(x, str | os.PathLike) else f"image {i}" for i, x in enumerate(images, first)]

    def get(position: int) -> decode.Encoded:
        image = images[position]
        return image() if callable(image) else image

    decoded = image_cache.in_memory(EncodedImages(get, names, names, resize=resize), canvas, channels, lambda done, bad: None)
    index = np.flatnonzero(decoded.digests)
    bad = tuple((names[i], reason) for i, reason in sorted(decoded.bad.items()))
    return DecodedFiles(decoded.pixels[index], index, decoded.digests[index], bad)


def tell_unreadable(bad: Sequence[tuple[str, str]], total: int, say: Callable[[str], None]) -> None:
    """Say which of so many image files could not be read, the first ten with the reason; nothing where there are none."""
    for name, reason in bad[:10]:
        say(f"left out {name}: {reason}")
    if bad:
        say(f"{len(bad)} of {total} image files could not be read and are left out")


def _check_bad(bad: list[tuple[str, str]], total: int, most: float) -> None:
    if len(bad) > most * total:
        shown = "; ".join(f"{name}: {reason}" for name, reason in bad[:3]) + ("; …" if len(bad) > 3 else "")
        raise InputError(
            f"{len(bad)} of {total} images cannot be read, max_bad_share is {most}; repair or remove them, or raise it ({shown})"
        )


def _check_left(source: Source, labels: Mapping[str, np.ndarray]) -> None:
    empty = ["the training images" if split == SOME else f"split {split!r}" for split, left in labels.items() if not len(left)]
    gone = []
    if "train" in labels:
        before, after = (counts(part["train"], len(source.classes)) for part in (source.labels, labels))
        gone = [f"class {name!r}" for name, had, has in zip(source.classes, before, after, strict=True) if had and not has]
    if empty or gone:
        raise InputError(f"no readable image is left of {', '.join(empty + gone[:5])}; repair or remove the broken ones")


def _digests(pixels: Pixels) -> np.ndarray:
    parts = (pixels[start : start + 256] for start in range(0, len(pixels), 256))
    return np.array([digest(square) for part in parts for square in part], np.uint64)


def _from_array(items: np.ndarray, side: int, channels: int | None, resize: Resize) -> np.ndarray:
    """Convert uint8 [n, h, w] or [n, h, w, c] to [n, side, side, c]; returns a view where possible."""
    items = items if items.ndim == 4 else items[..., None]
    height, width = items.shape[1:3]
    short = min(height, width)
    if short == side and (resize == "crop" or height == width) and (channels is None or channels >= items.shape[3]):
        top, left = (height - short) // 2, (width - short) // 2
        square = items[:, top : top + short, left : left + short]
        return square if channels in (None, items.shape[3]) else np.repeat(square, 3, axis=3)
    depth = channels or items.shape[3]
    out = np.empty((len(items), side, side, depth), np.uint8)

    def work(i: int) -> None:
        out[i] = decode.attempt(items[i], side, depth, resize)

    deque(in_threads(work, range(len(items))), 0)
    return out
