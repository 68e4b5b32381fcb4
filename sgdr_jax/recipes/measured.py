"""Measures the properties of a set of images that decide the recipe's settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..core.text import several
from ..core.threads import in_threads
from ..core.types import Source
from ..datasets.labels import counts
from ..datasets.splits import even_positions
from ..models.base import ChainModel
from ..models.pretrained.locate import trained_size
from . import auto

if TYPE_CHECKING:
    from ..data.decode import Encoded, LazyEncoded


class ImageFacts(NamedTuple):
    """Properties of a set of images that decide the settings of the recipe; see `auto.choices`.

    Attributes:
        counts: number of training images of each class, [classes].
        side: median length of the shorter side, in pixels.
        confidence: mean confidence of the network's ImageNet classifier on some of the images, 0…1; None if not measured.
        unread: names of the images that were looked at and cannot be read.
        looked: number of images that were looked at.
        network: that is to be trained.
        images: number of training images; None for the sum of `counts`.
        validated: whether there are validation images.
        unmeasured: why the confidence could not be measured; "" if it was, or need not be.
    """

    counts: np.ndarray
    side: int
    confidence: float | None
    unread: tuple[str, ...]
    looked: int
    network: auto.NetworkTraits = auto.NetworkTraits()
    images: int | None = None
    validated: bool = True
    unmeasured: str = ""

    def warnings(self) -> list[str]:
        """Return what to say about what could not be measured, and about images that cannot be read, with the names of some."""
        said = [f"how familiar the images are to the network was not measured: {self.unmeasured}"] * bool(self.unmeasured)
        if self.unread:
            fix = "repair or remove them, or raise max_bad_share, the share that a run leaves out"
            said.append(f"{len(self.unread):,} of {self.looked:,} images looked at cannot be read; {fix} ({several(self.unread)})")
        return said

    def choices(self, epochs: float | None = None, *, whole: bool = False) -> list[auto.Choice]:
        """Choose the settings; `epochs` is the length of the last stage, and with `whole` all layer groups train there."""
        chosen = auto.choices(self.counts, self.side, self.confidence, epochs, self.network, self.images, whole)
        return [choice for choice in chosen if self.validated or choice.name not in ("leeway", "refit", "first_epoch_share")]

    def of(self, model: ChainModel) -> ImageFacts:
        """Return the same facts for the training of another network."""
        traits = auto.NetworkTraits(trained_size(model), model.batch_norm, model.weights is not None, len(model.groups), model.patch)
        return self._replace(network=traits)


def measure(source: Source, model: ChainModel, *, familiar: bool = True) -> ImageFacts:
    """Look at the images of an opened dataset.

    Args:
        source: the dataset.
        model: the network to train.
        familiar: whether to measure how confident its ImageNet classifier is on them; takes some seconds, needs the weights.
    """
    confidence, unmeasured = None, ""
    if familiar and model.weights is not None:
        from . import domain_similarity

        try:
            confidence = domain_similarity.confidence(model, source)
        except domain_similarity.NoClassifier as error:
            unmeasured = str(error)
    looked, dimensions, unread = _dimensions(source.items["train"], source.names["train"])
    side = int(np.median([min(size) for size in dimensions])) if dimensions else model.size
    labels = counts(source.labels["train"], len(source.classes))
    n, validated = source.sizes["train"], "valid" in source.labels
    return ImageFacts(labels, side, confidence, unread, looked, images=n, validated=validated, unmeasured=unmeasured).of(model)


LOOKED_AT = 1000
"""Most images whose dimensions are read: a few seconds, in which the median of a million is known well enough."""


def _dimensions(items: Sequence[LazyEncoded] | np.ndarray, names: Sequence[str]) -> tuple[int, list[tuple[int, int]], tuple[str, ...]]:
    """Read the dimensions of at most `LOOKED_AT` images, evenly spread.

    Returns:
        (number of images looked at, width and height of those that can be read, names of the others).
    """
    from ..data import decode

    decode.ready()
    index = even_positions(len(items), LOOKED_AT)

    # A file that was cut short has a good header.
    def read(i: int) -> Encoded:
        item: LazyEncoded = items[i]
        return item() if callable(item) else item

    def look(i: int) -> tuple[int, int] | None:
        # Lazy items are read inside of what catches any failure.
        return decode.dimensions(lambda: read(i)) if decode.is_intact(lambda: read(i)) else None

    sizes = list(in_threads(look, index))
    unread = tuple(names[i] for i, size in zip(index, sizes, strict=True) if not size)
    return len(index), [size for size in sizes if size], unread
