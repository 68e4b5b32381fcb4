"""From an opened image of Pillow to upright, square pixels. Needs Pillow and NumPy alone, so that exported networks carry this file."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps


def square(image: Image.Image, side: int, channels: int, resize: str) -> np.ndarray:
    """Return an image upright and square as uint8 [side, side, channels].

    It is turned as its EXIF orientation says, transparency becomes white, 16 bits become 8. It shrinks by area averaging.

    Args:
        image: opened, its pixels not necessarily loaded.
        side: side of the result in pixels.
        channels: 1 (grey) or 3.
        resize: "crop" (the centre is cut out), "squish" (both sides are scaled) or "pad" (the whole image, on a black ground).
    """
    image.draft(None, (2 * side, 2 * side))  # pyright: ignore[reportArgumentType]  # JPEG: decode at reduced size if still ample.
    squared = _turned(_fit(_plain(image), side, resize), orientation(image))
    if squared.size != (side, side):
        squared = ImageOps.pad(squared, (side, side))
    if channels != len(squared.getbands()):
        squared = squared.convert("L" if channels == 1 else "RGB")
    return np.asarray(squared).reshape(side, side, -1)


def upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its EXIF orientation says, in mode L or RGB; transparency becomes white, 16 bits become 8."""
    return _turned(_plain(image), orientation(image))


def _fit(image: Image.Image, side: int, resize: str) -> Image.Image:
    """Resize an image, or its centre square, to `side`; to pad, its longer side. Shrinks by area averaging."""
    if resize == "squish":  # one side after the other, since one may shrink and the other grow
        return image.resize((side, image.height), _filter(image.width, side)).resize((side, side), _filter(image.height, side))
    if resize == "pad":
        long = max(image.size)
        width, height = (max(round(length * side / long), 1) for length in image.size)
        return image.resize((width, height), _filter(long, side))
    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    return image.resize((side, side), _filter(short, side), box=(left, top, left + short, top + short))


def _filter(length: int, side: int) -> Image.Resampling:
    return Image.Resampling.BOX if length > side else Image.Resampling.BICUBIC


def is_grey(image: Image.Image) -> bool:
    """Return whether an image has no colour."""
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


def _plain(image: Image.Image) -> Image.Image:
    """Convert an image to mode L (if grey) or RGB: scales 12 and 16 bits to 8, composes transparency over white, resolves inks."""
    clear = _clear(image)
    image.load()
    if image.mode.startswith("I"):
        tags = getattr(image, "tag_v2", {})  # of TIFF: Pillow neither scales 12 bits nor inverts 16
        white = 2 ** tags.get(258, (16,))[0] - 1
        deep = np.asarray(image).astype(np.int64).clip(0, white)
        deep = white - deep if tags.get(262) == 0 else deep
        return Image.fromarray(np.where(deep == clear, 255, (deep * 255 + white // 2) // white).astype(np.uint8))
    if clear is not None and clear != image.info.get("transparency"):
        image = image.copy()
        image.info["transparency"] = clear
    grey = is_grey(image)
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


def _clear(image: Image.Image) -> int | bytes | tuple[int, ...] | None:
    """Return the level, index or colour that is transparent, or the alpha of each index, before the pixels are loaded; None for none.

    Pillow has a PNG's level as in the file, but spreads pixels of 2 and 4 bits over 0…255.
    """
    clear, tiles = image.info.get("transparency"), getattr(image, "tile", ())
    spread = {"L;2": 85, "L;4": 17}.get(str(tiles[0][3]), 1) if tiles else 1
    return clear * spread if isinstance(clear, int) else clear


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image.transpose(turn) if turn is not None else image


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 if there is none or its metadata are broken, which does not affect the pixels.

    That of a PNG is read from the chunks before the pixels unless they are loaded: its own `getexif` would decode them.
    """
    try:
        return Image.Image.getexif(image).get(0x0112, 1)
    except Exception:
        return 1


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to the transposition that turns the image upright."""
