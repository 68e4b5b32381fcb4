"""The few functions that convolutional networks spend their time in, and the one place where their CPU lowering is chosen.

Images are [b, h, w, channels]. A `padding` is an int (that many zeros on every side), "SAME" (TensorFlow's: output side =
ceil(side / stride), the odd zero goes to the bottom and right) or explicit pairs ((top, bottom), (left, right)).

Figures in the comments: EfficientNet-Lite0 training at 96 pixels, batch 64, float32, milliseconds of processor time per step
on two Zen 5 cores with jax 0.12.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

Pairs = tuple[tuple[int, int], tuple[int, int]]
Padding = int | str | Pairs


def pads(padding: Padding, size: tuple[int, int], kernel: tuple[int, int], stride: int) -> Pairs:
    """Explicit ((top, bottom), (left, right)) zeros for an image and a kernel of these (height, width).

    >>> pads("SAME", (8, 7), (3, 3), 2)
    ((0, 1), (1, 1))
    """
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    if isinstance(padding, str):
        if padding != "SAME":
            raise ValueError(f'padding {padding!r} is not "SAME", an int or explicit pairs')
        total = [max((-(-n // stride) - 1) * stride + k - n, 0) for n, k in zip(size, kernel, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    return padding


_portable = ContextVar("portable", default=False)


@contextmanager
def portable() -> Iterator[None]:
    """While this block traces, every convolution is lax's own, on every platform: for counting arithmetic and for comparisons."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu" and not _portable.get()


def conv(x: Array, kernel: Array, stride: int = 1, padding: Padding = 0, groups: int = 1) -> Array:
    """Convolution (no kernel flip): x [b, h, w, i] with kernel [kh, kw, i / groups, o] to [b, h', w', o], in the dtype of `x`.

    With several groups the channels are cut into as many runs, and each run of outputs sees its own run of inputs only.
    """
    kernel = kernel.astype(x.dtype)
    around = pads(padding, (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1]), stride)
    if kernel.shape[:2] == (1, 1) and around == ((0, 0), (0, 0)) and groups == 1:
        # A matrix product is 5x faster than lax's 1x1 convolution on CPU and the same thing elsewhere.
        x = x[:, ::stride, ::stride]
        return _pointwise(x, kernel[0, 0]) if _on_cpu() else x @ kernel[0, 0]
    if groups == x.shape[-1] == kernel.shape[-1] and _on_cpu():
        return _depthwise(x, kernel[:, :, 0], stride, around)
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), around, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


def batch_norm_train(x: Array, scale: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """(x - mean) / sqrt(var + eps) · scale + bias over all axes but the last; also gives the float32 mean and the biased variance [c].

    The arithmetic is float32 whatever the dtype of `x`, which is the dtype of the result. The variance is E[x²] - E[x]², so its
    relative error is about 1e-7 · (1 + mean² / var). Source: Ioffe & Szegedy 2015.
    """
    return _batch_norm(x, scale, bias, eps)


def batch_norm_apply(x: Array, scale: Array, bias: Array, mean: Array, var: Array, eps: float) -> Array:
    """(x - mean) / sqrt(var + eps) · scale + bias with given float32 statistics [c], in the dtype of `x`."""
    factor = lax.rsqrt(var + eps) * scale
    return (x.astype(jnp.float32) * factor + (bias - mean * factor)).astype(x.dtype)


@jax.custom_vjp
def _pointwise(x: Array, kernel: Array) -> Array:
    return x @ kernel


def _pointwise_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    # Without the barrier XLA fuses the producer of g into a transposing copy of it: 670 instead of 500 ms.
    flat = lax.optimization_barrier(g).reshape(-1, g.shape[-1])
    dkernel = lax.dot_general(x.reshape(-1, x.shape[-1]), flat, (((0,), (0,)), ((), ())))
    return (flat @ kernel.T).reshape(x.shape), dkernel


_pointwise.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _pointwise_backward)


def _shifted(x: Array, kernel: Array, stride: int, height: int, width: int) -> Array:
    """Depthwise convolution of a padded image as a sum of shifted images: 30x faster on CPU than lax's grouped convolution."""
    rows, columns = (height - 1) * stride + 1, (width - 1) * stride + 1
    y = jnp.zeros((), x.dtype)
    for i, j in _taps(kernel):
        y = y + x[:, i : i + rows : stride, j : j + columns : stride] * kernel[i, j]
    return y


def _taps(kernel: Array) -> list[tuple[int, int]]:
    return [(i, j) for i in range(kernel.shape[0]) for j in range(kernel.shape[1])]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: Array, kernel: Array, stride: int, around: Pairs) -> Array:
    padded = jnp.pad(x, ((0, 0), *around, (0, 0)))
    return _shifted(padded, kernel, stride, *((n - k) // stride + 1 for n, k in zip(padded.shape[1:3], kernel.shape, strict=False)))


def _depthwise_backward(stride: int, around: Pairs, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return _depthwise_dx(g, kernel, stride, around, x.shape[1], x.shape[2]), _depthwise_dkernel(x, g, kernel, stride, around)


_depthwise.defvjp(lambda x, kernel, stride, around: (_depthwise(x, kernel, stride, around), (x, kernel)), _depthwise_backward)


def _depthwise_dx(g: Array, kernel: Array, stride: int, around: Pairs, height: int, width: int) -> Array:
    """Row stride·u + p of the padded image was met by the kernel's rows p, p + stride, … only: a small convolution for each phase (p, q).

    Convolving a dilated g instead would multiply mostly zeros, stride² times as many.
    """
    (top, bottom), (left, right) = around
    tall, wide = -(-(height + top + bottom) // stride), -(-(width + left + right) // stride)

    def phase(p: int, q: int) -> Array:
        part = kernel[p::stride, q::stride][::-1, ::-1]
        before = part.shape[0] - 1, part.shape[1] - 1
        edges = ((0, 0, 0), (before[0], tall - g.shape[1], 0), (before[1], wide - g.shape[2], 0), (0, 0, 0))
        padded = lax.pad(g, jnp.zeros((), g.dtype), edges)
        return _shifted(padded, part, 1, tall, wide) if part.size else jnp.zeros((g.shape[0], tall, wide, g.shape[3]), g.dtype)

    dx = jnp.stack([jnp.stack([phase(p, q) for q in range(stride)], 3) for p in range(stride)], 2)
    return dx.reshape(g.shape[0], tall * stride, wide * stride, g.shape[3])[:, top : top + height, left : left + width]


def _depthwise_dkernel(x: Array, g: Array, kernel: Array, stride: int, around: Pairs) -> Array:
    """Sum of x · g over images, rows and columns for every tap, image by image in a loop so that both stay in the cache.

    Reducing whole batches tap by tap takes 3 to 9 times as long. Inside the loop only multiply-adds: a tap's sum over every n-th row is
    added to an accumulator of rows, and these are summed once at the end (a reduction per tap and image doubled the step).
    """
    height, width = g.shape[1:3]
    n = max(n for n in range(1, 7) if height % n == 0)
    rows, columns = (height // n - 1) * n * stride + 1, (width - 1) * stride + 1

    def image(sums: tuple[Array, ...], xg: tuple[Array, Array]) -> tuple[tuple[Array, ...], None]:
        x, g = xg
        x = jnp.pad(x, (*around, (0, 0)))
        totals = []
        for (i, j), total in zip(_taps(kernel), sums, strict=True):
            for r in range(n):
                top = i + r * stride
                total = total + x[top : top + rows : n * stride, j : j + columns : stride] * g[r::n]
            totals.append(total)
        return tuple(totals), None

    empty = tuple(jnp.zeros((height // n, width, g.shape[3]), g.dtype) for _ in _taps(kernel))
    sums, _ = lax.scan(image, empty, (x, g))
    return jnp.stack([total.sum((0, 1)) for total in sums]).reshape(kernel.shape)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _batch_norm(x: Array, scale: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    return _batch_norm_forward(x, scale, bias, eps)[0]


def _batch_norm_forward(x: Array, scale: Array, bias: Array, eps: float):
    wide = x.astype(jnp.float32)
    # Sums of x and x² leave XLA nothing to store between the passes; sums of (x - mean)² cost 100 ms more.
    mean, square = _mean(wide), _mean(wide * wide)
    var = jnp.maximum(square - mean * mean, 0)
    y = (wide - mean) * (lax.rsqrt(var + eps) * scale) + bias
    return (y.astype(x.dtype), mean, var), (x, scale, mean, var)


def _batch_norm_backward(eps: float, saved: tuple[Array, ...], cotangents: tuple[Array, Array, Array]):
    """The closed form, linear in g and x with coefficients [c]: two reductions and one pass; what autodiff makes of it costs 60 ms more."""
    x, scale, mean, var = saved
    g, dmean, dvar = cotangents
    count = x.size // x.shape[-1]
    wide, g = x.astype(jnp.float32), g.astype(jnp.float32)
    inverse = lax.rsqrt(var + eps)
    dbias = _mean(g)
    dscale = inverse * (_mean(g * wide) - mean * dbias)
    slope = 2 * dvar / count - scale * inverse * inverse * dscale
    dx = g * (scale * inverse) + (wide - mean) * slope + (dmean / count - scale * inverse * dbias)
    return dx.astype(x.dtype), dscale * count, dbias * count


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _mean(x: Array) -> Array:
    return jnp.sum(x, tuple(range(x.ndim - 1))) / (x.size // x.shape[-1])
