"""Pooling and heads. Pooling belongs to the last group of the body, so that an activation cache stores its result."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from .blocks import BatchNorm, Conv, Linear, Mode
from .precision import precise

type Module = Callable[[Array, Mode], Array]

EPS = 1e-5
"""Added to the variances of the head's batch normalisation."""


class ConcatPool(nnx.Module):
    """Maximum and mean over the image, in this order, each through `then`: [b, h, w, c] to float32 [b, 2 · features].

    Source: fastai.
    """

    def __init__(self, then: Module | None = None):
        self.then = then

    def __call__(self, x: Array, mode: Mode) -> Array:
        # The gradient of max compares x with its maximum. Without the barrier XLA may compute x twice with different rounding: then no
        # value is equal, and the gradient is zero or not finite.
        x = jax.lax.optimization_barrier(precise(x))
        # Side by side, so that batch statistics in `then` are those of both, in training as in evaluation.
        return _flat(jnp.concatenate([x.max((1, 2), keepdims=True), x.mean((1, 2), keepdims=True)], axis=1), self.then, mode)


class AveragePool(nnx.Module):
    """Mean over the image, through `then`: [b, h, w, c] to float32 [b, features]."""

    def __init__(self, then: Module | None = None):
        self.then = then

    def __call__(self, x: Array, mode: Mode) -> Array:
        # jaxlib 0.12.0.1 on CPU returns values that are not finite, or 1e36, where it fuses this mean with rounded activations before it.
        rounded = x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu"
        x = jax.lax.optimization_barrier(precise(x)) if rounded else precise(x)
        return _flat(x.mean((1, 2), keepdims=True), self.then, mode)


def _flat(x: Array, then: Module | None, mode: Mode) -> Array:
    return (x if then is None else then(x, mode)).reshape(x.shape[0], -1)


def dropout(x: Array, rate: float, mode: Mode, key: Array | None) -> Array:
    """Set a share `rate` (0…1, below 1) of the values to zero and scale the others up; without a key return `x`.

    If the batch is split over a mapped axis, each part takes its rows of the random mask of the whole batch.
    """
    if key is None or rate == 0:
        return x
    parts, part = (1, 0) if mode.axis is None else (jax.lax.axis_size(mode.axis), jax.lax.axis_index(mode.axis))
    keep = jax.random.bernoulli(key, jnp.float32(1 - rate), (parts * len(x), *x.shape[1:]))
    if parts > 1:
        keep = jax.lax.dynamic_slice_in_dim(keep, part * len(x), len(x))
    return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))


class Head(nnx.Module):
    """BN → dropout → linear `hidden` → ReLU → BN → dropout → linear `classes`; without a hidden layer BN → dropout → linear.

    Computes in float32 throughout: its share of the arithmetic is small, and cached activations are float32. Source: fastai 0.7.
    """

    def __init__(self, features: int, hidden: int, classes: int, rates: tuple[float, float]):
        self.rates = rates
        if hidden:
            self.bn1, self.linear1 = BatchNorm(features, EPS), Linear(features, hidden)
        self.bn2, self.linear2 = BatchNorm(hidden or features, EPS), Linear(hidden or features, classes)
        self.hidden = hidden

    def __call__(self, x: Array, mode: Mode) -> Array:
        keys = (None, None) if mode.key is None else tuple(jax.random.split(mode.key))
        if self.hidden:
            x = jax.nn.relu(self.linear1(dropout(self.bn1(x, mode), self.rates[0], mode, keys[0])))
        return self.linear2(dropout(self.bn2(x, mode), self.rates[1], mode, keys[1]))


class LinearHead(nnx.Module):
    """One linear layer: the classifier of ImageNet weights."""

    def __init__(self, features: int, classes: int):
        self.linear = Linear(features, classes)

    def __call__(self, x: Array, mode: Mode) -> Array:
        return self.linear(x)


class GridPool(nnx.Module):
    """Means over a grid of cells that cover the image, overlapping where necessary: [b, h, w, c] to float32 [b, cells, cells, c].

    Cell i of a side of n pixels is floor(i · n / cells) … ceil((i + 1) · n / cells). Source: torch's adaptive average pooling.
    """

    def __init__(self, cells: int):
        self.cells = cells

    def __call__(self, x: Array, mode: Mode) -> Array:
        return jnp.einsum("ih,jw,bhwc->bijc", self._shares(x.shape[1]), self._shares(x.shape[2]), precise(x))

    def _shares(self, side: int) -> np.ndarray:
        shares = np.zeros((self.cells, side), np.float32)
        for i in range(self.cells):
            cell = slice(i * side // self.cells, -(-(i + 1) * side // self.cells))
            shares[i, cell] = 1 / (cell.stop - cell.start)
        return shares


class WideHead(nnx.Module):
    """VGG's classifier: two wide layers with ReLU, the first over all cells of a grid at once, then a linear layer."""

    def __init__(self, cells: int, features: int, wide: tuple[int, int], classes: int):
        self.wide1, self.wide2 = Conv(cells, features, wide[0], bias=True), Conv(1, wide[0], wide[1], bias=True)
        self.linear = Linear(wide[1], classes)

    def __call__(self, x: Array, mode: Mode) -> Array:
        x = jax.nn.relu(self.wide2(jax.nn.relu(self.wide1(x, mode)), mode))
        return self.linear(x[:, 0, 0])
