"""The network to export as a function of stored images, and the images that an export is compared on."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...augment import kernel
from ...augment.plain import filter_matrix
from ...core.errors import InputError
from ...data.load import SOME, load_some
from ...datasets.splits import even_positions
from ...models.layers import portable
from ..predictor import Predictor

TOLERANCE = 1e-4
"""Largest difference of a logit from that of the run's network, relative to the largest logit where that exceeds 1."""
IMAGES = 50
"""Number of images to compare on."""
READER = "images.py"
"""Copy of `data.square`, with which the programs of model cards read image files as the run did."""


def stored_code(net: Predictor) -> str:
    """Return the expression of a model card for `images`: uint8 [n, canvas, canvas, channels] of the files `paths`."""
    return f'np.stack([square(Image.open(path), {net.canvas}, {net.channels}, "{net.experiment.resize}") for path in paths])'


def portable_logits(net: Predictor) -> Callable[[Array], Array]:
    """Return the network as a function of stored images, uint8 [b, canvas, canvas, channels] to float32 logits [b, classes].

    Resizing and normalisation are part of it. All arithmetic is float32, with operations that every platform has.
    """
    params, stats = jax.tree.map(np.asarray, (net.params, net.stats))
    plain = net.programs.network.plain
    matrix = filter_matrix(net.canvas, net.size, plain).astype(np.float32)

    def logits(images: Array) -> Array:
        x = images.astype(jnp.float32) / 255
        if net.canvas != net.size or plain.crop != 1:
            x = jnp.einsum("yh,bhwc->bywc", matrix, x, precision="highest")
            x = jnp.clip(jnp.einsum("xw,bywc->byxc", matrix, x, precision="highest"), 0, 1)
        with portable():
            return net.programs.network.apply(params, stats, x)[0]

    return logits


def sample(net: Predictor) -> np.ndarray:
    """Return up to `IMAGES` stored training images of the run's data, uint8 [n, canvas, canvas, channels]; noise if the data are gone."""
    try:
        source = net.experiment.data.open()
        index = even_positions(source.sizes["train"], IMAGES)
        images = load_some(source, index, net.canvas, net.channels, net.experiment.resize).images[SOME][:]
        if len(images):
            return np.asarray(images)
    except InputError:
        pass
    return np.random.default_rng(0).integers(0, 256, (IMAGES, net.canvas, net.canvas, net.channels), np.uint8)


def expected(net: Predictor, images: np.ndarray) -> np.ndarray:
    """Return the logits of the run's own network for stored images, in float32 [n, classes]."""
    network = net.programs.network

    @jax.jit
    def logits(some: Array) -> Array:
        return network.apply(net.params, net.stats, kernel.resize(some, net.size, network.plain))[0]

    return np.asarray(logits(images))


def difference(logits: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest difference of logits, relative to the largest one where that exceeds 1; infinite if one is not finite."""
    largest = float(np.abs(logits - wanted).max() / max(np.abs(wanted).max(), 1))
    return largest if np.isfinite(largest) else np.inf
