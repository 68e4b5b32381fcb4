"""From an opened dataset to batches: images decoded once to square uint8 arrays, then drawn as `sampling` says. No jax."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from .datasets.files import is_image
from .datasets.splits import fingerprint, take
from .sampling import Batch, counts, eval_batches, expected_counts, order, steps_per_epoch, train_batches
from .types import InputError, Source

__all__ = [
    "Batch",
    "Data",
    "Decoded",
    "counts",
    "decode",
    "eval_batches",
    "expected_counts",
    "is_image",
    "load",
    "order",
    "steps_per_epoch",
    "train_batches",
]

MAX_BYTES = 256 * 2**20
"""Larger image files are refused unread."""
MAX_PIXELS = 89_478_485
"""Images with more pixels are refused before they are decoded. Source: the number above which Pillow warns of a decompression bomb."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_BLOCK = 256  # images between two reports of progress

Progress = Callable[[int, int], None]
"""Called with the numbers of images done and in all, from the thread that called `load`."""


class Data(NamedTuple):
    """A dataset in memory.

    Attributes:
        classes: names of the classes, in label order.
        images: split to uint8 [n, side, side, channels], with one side and 1 or 3 channels for all splits.
        labels: split to int32 [n], or float32 [n, classes] of zeros and ones for multi-label data.
        names: split to n strings.
        bad: name and reason of each image that could not be read and was left out.
        fingerprint: hex digest that changes with the source, the side, the channels and what was left out.
    """

    classes: tuple[str, ...]
    images: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    names: Mapping[str, tuple[str, ...]]
    bad: tuple[tuple[str, str], ...]
    fingerprint: str

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


# ---- decoding ----


def load(
    source: Source,
    *,
    canvas: int | None = None,
    largest_size: int | None = None,
    channels: int | None = None,
    max_bad_share: float = 0.01,
    progress: Progress | None = None,
) -> Data:
    """Decodes a source once, in threads; the result does not depend on their number.

    Files are turned upright (EXIF), their shorter side is resized to the canvas, antialiased, and the middle square is kept. Arrays
    are cropped to their middle square and resized only when that is larger than the canvas: enlarging is left to training.

    Args:
        source: an opened dataset.
        canvas: side in pixels to store; None: 1.15 times `largest_size`, room for random crops and zooms.
        largest_size: largest side that a stage trains on.
        channels: 1 or 3; None: 1 where all images are grey, else 3.
        max_bad_share: share of image files that may be unreadable, 0…1; such files are left out and reported in `Data.bad`.
        progress: is told about image files done and in all.

    Raises:
        InputError: more images are unreadable, or none of a split or of a training class is left.
    """
    if canvas is None:
        if largest_size is None:
            raise TypeError("load needs a canvas or a largest_size")
        canvas = math.ceil(1.15 * largest_size)
    encoded = {split: items for split, items in source.items.items() if not isinstance(items, np.ndarray)}
    arrays = {split: items for split, items in source.items.items() if isinstance(items, np.ndarray)}
    side = canvas if encoded else min(canvas, max(min(items.shape[1:3]) for items in arrays.values()))
    images = {split: _from_array(items, side, channels) for split, items in arrays.items()}
    kept = {split: np.arange(len(items)) for split, items in arrays.items()}

    # The files of all splits in one go, into one array that is then cut.
    refs = [(items, i) for items in encoded.values() for i in range(len(items))]
    names = [name for split in encoded for name in source.names[split]]

    def tick(done: int, bad: list[tuple[str, str]]) -> None:
        _check_bad(bad, len(refs), max_bad_share)
        if progress is not None:
            progress(done, len(refs))

    decoded, index, bad = _decode_all(lambda i: refs[i][0][refs[i][1]], names, side, channels, tick)
    start = 0
    for split, items in encoded.items():
        first, last = np.searchsorted(index, (start, start + len(items)))
        images[split], kept[split] = decoded[first:last], index[first:last] - start
        start += len(items)

    deepest = max(part.shape[3] for part in images.values())
    labels = {split: source.labels[split][kept[split]] for split in source.items}
    if bad:
        _check_left(source, labels)
    return Data(
        classes=tuple(source.classes),
        images={
            split: images[split] if images[split].shape[3] == deepest else np.repeat(images[split], deepest, axis=3)
            for split in source.items
        },
        labels=labels,
        names={split: take(tuple(source.names[split]), kept[split]) for split in source.items},
        bad=tuple(bad),
        fingerprint=fingerprint([source.fingerprint, side, deepest, tuple(name for name, _ in bad)]),
    )


def decode(paths: Sequence[Any], canvas: int, channels: int | None = None) -> Decoded:
    """Image files (or encoded images as bytes) as `load` decodes them, for prediction. Unreadable ones are reported, never raised."""
    names = [f"image {i}" if isinstance(path, bytes) else str(path) for i, path in enumerate(paths)]
    images, index, bad = _decode_all(paths.__getitem__, names, canvas, channels)
    return Decoded(images, index, tuple(bad))


def _check_bad(bad: list[tuple[str, str]], total: int, most: float) -> None:
    if len(bad) > most * total:
        shown = "; ".join(f"{name}: {reason}" for name, reason in bad[:3]) + ("; …" if len(bad) > 3 else "")
        raise InputError(
            f"{len(bad)} of {total} images cannot be read, max_bad_share is {most}; repair or remove them, or raise it ({shown})"
        )


def _check_left(source: Source, labels: Mapping[str, np.ndarray]) -> None:
    empty = [split for split, left in labels.items() if not len(left)]
    before, after = (counts(part["train"], len(source.classes)) for part in (source.labels, labels))
    gone = [name for name, had, has in zip(source.classes, before, after, strict=True) if had and not has]
    if empty or gone:
        what = [f"split {split!r}" for split in empty] + [f"class {name!r}" for name in gone][:5]
        raise InputError(f"no readable image is left of {', '.join(what)}; repair or remove the broken ones")


def _from_array(items: np.ndarray, side: int, channels: int | None) -> np.ndarray:
    """uint8 [n, h, w] or [n, h, w, c] as [n, side, side, c]; the very same memory where nothing is to be done."""
    items = items if items.ndim == 4 else items[..., None]
    height, width = items.shape[1:3]
    short = min(height, width)
    if short == side and (channels is None or channels >= items.shape[3]):
        top, left = (height - short) // 2, (width - short) // 2
        square = items[:, top : top + short, left : left + short]
        return square if channels in (None, items.shape[3]) else np.repeat(square, 3, axis=3)
    return _decode_all(items.__getitem__, range(len(items)), side, channels)[0]


def _decode_all(
    get: Callable[[int], Any],
    names: Sequence[Any],
    side: int,
    channels: int | None,
    tick: Callable[[int, list[tuple[str, str]]], None] = lambda done, bad: None,
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]]]:
    """Those of the items get(0), get(1), … that can be read, as images with their positions, and names and reasons of the others."""
    from PIL import Image, WebPImagePlugin  # noqa: F401  (the other formats are loaded by preinit)

    Image.preinit()
    total = len(names)
    images = np.empty((total, side, side, channels or 1), np.uint8)
    good: list[int] = []
    bad: list[tuple[str, str]] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # Broken metadata are no reason to lose or to talk about an image.
        for start in range(0, total, _BLOCK):
            block = range(start, min(start + _BLOCK, total))
            for i, square in zip(block, pool.map(lambda i: _try_square(get(i), side, channels), block), strict=True):
                if isinstance(square, str):
                    bad.append((str(names[i]), square))
                    continue
                if square.shape[2] > images.shape[3]:  # the first colour image among grey ones
                    images = np.repeat(images, 3, axis=3)
                images[len(good)] = square
                good.append(i)
            tick(block.stop, bad)
    return images[: len(good)], np.array(good, np.int64), bad


def _try_square(item: Any, side: int, channels: int | None) -> np.ndarray | str:
    """The square, or in one line why there is none."""
    try:
        return _square(item, side, channels)
    except Exception as error:  # Decoders raise almost anything on damaged files; whatever it is, it is about this file.
        from PIL import UnidentifiedImageError

        if isinstance(error, UnidentifiedImageError):
            return f"not an image in one of the formats {', '.join(_FORMATS)}"
        return " ".join(f"{error or type(error).__name__}".split())[:160]


def _square(item: Any, side: int, channels: int | None) -> np.ndarray:
    """An encoded image (path or bytes) or an array [h, w, c] as uint8 [side, side, 1 or 3]."""
    from PIL import Image

    if isinstance(item, np.ndarray):
        square = _fit(Image.fromarray(item[..., 0] if item.shape[2] == 1 else item), side)
    else:
        if not isinstance(item, bytes) and not os.path.isfile(item):
            raise ValueError("no such file")
        size = len(item) if isinstance(item, bytes) else os.path.getsize(item)
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes, more than {MAX_BYTES} are refused")
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS} are refused")
            turn = _turn(image)
            image.draft(None, (3 * side, 3 * side))  # JPEG: decode at a fraction of the size where that is still ample.
            square = _fit(_plain(image), side)
        square = square.transpose(turn) if turn is not None else square
    if channels is not None and channels != len(square.getbands()):
        square = square.convert("L" if channels == 1 else "RGB")
    return np.asarray(square).reshape(side, side, -1)


def _fit(image: Any, side: int) -> Any:
    """The middle square resized to `side`, antialiased."""
    from PIL import Image

    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    return image.resize((side, side), Image.Resampling.LANCZOS, box=(left, top, left + short, top + short), reducing_gap=3.0)


def _plain(image: Any) -> Any:
    """A PIL image as mode L (where it is grey) or RGB: 16 bits scaled to 8, transparent parts over white, inks and palettes as colours."""
    from PIL import Image

    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    grey = image.mode in ("1", "L", "LA")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


def _turn(image: Any) -> Any:
    """The transposition that sets an image upright by its EXIF orientation, or None."""
    from PIL import Image

    how = Image.Transpose
    turns = {
        2: how.FLIP_LEFT_RIGHT,
        3: how.ROTATE_180,
        4: how.FLIP_TOP_BOTTOM,
        5: how.TRANSPOSE,
        6: how.ROTATE_270,
        7: how.TRANSVERSE,
        8: how.ROTATE_90,
    }
    try:
        return turns.get(image.getexif().get(0x0112))
    except Exception:  # Broken EXIF data say nothing about the pixels.
        return None
