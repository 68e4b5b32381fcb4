"""An image file to a square of uint8 pixels, or in one line why not; many of them in threads, in order.

Files are turned upright (EXIF), their shorter side is resized to the side of the square, averaging over areas where that shrinks, and
the middle is kept. A file that is damaged in any way is refused with its reason; nothing is made up for pixels that are not there.
"""

from __future__ import annotations

import io
import itertools
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

MAX_BYTES = 256 * 2**20
"""Larger image files are refused unread."""
MAX_PIXELS = 89_478_485
"""Images with more pixels are refused before they are decoded. Source: the number above which Pillow warns of a decompression bomb."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
"""Files in other formats are refused, whatever their names say."""

VERSION = 1
"""Part of the names of stored pixels; a change of what `square` makes of a file must change it."""

_CHUNK = 8  # images to a task: one each would cost small images dearly


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads[T](work: Callable[[int], T], positions: Iterable[int]) -> Iterator[T]:
    """`work` of each position, in order, done ahead by as many threads as there are cores; some hundred results may wait at a time."""
    threads = cores()
    waiting: deque[Future[list[T]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for chunk in itertools.batched(positions, _CHUNK):
            waiting.append(pool.submit(lambda chunk: [work(i) for i in chunk], chunk))
            if len(waiting) > 16 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def attempt(item: Any, side: int, channels: int) -> np.ndarray | str:
    """An image as uint8 [side, side, channels], or in one line why there is none.

    Args:
        item: path of an image file, its bytes, an array uint8 [h, w, c], or a function that fetches one of these.
        side: in pixels.
        channels: 1 or 3.
    """
    try:
        return _square(item() if callable(item) else item, side, channels)
    except Exception as error:  # Decoders raise almost anything on damaged files; whatever it is, it is about this file.
        from PIL import UnidentifiedImageError

        if isinstance(error, UnidentifiedImageError):
            return f"not an image in one of the formats {', '.join(FORMATS)}"
        return " ".join(f"{error or type(error).__name__}".split())[:160]


def ready() -> None:
    """Loads the decoders, and silences them about broken metadata, which are no reason to lose or to talk about an image."""
    from PIL import Image, WebPImagePlugin  # noqa: F401  (the other formats are loaded by preinit)

    Image.preinit()
    warnings.filterwarnings("ignore", module=r"PIL\.")


def is_colour(item: Any) -> bool:
    """Whether an image (see `attempt`) has colours, by its header; false for what cannot be read."""
    try:
        item = item() if callable(item) else item
        if isinstance(item, np.ndarray):
            return item.ndim == 3 and item.shape[2] == 3
        with _open(item) as image:
            return not _is_grey(image)
    except Exception:  # See `attempt`, which says what is wrong.
        return False


def dimensions(item: Any) -> tuple[int, int] | None:
    """Width and height of an image (see `attempt`) as it stands upright, by its header; None for what cannot be read."""
    try:
        item = item() if callable(item) else item
        if isinstance(item, np.ndarray):
            return item.shape[1], item.shape[0]
        with _open(item) as image:
            turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    except Exception:  # See `attempt`, which says what is wrong.
        return None


def _open(item: str | os.PathLike[str] | bytes) -> Any:
    """A PIL image of a file that is small enough, before its pixels are decoded."""
    from PIL import Image

    if not isinstance(item, bytes) and not os.path.isfile(item):
        raise ValueError("no such file")
    size = len(item) if isinstance(item, bytes) else os.path.getsize(item)
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes, more than {MAX_BYTES} are refused")
    image = Image.open(io.BytesIO(item) if isinstance(item, bytes) else item, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS} are refused")
    return image


def _square(item: Any, side: int, channels: int) -> np.ndarray:
    from PIL import Image

    if isinstance(item, np.ndarray):
        square = _fit(Image.fromarray(item[..., 0] if item.ndim == 3 and item.shape[2] == 1 else item), side)
    else:
        with _open(item) as image:
            turn = _turn(image)
            image.draft(None, (2 * side, 2 * side))  # JPEG: decode at a fraction of the size where that is still ample.
            image.load()
            _refuse_unfinished(image)
            square = _fit(_plain(image), side)
        square = square.transpose(turn) if turn is not None else square
    if channels != len(square.getbands()):
        square = square.convert("L" if channels == 1 else "RGB")
    return np.asarray(square).reshape(side, side, -1)


def _refuse_unfinished(image: Any) -> None:
    """Raises ValueError for a JPEG whose data end early, although properly closed: its decoder fills up with exactly mid-grey rows."""
    if image.format != "JPEG" or image.mode not in ("L", "RGB"):
        return
    first, last = (image.crop((0, y, image.width, y + 1)).getextrema() for y in (0, image.height - 1))
    empty = (128, 128) if image.mode == "L" else ((128, 128),) * 3
    if last == empty and first != empty:
        raise ValueError("image data end early: the lower part is empty")


def _fit(image: Any, side: int) -> Any:
    """The middle square resized to `side`: the mean over each pixel's area where it shrinks."""
    from PIL import Image

    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    filter = Image.Resampling.BOX if short > side else Image.Resampling.BICUBIC
    return image.resize((side, side), filter, box=(left, top, left + short, top + short))


def _is_grey(image: Any) -> bool:
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


def _plain(image: Any) -> Any:
    """A PIL image as mode L (where it is grey) or RGB: 16 bits scaled to 8, transparent parts over white, inks and palettes as colours."""
    from PIL import Image

    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    grey = _is_grey(image)
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
