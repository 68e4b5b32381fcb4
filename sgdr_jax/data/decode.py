"""Image decoding: files to square uint8 arrays, or a one-line reason for failure; in parallel and in order.

Images are turned upright (EXIF) and made square, as `Experiment.resize` says, by area averaging when they shrink. Damaged files are
rejected with a reason; missing pixels are never filled in.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import InputError
from ..core.experiment import Resize
from ..core.text import one_line
from ..core.validation import require
from .image_integrity import checked

if TYPE_CHECKING:
    from jax import Array
    from PIL import Image

type Encoded = str | os.PathLike[str] | bytes | np.ndarray
"""An image: the path of a file, its bytes, or an array uint8 [h, w, c]."""
type LazyEncoded = Encoded | Callable[[], Encoded]
"""An image, or a function that fetches it."""
type Given = str | os.PathLike[str] | np.ndarray | Array | Image.Image
"""Images to predict: a file, a folder, arrays uint8 [h, w], [h, w, c] or [n, h, w, c], an image of Pillow."""
type ImagesLike = Given | Iterable[Given]
"""Images to predict, or a list or an iterator of them."""

MAX_BYTES = 256 * 2**20
"""Larger image files are rejected unread."""
MAX_PIXELS = 89_478_485
"""Images with more pixels are rejected before decoding. Source: Pillow's threshold for decompression bomb warnings."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
"""Accepted formats, detected by content; the file name does not matter."""
_FURTHER = {".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF"}
"""Formats accepted from files of such a name alone, where a dataset lists them (`datasets.files.ImageFormat`)."""

VERSION = 3
"""Part of the cache key of decoded pixels; increment it when decoding changes."""


def attempt(item: LazyEncoded, side: int, channels: int, resize: Resize = "crop") -> np.ndarray | str:
    """Decode an image to uint8 [side, side, channels]; returns a one-line reason if that fails.

    Args:
        item: the image.
        side: side of the result in pixels.
        channels: 1 or 3.
        resize: see `Experiment.resize`.
    """
    try:
        return _square(item() if callable(item) else item, side, channels, resize)
    except Exception as error:  # Decoders raise almost anything on damaged files.
        from PIL import UnidentifiedImageError

        if isinstance(error, UnidentifiedImageError):
            return f"not an image in one of the formats {', '.join(FORMATS)}"
        return " ".join(f"{error or type(error).__name__}".split())[:160]


def ready() -> None:
    """Load the decoders and silence their warnings about broken metadata, which do not affect the pixels."""
    from PIL import Image, WebPImagePlugin  # noqa: F401  (the other formats are loaded by preinit)

    Image.preinit()
    warnings.filterwarnings("ignore", module=r"PIL\.")


def to_items(image: object, name: str = "image") -> list[LazyEncoded]:
    """Convert an image in memory to an array, and an array uint8 [n, h, w, c] to n of them.

    A picture of Pillow that cannot be read becomes a function that raises the reason, which `attempt` returns.

    Args:
        image: the image.
        name: of it, for messages.

    Raises:
        InputError: for arrays of another type or shape, and for what is no image.
    """
    from PIL import Image

    if isinstance(image, Image.Image):
        try:
            return [to_array(image)]
        except Exception as error:  # as decoders raise anything on damaged files
            return [partial(_fail, error)]
    if not hasattr(image, "__array__"):
        raise InputError(f"{name} is of type {type(image).__name__}; {_form(image)}")
    pixels = as_array(image, name)
    return [to_array(each, name) for each in (pixels if pixels.ndim == 4 and len(pixels) else [pixels])]


def as_array(image: object, name: str = "image") -> np.ndarray:
    """Return an array of any library as one of NumPy. Raises InputError where it is on a device that NumPy cannot read."""
    try:
        return np.asarray(image)
    except Exception as error:  # libraries raise what they like
        what = f"{name} is of type {type(image).__name__}, which cannot be read as an array ({one_line(str(error))})"
        raise InputError(f"{what}; give an array of NumPy") from error


def _form(image: object) -> str:
    """Return what to give instead of something that is no image."""
    if isinstance(image, bytes | bytearray | memoryview):
        return "open it: PIL.Image.open(io.BytesIO(data))"
    if hasattr(image, "read"):
        return "open it: PIL.Image.open(file)"
    if isinstance(image, list | tuple):
        return "give all images in one list; pixels as an array: numpy.array(pixels, numpy.uint8)"
    return "give paths of images or folders, arrays uint8, images of Pillow, or a list of these"


def _fail(error: Exception) -> np.ndarray:
    closed = "closed" in str(error) or isinstance(error, AssertionError)  # Pillow asserts that a picture has its file
    raise ValueError("its file is closed; load() it before, or give its path") if closed else error


def to_array(image: Image.Image | np.ndarray, name: str = "image") -> np.ndarray:
    """Convert an image in memory to uint8 [h, w] or [h, w, c]: one of Pillow upright and without transparency, an array as it is.

    Raises:
        InputError: for arrays of another type or shape, and for images of 32 bits.
    """
    from PIL import Image

    from .square import upright

    if isinstance(image, Image.Image):
        fix = "convert it to 8 or 16 bits: nothing tells what is white in it"
        require(image.mode not in ("I", "F"), name, f"of mode {image.mode} of Pillow, 32 bits", fix)
        require(image.width * image.height > 0, name, f"of {image.width} x {image.height} pixels", "give one with pixels")
        if image.mode in ("La", "RGBa"):  # colours times alpha, which Pillow converts to such as are not, and no further
            image = image.convert(image.mode.upper())
        return np.asarray(upright(image))
    require(image.dtype == np.uint8, name, f"an array of {image.dtype}", "give uint8, 0…255")
    good = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
    require(good and image.size > 0, name, f"an array of shape {image.shape}", "give [h, w], [h, w, 1] or [h, w, 3]")
    return image


def is_colour(item: LazyEncoded) -> bool:
    """Return whether an image has colour, from its header; False if it cannot be read."""
    from .square import is_grey

    try:
        item = item() if callable(item) else item
        if isinstance(item, np.ndarray):
            return item.ndim == 3 and item.shape[2] == 3
        with _open(item, _further(item)) as image:
            return not is_grey(image)
    except Exception:  # `attempt` reports the reason.
        return False


def is_intact(item: LazyEncoded) -> bool:
    """Return whether a file has all its data, by the means of its format; `attempt` decodes it too."""
    try:
        item = item() if callable(item) else item
        if not isinstance(item, np.ndarray):
            with _open(item, _further(item)):
                pass
            checked(item if isinstance(item, bytes) else Path(item).read_bytes(), _decodes)
        return True
    except Exception:  # `attempt` reports the reason.
        return False


def dimensions(item: LazyEncoded) -> tuple[int, int] | None:
    """Return width and height of the upright image, from its header; None if it cannot be read."""
    from .square import orientation

    try:
        item = item() if callable(item) else item
        if isinstance(item, np.ndarray):
            return item.shape[1], item.shape[0]
        with _open(item, _further(item)) as image:
            sideways = image.format != "TIFF" and orientation(image) in (5, 6, 7, 8)  # Pillow's TIFF reader has turned its size
            return (image.height, image.width) if sideways else image.size
    except Exception:  # `attempt` reports the reason.
        return None


def _further(item: Encoded) -> tuple[str, ...]:
    """Return the format that the name of a file adds to `FORMATS`, with its decoder loaded; none for others."""
    name = "" if isinstance(item, bytes | np.ndarray) else _FURTHER.get(Path(item).suffix.lower(), "")
    if name == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    elif name:
        from PIL import AvifImagePlugin, TiffImagePlugin  # noqa: F401
    return (name,) if name else ()


def _open(item: str | os.PathLike[str] | bytes, further: tuple[str, ...] = ()) -> Image.Image:
    """Open an image without decoding its pixels; raises ValueError if it is too large, or not one common image."""
    from PIL import Image

    if not isinstance(item, bytes) and not os.path.isfile(item):
        raise ValueError("no such file")
    size = len(item) if isinstance(item, bytes) else os.path.getsize(item)
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes, above the limit of {MAX_BYTES}")
    image = Image.open(io.BytesIO(item) if isinstance(item, bytes) else item, formats=(*FORMATS, *further))
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{image.width} x {image.height} pixels, above the limit of {MAX_PIXELS}")
    if image.format == "TIFF":
        pages, mode = getattr(image, "n_frames", 1), image.mode
        if pages > 1 or mode in ("I", "F"):
            image.close()
            raise ValueError(f"{pages} pages in one file; save each as an image" if pages > 1 else "32 bits a pixel; save 8 or 16")
    if image.format == "PNG" and "transparency" in image.info and image.tile[0][3] == "RGB;16B":  # loaded as 8 bits
        image.close()
        raise ValueError("a transparent colour of 16 bits; save 8 bits, or an alpha channel")
    return image


def _square(item: Encoded, side: int, channels: int, resize: Resize) -> np.ndarray:
    from PIL import Image

    from .square import square

    if isinstance(item, np.ndarray):
        image = Image.fromarray(item[..., 0] if item.ndim == 3 and item.shape[2] == 1 else item)
        return square(image, side, channels, resize)
    further = _further(item)
    with _open(item, further):  # of an acceptable size
        pass
    data = item if isinstance(item, bytes) else Path(item).read_bytes()
    with _open(checked(data, _decodes), further) as image:
        return square(image, side, channels, resize)


def _decodes(data: bytes) -> bool:
    """Return whether the decoder accepts a file."""
    try:
        with _open(data) as image:
            image.load()
        return True
    except Exception:
        return False
