"""Similarity of images to ImageNet, measured as the confidence of an ImageNet classifier."""

from __future__ import annotations

import jax
import numpy as np

from ..augment import kernel
from ..core.errors import InputError
from ..core.types import Source
from ..data.load import SOME, load_some
from ..data.sampler import Sampler
from ..distributed.backend import start_backend
from ..models.base import ChainModel
from ..models.pretrained.load import classifier
from ..models.pretrained.locate import trained_size

IMAGES = 256
"""Images in a sample. The mean of 64 varies by 0.01 to 0.03 between samples, as much as kinds of images differ."""
BLOCK = 64
"""Images per batch, which bounds memory."""


class NoClassifier(InputError):
    """There is no ImageNet classifier that a network could be measured by."""


def confidence(model: ChainModel, source: Source, images: int = IMAGES) -> float:
    """Return the mean probability of the likeliest ImageNet class over some training images.

    The images are resized to the size that the weights were trained with: on smaller ones it is as confident on noise as on photographs.

    Args:
        model: the network.
        source: the opened dataset.
        images: number of images to sample.

    Returns:
        A probability, 0…1.

    Raises:
        NoClassifier: the weights have no ImageNet classifier, are out of reach, or there are none.
    """
    start_backend()
    try:
        network, params, stats = classifier(model)
    except InputError as error:
        raise NoClassifier(str(error)) from error
    index = Sampler(0, 0, source.labels["train"]).order(0)[:images].tolist()
    size = trained_size(model)
    pixels = load_some(source, index, round(size / network.plain.crop), channels=3).images[SOME][:]

    @jax.jit
    def likeliest(some: jax.Array) -> jax.Array:
        return jax.nn.softmax(network.apply(params, stats, kernel.resize(some, size, network.plain))[0]).max(-1)

    n, block = len(pixels), min(BLOCK, len(pixels))
    padded = np.resize(pixels, (-(-n // block) * block, *pixels.shape[1:]))  # with the first ones again: one shape, one compilation
    confidences = [np.asarray(likeliest(padded[i : i + block])) for i in range(0, len(padded), block)]
    return float(np.concatenate(confidences)[:n].mean())
