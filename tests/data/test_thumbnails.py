"""Thumbnails: what they show, and items that cannot be read."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from sgdr_jax.data.thumbnails import jpeg, thumbnails


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image


def test_files_and_arrays_become_small_squares(tmp_path: Path) -> None:
    for i, colour in enumerate(((250, 0, 0), (0, 0, 250))):
        Image.new("RGB", (300, 200), colour).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"nothing")
    found = thumbnails([str(tmp_path / f"{i}.png") for i in range(3)], [2, 1, 0, 1], side=16)
    assert sorted(found) == [0, 1] and opened(found[0]).size == (16, 16)
    np.testing.assert_allclose(np.asarray(opened(found[1]))[8, 8], (0, 0, 250), atol=6)
    grey = thumbnails(np.full((2, 9, 9), 77, np.uint8), [1], side=8)
    np.testing.assert_allclose(np.asarray(opened(grey[1])), 77, atol=3)


def test_pixels_are_encoded() -> None:
    assert opened(jpeg(np.zeros((4, 6, 1), np.uint8))).mode == "L" and opened(jpeg(np.zeros((4, 6, 3), np.uint8))).size == (6, 4)
