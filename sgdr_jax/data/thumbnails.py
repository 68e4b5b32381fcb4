"""Thumbnails: small JPEG images, of items of a dataset or of pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.experiment import Resize
from ..core.threads import in_threads
from . import decode

SIDE = 112
"""Side of a thumbnail in pixels."""


def thumbnails(items: Sequence[Any] | np.ndarray, positions: Sequence[int], side: int = SIDE, resize: Resize = "crop") -> dict[int, bytes]:
    """Return each readable item (see `Source.items`) at these positions as a square JPEG, by position; `resize` as in `Experiment`."""
    decode.ready()
    wanted = sorted(set(positions))
    pixels = in_threads(lambda i: decode.attempt(lambda: items[i], side, 3, resize), wanted)
    return {i: jpeg(square) for i, square in zip(wanted, pixels, strict=True) if not isinstance(square, str)}


def jpeg(pixels: np.ndarray, quality: int = 82) -> bytes:
    """Encode pixels, uint8 [h, w, 3] or [h, w, 1], as JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0]).save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()
