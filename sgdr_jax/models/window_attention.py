"""Attention within windows of an image, and merging of neighbouring pixels: the parts of Swin Transformer V2."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from .blocks import LayerNorm, Mode, PixelLinear, Sequential, empty
from .precision import precise, precision

HIDDEN = 512  # width of the layer that makes biases of positions
STEEPEST = float(np.log(100))  # most of log_scale
APART = -100.0  # what similarities of pixels from opposite edges of the image get


class Windows(NamedTuple):
    """How an axis of an image is cut into windows.

    Attributes:
        pixels: of the axis.
        size: of a window.
        shift: by how many pixels the axis is rolled to the left first.
    """

    pixels: int
    size: int
    shift: int

    @property
    def number(self) -> int:
        """Number of windows, the last of which may be padded."""
        return -(-self.pixels // self.size)

    def regions(self) -> np.ndarray:
        """Return, for each place of the rolled axis, which of the parts that were apart before it belongs to: int [windows, size].

        >>> Windows(8, 4, 2).regions().tolist()
        [[0, 0, 0, 0], [1, 1, 2, 2]]
        """
        padded = self.number * self.size
        edges = [padded - self.size, padded - self.shift] if self.shift else []
        return np.searchsorted(edges, np.arange(padded), "right").reshape(-1, self.size)


def windows(pixels: int, size: int, *, shifted: bool) -> Windows:
    """Cut an axis into windows of `size`, or into a single one of its own length if that is no larger; a single one is not shifted.

    >>> windows(56, 8, shifted=True), windows(7, 8, shifted=True)
    (Windows(pixels=56, size=8, shift=4), Windows(pixels=7, size=7, shift=0))
    """
    return Windows(pixels, pixels, 0) if pixels <= size else Windows(pixels, size, size // 2 if shifted else 0)


class WindowAttention(nnx.Module):
    """Self-attention of the pixels of every window of an image [b, h, w, c], with weights softmax(scale · cos(query, key) + bias).

    Each head has one scale, exp(min(log_scale, log 100)). Biases are 16 · sigmoid of what two layers make of the distance between two
    pixels, as `_distances` gives it. Images are padded with zeros at the bottom and the right to whole windows; with `shifted` they are
    rolled by half a window first, and pixels of opposite edges do not attend to each other.
    Source: Liu et al. 2022, "Swin Transformer V2".
    """

    def __init__(self, features: int, heads: int, window: int, *, shifted: bool):
        self.qkv = PixelLinear(features, 3 * features, bias=False)
        self.query_bias, self.value_bias = nnx.Param(empty(features)), nnx.Param(empty(features))
        self.log_scale = nnx.Param(empty(heads, 1, 1))
        self.positions = Sequential(
            {"hidden": PixelLinear(2, HIDDEN, activation=jax.nn.relu), "bias": PixelLinear(HIDDEN, heads, bias=False)}
        )
        self.project = PixelLinear(features, features)
        self.heads, self.window, self.shifted = heads, window, shifted

    def __call__(self, x: Array, mode: Mode) -> Array:
        rows, columns = (windows(n, self.window, shifted=self.shifted) for n in x.shape[1:3])
        parts = _cut(jnp.roll(x, (-rows.shift, -columns.shift), (1, 2)), rows, columns)
        y = self.project(self._attend(parts, rows, columns, mode), mode)
        return jnp.roll(_joined(y, rows, columns), (rows.shift, columns.shift), (1, 2))

    def _attend(self, x: Array, rows: Windows, columns: Windows, mode: Mode) -> Array:
        """Attend within windows [b · windows, pixels, c]."""
        n, c = x.shape[1:]
        bias = jnp.concatenate([self.query_bias[...], jnp.zeros(c), self.value_bias[...]]).astype(x.dtype)
        qkv = (self.qkv(x, mode) + bias).reshape(-1, n, 3, self.heads, c // self.heads)
        query, key, value = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        scale = jnp.exp(jnp.minimum(self.log_scale[...], STEEPEST))
        query, key = (_unit(query) * scale).astype(x.dtype), _unit(key).astype(x.dtype)
        scores = jnp.einsum("whqf,whkf->whqk", query, key, preferred_element_type=precision(x.dtype)) + self._biases(rows, columns, mode)
        if rows.shift or columns.shift:
            apart = _apart(rows, columns)
            scores = (scores.reshape(-1, len(apart), *scores.shape[1:]) + apart[:, None]).reshape(scores.shape)
        y = jnp.einsum("whqk,whkf->whqf", jax.nn.softmax(scores).astype(x.dtype), value)
        return y.transpose(0, 2, 1, 3).reshape(x.shape)

    def _biases(self, rows: Windows, columns: Windows, mode: Mode) -> Array:
        """Return the bias of every pair of pixels of a window, float32 [heads, pixels, pixels]."""
        table = 16 * jax.nn.sigmoid(self.positions(jnp.asarray(_distances(rows.size, columns.size)), mode))
        y, x = (axis.ravel() for axis in np.indices((rows.size, columns.size)))
        place = (y[:, None] - y + rows.size - 1) * (2 * columns.size - 1) + x[:, None] - x + columns.size - 1
        return table[place].transpose(2, 0, 1)


class PatchMerging(nnx.Module):
    """Every 2×2 pixels to one of twice as many features, by a linear layer and normalisation: [b, h, w, c] to [b, ⌈h/2⌉, ⌈w/2⌉, 2 · c]."""

    def __init__(self, features: int, eps: float):
        self.reduce, self.norm = PixelLinear(4 * features, 2 * features, bias=False), LayerNorm(2 * features, eps)

    def __call__(self, x: Array, mode: Mode) -> Array:
        _, h, w, c = x.shape
        x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
        x = x.reshape(-1, (h + 1) // 2, 2, (w + 1) // 2, 2, c).transpose(0, 1, 3, 4, 2, 5)
        return self.norm(self.reduce(x.reshape(*x.shape[:3], 4 * c), mode), mode)


def _cut(x: Array, rows: Windows, columns: Windows) -> Array:
    """Return images [b, h, w, c] as windows [b · windows, pixels, c]."""
    padding = ((0, axis.number * axis.size - axis.pixels) for axis in (rows, columns))
    x = jnp.pad(x, ((0, 0), *padding, (0, 0))).reshape(-1, rows.number, rows.size, columns.number, columns.size, x.shape[-1])
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows.size * columns.size, x.shape[-1])


def _joined(x: Array, rows: Windows, columns: Windows) -> Array:
    """Return windows as images, without what padded them."""
    x = x.reshape(-1, rows.number, columns.number, rows.size, columns.size, x.shape[-1]).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(-1, rows.number * rows.size, columns.number * columns.size, x.shape[-1])
    return x[:, : rows.pixels, : columns.pixels]


def _apart(rows: Windows, columns: Windows) -> np.ndarray:
    """Return what is added to similarities between regions of a rolled image, float32 [windows, pixels, pixels]."""
    regions = 3 * rows.regions()[:, None, :, None] + columns.regions()[None, :, None, :]
    regions = regions.reshape(rows.number * columns.number, -1)
    return np.where(regions[:, :, None] == regions[:, None, :], 0, APART).astype(np.float32)


def _distances(height: int, width: int) -> np.ndarray:
    """Return all distances between two pixels of a window, float32 [(2 · height - 1) · (2 · width - 1), 2].

    A distance d, of at most n - 1 pixels along an axis, is sign(d) · log2(1 + 8 · |d| / (n - 1)) / log2(8).
    """
    axes = (8 * np.arange(1 - n, n, dtype=np.float32) / max(n - 1, 1) for n in (height, width))
    y, x = (np.sign(axis) * np.log2(1 + np.abs(axis)) / 3 for axis in axes)
    return np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)


def _unit(x: Array) -> Array:
    """Return vectors [..., features] of length 1 in float32; zeros remain."""
    wide = precise(x)
    # The length has no gradient at 0.
    return wide * lax.rsqrt(jnp.maximum(jnp.square(wide).sum(-1, keepdims=True), 1e-24))
