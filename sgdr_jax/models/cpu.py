"""Convolutions on CPU, where XLA's implementation is slow: other arithmetic for the same numbers, chosen by shape.

Arguments and results are those of `layers.conv`, with `padding` as ((top, bottom), (left, right)). Every rewrite is justified by a
measurement: figures in comments are milliseconds on two Zen 5 cores in float32 with jax 0.12, for 32 images unless they say "a step", which
is one of training EfficientNet-Lite0 at 96 pixels, batch 64, and took 450.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from . import shifts, winograd
from .precision import precision
from .shifts import Pairs

CACHE = 12 << 20  # bytes of patches that fit in the cache during a matrix product
SLICE = 2 * 224 * 224 * 3 * 4  # bytes of images whose activations, the largest of which have ten times as many, fit in the cache


def conv(x: Array, kernel: Array, stride: int, padding: Pairs, groups: int) -> Array:
    """Convolve x [b, h, w, i] with kernel [kh, kw, i / groups, o]; see `layers.conv`."""
    if groups == x.shape[-1] == kernel.shape[-1]:
        return _depthwise(x, kernel[:, :, 0], stride, padding)
    if groups > 1:
        return _grouped(x, kernel, stride, padding, groups)
    if kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
        # 256 -> 64 channels at 56 pixels, 16 images: 7 instead of the 39 of lax's 1×1 convolution.
        return linear(x[:, ::stride, ::stride], kernel[0, 0])
    return _dense(x, kernel, stride, padding)


# ---- Batches ----


def in_slices(function: Callable[[Array], Array], x: Array, least: int) -> Array:
    """Apply a function of examples x [b, ...] to `least` or more of them at a time, to as many as fit in the cache: no gradient.

    Prediction for 32 images, by a group at a time, on a Zen 4 of two cores: EfficientNet-Lite0 at 96, 128 and 224 pixels 58, 85 and 219
    instead of 76, 143 and 349; MobileNetV3-Large at 224 172 instead of 266, ViT-S/16 1,600 instead of 1,970, ResNet-50 1,630 instead of
    1,790; ResNet-18 at 128 as before.
    """
    lanes = math.gcd(x.shape[0], jax.device_count())  # see _depthwise_dkernel
    each = x.shape[0] // lanes
    most = max(SLICE // (math.prod(x.shape[1:]) * x.dtype.itemsize), least)
    size = max(n for n in range(1, each + 1) if each % n == 0 and n <= most)
    if size == each or 2 * size < most:  # of few divisors: slices much smaller than they might be are slow
        return function(x)
    slices = x.reshape(lanes, -1, size, *x.shape[1:])

    def one(index: Array) -> Array:
        part = lax.dynamic_index_in_dim(slices, index, 1, keepdims=False)
        y = function(part.reshape(-1, *x.shape[1:]))
        return y.reshape(lanes, size, *y.shape[1:])

    y = jnp.moveaxis(lax.map(one, jnp.arange(slices.shape[1])), 0, 1)
    return y.reshape(-1, *y.shape[3:])


# ---- 1×1 ----


@jax.custom_vjp
def linear(x: Array, kernel: Array) -> Array:
    """Multiply x [..., i] with kernel [i, o]."""
    return x @ kernel


def _linear_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    # Without the barrier XLA fuses the computation of g into a transposing copy for the product below: 150 in a step.
    flat = lax.optimization_barrier(g).reshape(-1, g.shape[-1])
    dkernel = lax.dot_general(x.reshape(-1, x.shape[-1]), flat, (((0,), (0,)), ((), ())))
    return (flat @ kernel.T).reshape(x.shape), dkernel


linear.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _linear_backward)


# ---- Activations ----


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def clip(x: Array, most: float) -> Array:
    """Return min(max(x, 0), most), with slope 0 where it is cut off and a gradient that keeps the result alone.

    With the factor of `blocks.ConvBN` an update of EfficientNet-Lite0 with stored statistics, 32 images of 128 pixels, takes 308 instead of
    345, in 307 instead of 553 MiB; neither gains anything alone, since the other keeps the activation's input.
    """
    return jnp.clip(x, 0, most)


def _clip_forward(x: Array, most: float) -> tuple[Array, tuple[Array]]:
    # Without the barrier XLA keeps x for the gradient and computes the result again.
    y = lax.optimization_barrier(clip(x, most))
    return y, (y,)


def _clip_backward(most: float, saved: tuple[Array], g: Array) -> tuple[Array]:
    (y,) = saved
    return (jnp.where((y > 0) & (y < most), g, jnp.zeros_like(g)),)


clip.defvjp(_clip_forward, _clip_backward)


# ---- Attention ----


@jax.custom_vjp
def attention(query: Array, key: Array, value: Array) -> Array:
    """Return softmax(query · key / √features) · value, all [b, n, heads, features]; see `layers.attention`.

    Products of whole heads, with softmax's division after the second one. Processor time of ViT-S/16 for 16 images of 224 pixels on a Xeon:
    1.35 instead of the 1.5 s of `jax.nn.dot_product_attention`, with gradients 5.1 instead of 5.4.
    """
    return _attention_forward(query, key, value)[0]


def _attention_forward(query: Array, key: Array, value: Array) -> tuple[Array, tuple[Array, ...]]:
    q, k, v = (_heads(x) for x in (query * (1 / np.sqrt(query.shape[-1])).astype(query.dtype), key, value))
    scores = _products(q, k, 2, 2)
    shares = jnp.exp(scores - scores.max(-1, keepdims=True))
    inverse = 1 / shares.sum(-1, keepdims=True)
    y = _products(shares.astype(v.dtype), v, 2, 1) * inverse
    return _places(y.astype(query.dtype), query), (query, q, k, v, shares, inverse, y)


def _attention_backward(saved: tuple[Array, ...], g: Array) -> tuple[Array, Array, Array]:
    query, q, k, v, shares, inverse, y = saved
    # Without the barriers XLA computes g and the slopes of the scores again inside each product.
    g = lax.optimization_barrier(_heads(g))
    wide = g.astype(inverse.dtype)
    along = (wide * y).sum(-1, keepdims=True)
    slopes = lax.optimization_barrier((shares * inverse * (_products(g, v, 2, 2) - along)).astype(q.dtype))
    dv = _products(shares.astype(q.dtype), (wide * inverse).astype(q.dtype), 1, 1)
    dq = _products(slopes, k, 2, 1) / np.sqrt(query.shape[-1]).astype(inverse.dtype)
    dk = _products(slopes, q, 1, 1)
    return _places(dq.astype(query.dtype), query), _places(dk.astype(query.dtype), query), _places(dv.astype(query.dtype), query)


attention.defvjp(_attention_forward, _attention_backward)


def _heads(x: Array) -> Array:
    """Return [b, n, heads, features] as [b · heads, n, features]."""
    return x.transpose(0, 2, 1, 3).reshape(-1, x.shape[1], x.shape[3])


def _places(x: Array, like: Array) -> Array:
    """Return [b · heads, n, features] as [b, n, heads, features]."""
    return x.reshape(like.shape[0], like.shape[2], *x.shape[1:]).transpose(0, 2, 1, 3)


def _products(a: Array, b: Array, i: int, j: int) -> Array:
    """Multiply matrices in pairs, contracting axis i of `a` with axis j of `b`; sums are float32."""
    return lax.dot_general(a, b, (((i,), (j,)), ((0,), (0,))), preferred_element_type=precision(a.dtype))


# ---- Dense ----


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _dense(x: Array, kernel: Array, stride: int, padding: Pairs) -> Array:
    return _dense_forward(x, kernel, stride, padding)


def _dense_forward(x: Array, kernel: Array, stride: int, padding: Pairs) -> Array:
    high, wide = ((n + sum(a) - k) // stride + 1 for n, a, k in zip(x.shape[1:3], padding, kernel.shape[:2], strict=True))
    if x.shape[-1] >= 128 and x.shape[0] * high * wide * kernel[..., 0].size * x.dtype.itemsize <= CACHE:
        # 512 channels at 4 pixels: 6.7 instead of 8.9. Patches that do not fit in the cache lose what the product gains.
        patches = _patches(x, kernel.shape[:2], stride, padding)
        return (patches @ kernel.reshape(-1, kernel.shape[-1])).reshape(x.shape[0], high, wide, -1)
    return _lax(x, kernel, stride, padding)


def _lax(x: Array, kernel: Array, stride: int, padding: Pairs) -> Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _dense_backward(stride: int, padding: Pairs, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    if stride == 1:
        # Every pixel of x gathers its contributions to y: a convolution of g with the flipped kernel.
        rows, columns = ((k - 1 - a, k - 1 - b) for k, (a, b) in zip(kernel.shape[:2], padding, strict=True))
        dx = _dense_forward(g, jnp.swapaxes(kernel[::-1, ::-1], 2, 3), 1, (rows, columns))
    else:
        (dx,) = jax.linear_transpose(lambda x: _lax(x, kernel, stride, padding), x)(g)
    return dx, _dense_dkernel(x, g, kernel, stride, padding)


def _dense_dkernel(x: Array, g: Array, kernel: Array, stride: int, padding: Pairs) -> Array:
    """Compute the gradient of a kernel of this shape."""
    if kernel.shape[:2] == (3, 3) and stride == 1 and min(g.shape[1:3]) >= 6 and min(kernel.shape[2:]) >= 32:
        # 256 channels at 8 pixels: 6 instead of 18.
        return winograd.kernel_gradient(x, g, padding).astype(kernel.dtype)
    return _patches_dkernel(x, g, kernel, stride, padding)


_dense.defvjp(lambda x, kernel, stride, padding: (_dense_forward(x, kernel, stride, padding), (x, kernel)), _dense_backward)


def _patches(x: Array, size: tuple[int, ...], stride: int, padding: Pairs) -> Array:
    """Return the inputs of every output pixel as rows: [b · h' · w', kh · kw · i]."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    high, wide = ((n - k) // stride * stride + 1 for n, k in zip(x.shape[1:3], size, strict=True))
    taps = [x[:, i : i + high : stride, j : j + wide : stride] for i in range(size[0]) for j in range(size[1])]
    return jnp.concatenate(taps, -1).reshape(-1, len(taps) * x.shape[-1])


def _patches_dkernel(x: Array, g: Array, kernel: Array, stride: int, padding: Pairs) -> Array:
    """Compute patchesᵀ · g, with as many images at a time as keep their patches in the cache.

    ResNet's first convolution at 128 pixels: 25 instead of the 42 of lax, half of which is transposing.
    """
    each = g[0, :, :, 0].size * kernel[..., 0].size * x.dtype.itemsize
    if each * g.shape[0] <= CACHE:
        return _patches_sum(x, g, kernel, stride, padding).astype(kernel.dtype)
    lanes = math.gcd(g.shape[0], jax.device_count())  # see _depthwise_dkernel
    images = max(n for n in range(1, g.shape[0] // lanes + 1) if g.shape[0] // lanes % n == 0 and (n == 1 or n * each <= CACHE // 2))
    x, g = (a.reshape(lanes, -1, images, *a.shape[1:]) for a in (x, g))

    def add(index: Array, total: Array) -> Array:
        blocks = (lax.dynamic_index_in_dim(a, index, 1, keepdims=False) for a in (x, g))
        return total + jax.vmap(lambda x, g: _patches_sum(x, g, kernel, stride, padding))(*blocks)

    return jnp.sum(lax.fori_loop(0, x.shape[1], add, jnp.zeros((lanes, *kernel.shape), precision(x.dtype))), 0).astype(kernel.dtype)


def _patches_sum(x: Array, g: Array, kernel: Array, stride: int, padding: Pairs) -> Array:
    patches = lax.optimization_barrier(_patches(x, kernel.shape[:2], stride, padding))
    total = lax.dot_general(patches, g.reshape(-1, g.shape[-1]), (((0,), (0,)), ((), ())), preferred_element_type=precision(x.dtype))
    return total.reshape(kernel.shape)


# ---- Groups ----

BLOCK = 16  # channels of a dense convolution that replaces several groups: a vector of the processor
MOST = 32  # such convolutions, each of which is compiled by itself


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _grouped(x: Array, kernel: Array, stride: int, padding: Pairs, groups: int) -> Array:
    """Convolve runs of neighbouring groups as one dense convolution each, whose kernel is zero between groups.

    32 groups of 4 channels at 32 pixels: 13 instead of lax's 43, and 29 instead of its 7,800 for the gradients.
    """
    return jnp.concatenate([conv(x[..., a], kernel[..., b]) for a, b, conv in _runs(kernel, stride, padding, groups)], -1)


def _grouped_backward(stride: int, padding: Pairs, groups: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    # Joined once: what jax derives for a slice of channels adds its gradient to zeros for all of them.
    parts = [jax.vjp(conv, x[..., a], kernel[..., b])[1](g[..., b]) for a, b, conv in _runs(kernel, stride, padding, groups)]
    return jnp.concatenate([dx for dx, _ in parts], -1), jnp.concatenate([dkernel for _, dkernel in parts], -1)


_grouped.defvjp(lambda x, kernel, stride, padding, groups: (_grouped(x, kernel, stride, padding, groups), (x, kernel)), _grouped_backward)


def _runs(kernel: Array, stride: int, padding: Pairs, groups: int) -> list[tuple[slice, slice, Callable[[Array, Array], Array]]]:
    """Cut the groups into runs, as equal as can be; return the input and output channels of each, and its convolution."""
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    each = max(BLOCK // inputs, -(-groups // MOST), 1)
    parts = -(-groups // each)
    edges = [groups * i // parts for i in range(parts + 1)]

    def conv(x: Array, kernel: Array) -> Array:
        length = kernel.shape[3] // outputs
        run = kernel.reshape(*kernel.shape[:3], length, outputs)
        dense = run[:, :, None] * jnp.eye(length, dtype=kernel.dtype)[:, None, :, None]
        return _lax(x, dense.reshape(*kernel.shape[:2], length * inputs, -1), stride, padding)

    return [(slice(a * inputs, b * inputs), slice(a * outputs, b * outputs), conv) for a, b in pairwise(edges)]


# ---- Depthwise ----


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: Array, kernel: Array, stride: int, padding: Pairs) -> Array:
    return shifts.conv(x, kernel, stride, padding)


def _depthwise_backward(stride: int, padding: Pairs, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return _depthwise_dx(g, kernel, stride, padding, x.shape[1], x.shape[2]), _depthwise_dkernel(x, g, kernel, stride, padding)


_depthwise.defvjp(lambda x, kernel, stride, padding: (_depthwise(x, kernel, stride, padding), (x, kernel)), _depthwise_backward)


def _depthwise_dx(g: Array, kernel: Array, stride: int, padding: Pairs, height: int, width: int) -> Array:
    """Compute the gradient of x as a small convolution of g for each phase (p, q).

    Row stride·u + p of the padded image meets only the kernel's rows p, p + stride, …; convolving a g dilated by the stride would mostly
    multiply zeros.
    """
    (top, bottom), (left, right) = padding
    tall, wide = -(-(height + top + bottom) // stride), -(-(width + left + right) // stride)

    def phase(p: int, q: int) -> Array:
        part = kernel[p::stride, q::stride][::-1, ::-1]
        if not part.size:
            return jnp.zeros((g.shape[0], tall, wide, g.shape[3]), g.dtype)
        above, before = part.shape[0] - 1, part.shape[1] - 1
        edges = (0, 0, 0), (above, tall - g.shape[1], 0), (before, wide - g.shape[2], 0), (0, 0, 0)
        return shifts.summed(lax.pad(g, jnp.zeros((), g.dtype), edges), part, 1, tall, wide)

    dx = jnp.stack([jnp.stack([phase(p, q) for q in range(stride)], 3) for p in range(stride)], 2)
    return dx.reshape(g.shape[0], tall * stride, wide * stride, g.shape[3])[:, top : top + height, left : left + width]


def _depthwise_dkernel(x: Array, g: Array, kernel: Array, stride: int, padding: Pairs) -> Array:
    """Sum x · g over images, rows and columns for every tap, in a loop over images, so that both stay in the cache.

    The loop only multiplies and adds: the sum of a tap over every n-th row goes to an accumulator of rows; these are reduced once, after
    the loop. 60 in a step; reducing the whole batch tap by tap takes 450, and that many reductions double the time to compile.
    """
    height, width, channels = g.shape[1:]
    n = max(n for n in range(1, 9) if height % n == 0)
    rows, columns = (height // n - 1) * n * stride + 1, (width - 1) * stride + 1
    # With several devices, one image of each at a time: a loop over the batch itself would gather it on all of them.
    lanes, wide = math.gcd(g.shape[0], jax.device_count()), precision(x.dtype)
    x, g = (a.reshape(lanes, -1, *a.shape[1:]) for a in (x, g))

    def add(index: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        images, slopes = (lax.dynamic_index_in_dim(a, index, 1, keepdims=False).astype(wide) for a in (x, g))
        images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
        totals = []
        for (i, j), total in zip(shifts.taps(kernel), sums, strict=True):
            for r in range(n):
                top = i + r * stride
                total = total + images[:, top : top + rows : n * stride, j : j + columns : stride] * slopes[:, r::n]
            totals.append(total)
        return tuple(totals)

    sums = lax.fori_loop(0, x.shape[1], add, tuple(jnp.zeros((lanes, height // n, width, channels), wide) for _ in shifts.taps(kernel)))
    return jnp.stack([jnp.sum(total, (0, 1, 2)) for total in sums]).reshape(kernel.shape).astype(kernel.dtype)
