"""Depthwise convolution (each channel with a separate kernel) as a sum of shifted images, for CPU, where XLA's is 30 times slower."""

from __future__ import annotations

from collections.abc import Iterator

import jax.numpy as jnp
from jax import Array

from .precision import precise, precision

type Pairs = tuple[tuple[int, int], tuple[int, int]]


def taps(kernel: Array) -> Iterator[tuple[int, int]]:
    """Iterate over row and column of every entry of a kernel [kh, kw, ...]."""
    return ((i, j) for i in range(kernel.shape[0]) for j in range(kernel.shape[1]))


def conv(x: Array, kernel: Array, stride: int, padding: Pairs) -> Array:
    """Convolve padded x [b, h, w, c] with a depthwise kernel [kh, kw, c]; sums are float32, the result is in the dtype of `x`."""
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = ((n - k) // stride + 1 for n, k in zip(padded.shape[1:3], kernel.shape[:2], strict=True))
    return summed(padded, kernel, stride, height, width)


def summed(x: Array, kernel: Array, stride: int, height: int, width: int) -> Array:
    """Return the first `height` rows and `width` columns of the convolution of padded images."""
    rows, columns = (height - 1) * stride + 1, (width - 1) * stride + 1
    y = jnp.zeros((), precision(x.dtype))
    for i, j in taps(kernel):
        y = y + precise(x[:, i : i + rows : stride, j : j + columns : stride]) * precise(kernel[i, j])
    return y.astype(x.dtype)
