"""From an opened dataset to decoded images: files decoded once to square uint8 images, arrays as they are."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.console import NullConsole
from ..core.errors import InputError
from ..core.experiment import Experiment
from ..core.machine import free_memory
from ..core.types import Source
from ..datasets.labels import counts
from ..datasets.splits import fingerprint, take
from . import decode as decoder
from . import image_cache as canvases
from .image_cache import Items, Pixels, Taken
from .placement import Kept, free_disk, storage

Progress = Callable[[int, int], None]
"""Called with the numbers of images done and in all, from the thread that called `load`."""


class Data(NamedTuple):
    """A dataset ready to be drawn from.

    Attributes:
        classes: names of the classes, in label order.
        images: split to `canvas.Pixels`, uint8 [n, side, side, channels], with one side and 1 or 3 channels for all splits.
        labels: split to int32 [n], or float32 [n, classes] of zeros and ones for multi-label data.
        names: split to n strings.
        rates: how many times an epoch shows each training image on average, float64 [n]; None: each once.
        bad: name and reason of each image that could not be read and was left out.
        kept: where decoded images are kept.
        why: where they are and why, in words.
        fingerprint: hex digest that changes with the source, the side, the channels and what was left out.
        source: the source's own.
        digests: split to uint64 [n], of each image's pixels, as far as they are known.
    """

    classes: tuple[str, ...]
    images: Mapping[str, Pixels]
    labels: Mapping[str, np.ndarray]
    names: Mapping[str, tuple[str, ...]]
    rates: np.ndarray | None
    bad: tuple[tuple[str, str], ...]
    kept: Kept
    why: str
    fingerprint: str
    source: str
    digests: Mapping[str, np.ndarray]

    @property
    def multi_label(self) -> bool:
        """Whether an example can have several classes."""
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


class Decoded(NamedTuple):
    """Images of arbitrary files.

    Attributes:
        images: uint8 [m, side, side, channels], those that could be read.
        index: int64 [m], their positions among the files given.
        bad: name and reason of each of the others.
    """

    images: np.ndarray
    index: np.ndarray
    bad: tuple[tuple[str, str], ...]


def canvas_side(canvas: int | None, largest_size: int) -> int:
    """Side in pixels at which images are stored: as asked, or 1.15 times the largest that is trained on, for random crops and zooms."""
    return canvas or math.ceil(1.15 * largest_size)


def load(
    source: Source,
    *,
    canvas: int,
    channels: int | None = None,
    only: str | None = None,
    images: str = "auto",
    max_bad_share: float = 0.01,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Data:
    """Decodes the files of a source once, or finds them decoded by an earlier run; nothing depends on threads or on which it was.

    Files are decoded by `decode.attempt`. Arrays are cropped to their middle square and resized only when that is larger than the
    canvas: enlarging is left to training.

    Args:
        source: an opened dataset.
        canvas: side in pixels to store.
        channels: 1 or 3; None: 1 where all images are grey, else 3.
        only: the one split that is wanted; None: all.
        images: as `Experiment.images`.
        max_bad_share: share of image files that may be unreadable, 0…1; such files are left out and reported in `Data.bad`.
        progress: is told about image files done and in all.
        say: is told what takes time.

    Raises:
        InputError: more images are unreadable, or none of a split or of a training class is left.
    """
    encoded = {split: items for split, items in source.items.items() if not isinstance(items, np.ndarray)}
    arrays = {split: items for split, items in source.items.items() if isinstance(items, np.ndarray)}
    if only:
        arrays = {split: items for split, items in arrays.items() if split == only}
        if encoded and not canvases.is_kept(_items(source, encoded)[0], canvas, channels):
            encoded = {split: items for split, items in encoded.items() if split == only}
    side = canvas if encoded else min(canvas, max(min(items.shape[1:3]) for items in arrays.values()))
    found: dict[str, Pixels] = {split: _from_array(items, side, channels) for split, items in arrays.items()}
    kept = {split: np.arange(len(items)) for split, items in arrays.items()}
    digests, bad, how, why = {}, (), "memory", "arrays in memory"
    if encoded:
        items, rows = _items(source, encoded)

        def tick(done: int, reasons: Mapping[int, str]) -> None:
            _check_bad([(items.names[i], reason) for i, reason in sorted(reasons.items())], len(items.names), max_bad_share)
            if progress is not None:
                progress(done, len(items.names))

        made, how, why = _canvas(items, side, channels, images, tick, say)
        tick(len(items.names), made.bad)
        for split, where in rows.items():
            kept[split] = np.flatnonzero(made.digests[where])
            found[split], digests[split] = Taken(made.pixels, where[kept[split]]), made.digests[where[kept[split]]]
        mine = {int(i) for where in rows.values() for i in where}
        bad = tuple((items.names[i], reason) for i, reason in sorted(made.bad.items(), key=lambda pair: items.names[pair[0]]) if i in mine)

    deepest = max(part.shape[3] for part in found.values())
    splits = [split for split in source.items if split in found and only in (None, split)]
    labels = {split: source.labels[split][kept[split]] for split in splits}
    if bad:
        _check_left(source, labels)
    return Data(
        classes=tuple(source.classes),
        images={split: _deep(found[split], deepest) for split in splits},
        labels=labels,
        names={split: take(tuple(source.names[split]), kept[split]) for split in splits},
        rates=source.rates[kept["train"]] if source.rates is not None and "train" in splits else None,
        bad=bad,
        kept=how,
        why=why,
        source=source.fingerprint,
        fingerprint=fingerprint([source.fingerprint, side, deepest, tuple(name for name, _ in bad)]),
        digests=digests,
    )


def load_some(source: Source, index: list[int], canvas: int, channels: int | None = None) -> Data:
    """Some of the training images, as the split "some": as another split, since in training images a class of which none can be read is an
    error. Those that cannot be read are left out and reported in `Data.bad`."""
    items, names, ids = source.items["train"], source.names["train"], source.ids.get("train")
    some = source._replace(
        labels={"some": source.labels["train"][index]},
        items={"some": items[index] if isinstance(items, np.ndarray) else [items[i] for i in index]},
        names={"some": [names[i] for i in index]},
        ids={"some": [ids[i] for i in index]} if ids else source.ids,
        rates=None,
    )
    return load(some, canvas=canvas, channels=channels, max_bad_share=1)


def load_for(experiment: Experiment, source: Source, largest_size: int, ui: NullConsole, max_bad_share: float | None = None) -> Data:
    """`load` as an experiment wants it, with a progress bar."""
    done = 0
    with ui.bar("decoding images", sum(source.sizes.values())) as tick:

        def progress(now: int, total: int) -> None:
            nonlocal done
            tick(now - done)
            done = now

        return load(
            source,
            canvas=canvas_side(experiment.canvas, largest_size),
            images=experiment.images,
            max_bad_share=experiment.max_bad_share if max_bad_share is None else max_bad_share,
            progress=progress,
            say=ui.say,
        )


def _deep(pixels: Pixels, channels: int) -> Pixels:
    return pixels if pixels.shape[3] == channels else np.repeat(pixels[:], channels, axis=3)


def _items(source: Source, encoded: Mapping[str, Any]) -> tuple[Items, dict[str, np.ndarray]]:
    """The files of all splits in an order that does not depend on how they are split, and each split's positions in it."""
    refs = [(split, i) for split, items in encoded.items() for i in range(len(items))]
    ids = [text for split in encoded for text in source.ids[split]]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    names = [name for split in encoded for name in source.names[split]]

    def get(position: int) -> Any:
        split, i = refs[order[position]]
        return encoded[split][i]

    ends = np.cumsum([len(items) for items in encoded.values()])[:-1]
    rows = dict(zip(encoded, np.split(place, ends), strict=True))
    return Items(get, [names[i] for i in order], [ids[i] for i in order]), rows


def _canvas(
    items: Items, side: int, channels: int | None, wanted: str, tick: canvases.Tick, say: Callable[[str], None]
) -> tuple[canvases.Canvas, Kept, str]:
    needed = len(items.names) * side * side * (channels or 3)
    found = canvases.is_kept(items, side, channels)
    disk = free_disk(canvases.folder())
    if not found and disk and wanted != "decoded":
        canvases.make_room(needed)
        disk = free_disk(canvases.folder())
    how, why = storage(wanted, needed, disk=disk, host=free_memory(), found=found)
    if how == "disk":
        try:
            return canvases.on_disk(items, side, channels, tick, say), how, why
        except OSError as error:  # a full or forbidden disk costs the next run some time, not this run its result
            how, why = storage(wanted, needed, disk=0, host=free_memory(), found=False)
            why = f"{why} (the cache cannot be written: {error})"
    return canvases.in_memory(items, side, channels, tick, keep=how == "memory"), how, why


def decode(paths: Sequence[Any], canvas: int, channels: int | None = None) -> Decoded:
    """Image files (or encoded images as bytes) as `load` decodes them, for prediction. Unreadable ones are reported, never raised."""
    names = [f"image {i}" if isinstance(path, bytes) else str(path) for i, path in enumerate(paths)]
    made = canvases.in_memory(Items(paths.__getitem__, names, names), canvas, channels, lambda done, bad: None)
    index = np.flatnonzero(made.digests)
    return Decoded(made.pixels[index], index, tuple((names[i], reason) for i, reason in sorted(made.bad.items())))


def _check_bad(bad: list[tuple[str, str]], total: int, most: float) -> None:
    if len(bad) > most * total:
        shown = "; ".join(f"{name}: {reason}" for name, reason in bad[:3]) + ("; …" if len(bad) > 3 else "")
        raise InputError(
            f"{len(bad)} of {total} images cannot be read, max_bad_share is {most}; repair or remove them, or raise it ({shown})"
        )


def _check_left(source: Source, labels: Mapping[str, np.ndarray]) -> None:
    empty = [f"split {split!r}" for split, left in labels.items() if not len(left)]
    gone = []
    if "train" in labels:
        before, after = (counts(part["train"], len(source.classes)) for part in (source.labels, labels))
        gone = [f"class {name!r}" for name, had, has in zip(source.classes, before, after, strict=True) if had and not has]
    if empty or gone:
        raise InputError(f"no readable image is left of {', '.join(empty + gone[:5])}; repair or remove the broken ones")


def _from_array(items: np.ndarray, side: int, channels: int | None) -> np.ndarray:
    """uint8 [n, h, w] or [n, h, w, c] as [n, side, side, c]; the very same memory where nothing is to be done."""
    items = items if items.ndim == 4 else items[..., None]
    height, width = items.shape[1:3]
    short = min(height, width)
    if short == side and (channels is None or channels >= items.shape[3]):
        top, left = (height - short) // 2, (width - short) // 2
        square = items[:, top : top + short, left : left + short]
        return square if channels in (None, items.shape[3]) else np.repeat(square, 3, axis=3)
    deep = channels or items.shape[3]
    out = np.empty((len(items), side, side, deep), np.uint8)

    def work(i: int) -> None:
        out[i] = decoder.attempt(items[i], side, deep)

    deque(decoder.in_threads(work, range(len(items))), 0)
    return out


def image_digests(data: Data, split: str) -> np.ndarray:
    """uint64 [n]: `canvas.digest` of each image."""
    if split in data.digests:
        return data.digests[split]
    pixels = data.images[split]
    parts = (pixels[start : start + 256] for start in range(0, len(pixels), 256))
    return np.array([canvases.digest(square) for part in parts for square in part], np.uint64)
