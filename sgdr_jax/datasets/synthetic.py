"""Generated pictures that a small network can learn, for tests, demonstrations and benchmarks without data."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from ..core.types import Dataset, Source
from ..core.validation import require
from .examples import make_source, numbered


@dataclass(frozen=True)
class Synthetic(Dataset):
    """Generates rings over noise at a random place; their spacing and colour depend on the class. Equal fields give equal pictures.

    Brightness at radius r: x ← x + exp(-3·r²)·(0.6 + 0.4·cos(4·(class + 1)·r)). Rings are symmetric under rotations and reflections, so
    augmentation does not confuse the classes.

    Example:
        >>> source = Synthetic(classes=4, train=80, side=16).open()
        >>> source.items["train"].shape, source.sizes
        ((80, 16, 16, 3), {'train': 80, 'valid': 32})
    """

    classes: int = 3
    """Number of classes, of sizes that differ by at most one."""
    train: int = 64
    """Number of training images."""
    valid: int = 32
    """Number of validation images."""
    test: int = 0
    """Number of test images; 0: no test split."""
    side: int = 32
    """Side of the images in pixels."""
    channels: int = 3
    """1: grey images, 3: colour."""
    multi_label: bool = False
    """Whether an image shows rings of several classes."""
    seed: int = 0
    """Seed of the pictures."""

    def __post_init__(self) -> None:
        require(self.classes >= 2, "data.classes", self.classes, "use at least 2")
        require(4 <= self.side <= 8192, "data.side", self.side, "use 4…8192 pixels")
        require(self.channels in (1, 3), "data.channels", self.channels, "use 1 or 3")
        require(self.train >= self.classes, "data.train", self.train, f"use at least one image for each of {self.classes} classes")
        require(self.valid >= 1, "data.valid", self.valid, "use at least 1")
        require(self.test >= 0, "data.test", self.test, "use 0 or more")
        require(self.seed >= 0, "data.seed", self.seed, "use 0 or more")
        images = self.train + self.valid + self.test
        gib = images * (4 * self.side**2 * self.channels + 8 * self.classes) / (1 << 30)
        require(gib <= 64, "data", f"{images:,} images of {self.side} px", f"drawing them takes {gib:,.0f} GiB; use fewer or smaller ones")

    def open(self) -> Source:
        """Draw the pictures."""
        examples = {}
        for number, (split, count) in enumerate((("train", self.train), ("valid", self.valid), ("test", self.test))):
            if count:
                images, shown = self._draw(count, np.random.default_rng((self.seed, number)))
                labels = shown.astype(np.float32) if self.multi_label else shown.argmax(axis=1).astype(np.int32)
                examples[split] = numbered(split, images, labels)
        return make_source([f"rings{i}" for i in range(self.classes)], examples, 0.5, self.seed)

    def _draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return pictures, uint8 [count, side, side, channels], and the classes that each one shows, bool [count, classes]."""
        shown = np.arange(count)[:, None] % self.classes == np.arange(self.classes)
        if self.multi_label:
            shown |= rng.random((count, self.classes)) < 0.3
        y, x = np.mgrid[-1 : 1 : self.side * 1j, -1 : 1 : self.side * 1j].astype(np.float32)
        pictures = rng.normal(0.4, 0.08, (count, self.side, self.side, self.channels)).astype(np.float32)
        for label in range(self.classes):
            where = np.flatnonzero(shown[:, label])
            centre = rng.uniform(-0.5, 0.5, (2, len(where), 1, 1)).astype(np.float32)
            radius = np.hypot(x - centre[0], y - centre[1])
            rings = np.exp(-3 * radius**2) * (0.6 + 0.4 * np.cos(4 * (label + 1) * radius))
            colour = np.array(colorsys.hsv_to_rgb(label / self.classes, 0.9, 1.0) if self.channels == 3 else (1.0,), np.float32) - 0.4
            pictures[where] += rings[..., None] * colour
        return (pictures.clip(0, 1) * 255).astype(np.uint8), shown
