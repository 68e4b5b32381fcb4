"""Damaged images of nine formats: refused where a reader of our own finds them invalid, and otherwise decoded as Pillow does."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from sgdr_jax.data import decode

from . import image_oracles, mutations
from .campaign import Outcome, Silent, Try, outcome_of

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "PNG": ("PNG", {}),
    "PNG in palette": ("PNG", {}),
    "JPEG": ("JPEG", {"quality": 90}),
    "JPEG with restarts": ("JPEG", {"quality": 80, "restart_marker_rows": 1, "subsampling": 0}),
    "progressive JPEG": ("JPEG", {"quality": 90, "progressive": True}),
    "WebP": ("WEBP", {"quality": 80}),
    "lossless WebP": ("WEBP", {"lossless": True}),
    "GIF": ("GIF", {}),
    "BMP": ("BMP", {}),
}
ORACLES = {"PNG": image_oracles.png, "JPEG": image_oracles.jpeg, "GIF": image_oracles.gif, "WEBP": image_oracles.webp}
ORACLES |= {"BMP": image_oracles.bmp}


@cache
def sound(kind: str, seed: int) -> bytes:
    """Return a sound file: a gradient with noise, of a size that the seed draws."""
    rng = np.random.default_rng(seed)
    high, wide = rng.integers(9, 70, 2)
    y, x = np.mgrid[:high, :wide]
    photo = np.stack([x * 255 // wide, y * 255 // high, (x * 7 + y) % 256], axis=2).astype(np.uint8)
    photo ^= rng.integers(0, 1 << int(rng.integers(1, 7)), photo.shape, np.uint8)
    image = Image.fromarray(photo)
    if rng.random() < 0.3:
        image = image.convert("L")
    if kind in ("GIF", "PNG in palette"):
        image = image.quantize(64)
    name, options = KINDS[kind]
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def changed(data: bytes, random: Random) -> bytes:
    """Damage a file as disks, transfers and editors do."""
    n, half = len(data), len(data) // 2
    how = random.randrange(9)
    if how == 0:
        return data[:half] + bytes(n - half)
    if how == 1:
        return data[: random.randrange(n)] + data[-2:]
    if how == 2:
        at = random.randrange(n)
        return data[:at] + data[half:] + data[at:half] if at < half else data[:at]
    if how == 3:
        at = random.randrange(8, n)
        return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
    if how == 4:
        return data + random.randbytes(random.randrange(1, 50))
    return mutations.damaged(data, random)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Try]:
    """Open the campaign."""
    decode.ready()

    def attempt(seed: int) -> Outcome:
        random = Random(f"images {seed}")
        kind = random.choice(list(KINDS))
        whole = sound(kind, random.randrange(200))
        data = whole if seed % 25 == 0 else changed(whole, random)
        return outcome_of(kind, lambda: judged(data, whole))

    yield attempt


def judged(data: bytes, whole: bytes) -> str:
    """Decode a file and compare the result with what the oracles and Pillow make of it."""
    got = decode.attempt(data, 16, 3)
    if isinstance(got, str):
        assert data != whole, f"a sound file is refused: {got}"
        assert got and "\n" not in got, got
        return "refused"
    with Image.open(io.BytesIO(data), formats=decode.FORMATS) as image:
        oracle, pixels = ORACLES[image.format or ""], np.asarray(image.convert("RGB").resize((2, 2)))
    try:
        oracle(data)
    except image_oracles.Tolerated:
        return "tolerated"
    except image_oracles.Invalid as error:
        raise Silent(f"accepted, though {error}") from error
    assert pixels.shape == (2, 2, 3) and got.shape == (16, 16, 3)
    return "accepted"
