"""Convolutions, normalisations and activations on every platform.

`cpu` implements the convolutions for CPU, `gpu` depthwise ones for GPU; the others are lax's. Images are [b, h, w, channels]. A `padding`
is an int (zeros on every side), "SAME" (TensorFlow's: output side = ceil(side / stride), the odd zero goes to the bottom and right) or
explicit pairs ((top, bottom), (left, right)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from . import cpu, gpu
from .cpu import Pairs
from .precision import precise, precision

type Padding = int | str | Pairs
type Activation = Callable[[Array], Array]


def pads(padding: Padding, size: tuple[int, int], kernel: tuple[int, int], stride: int) -> Pairs:
    """Return explicit padding ((top, bottom), (left, right)) for an image and a kernel of these (height, width).

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
    """Trace every convolution in this block as lax's own, on every platform: to count arithmetic and to compare.

    A function that jax has traced before is not traced again: pass a new one.
    """
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def _platform() -> str:
    """Return the platform to trace for: "cpu", "gpu" or "tpu"; "portable" inside `portable`."""
    return "portable" if _portable.get() else jax.default_backend()


def conv(x: Array, kernel: Array, stride: int = 1, padding: Padding = 0, groups: int = 1) -> Array:
    """Convolve x [b, h, w, i] with kernel [kh, kw, i / groups, o], without flipping it, to [b, h', w', o] in the dtype of `x`.

    With several groups, inputs and outputs are cut into as many contiguous runs of channels, and each run of outputs depends only on its
    own run of inputs.
    """
    kernel = kernel.astype(x.dtype)
    pairs = pads(padding, (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1]), stride)
    if _platform() == "cpu":
        return cpu.conv(x, kernel, stride, pairs, groups)
    if kernel.shape[:2] == (1, 1) and pairs == ((0, 0), (0, 0)) and groups == 1:
        return x[:, ::stride, ::stride] @ kernel[0, 0]
    if _platform() == "gpu" and groups == x.shape[-1] == kernel.shape[-1]:
        return gpu.depthwise(x, kernel, stride, pairs)
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pairs, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


def in_slices(function: Callable[[Array], Array], x: Array, least: int) -> Array:
    """Apply a function whose rows depend on those of x [b, ...] alone; on a CPU to slices of at least `least` rows, one after the other."""
    return cpu.in_slices(function, x, least) if _platform() == "cpu" else function(x)


def linear(x: Array, kernel: Array) -> Array:
    """Multiply x [..., i] with kernel [i, o], to [..., o] in the dtype of `x`."""
    kernel = kernel.astype(x.dtype)
    return cpu.linear(x, kernel) if _platform() == "cpu" else x @ kernel


def attention(query: Array, key: Array, value: Array) -> Array:
    """Return softmax(query · key / √features) · value for queries, keys and values [b, n, heads, features]; the softmax is float32."""
    if _platform() == "cpu" and query.shape == key.shape:
        return cpu.attention(query, key, value)
    with jax.numpy_dtype_promotion("standard"):  # it adds float32 to bfloat16
        return jax.nn.dot_product_attention(query, key, value)


def gelu(x: Array) -> Array:
    """Return x · Φ(x), Φ being the distribution function of the normal distribution. Source: Hendrycks and Gimpel 2016."""
    return jax.nn.gelu(x, approximate=False) if _platform() in ("tpu", "portable") else _gelu(x)


@jax.custom_vjp
def _gelu(x: Array) -> Array:
    """Return x · Φ(x) in one pass, with a gradient that keeps x alone.

    Processor time of ViT-S/16 for 16 images of 224 pixels on a Xeon: 1.30 instead of the 1.35 s of `jax.nn.gelu`, and with gradients 4.9
    instead of 5.1. On an H200 `jax.nn.gelu` takes three passes in bfloat16.
    """
    return (precise(x) * _phi(precise(x))).astype(x.dtype)


def _gelu_backward(saved: tuple[Array], g: Array) -> tuple[Array]:
    x = saved[0].astype(precision(g.dtype))
    density = jnp.exp(-0.5 * x * x) * (2 * math.pi) ** -0.5
    return ((g.astype(x.dtype) * (_phi(x) + x * density)).astype(g.dtype),)


def _phi(x: Array) -> Array:
    return 0.5 * (1 + lax.erf(x * 2**-0.5))


_gelu.defvjp(lambda x: (_gelu(x), (x,)), _gelu_backward)


def relu6(x: Array) -> Array:
    """Return min(max(x, 0), 6)."""
    platform = _platform()
    return gpu.relu6(x) if platform == "gpu" else cpu.clip(x, 6) if platform == "cpu" else jax.nn.relu6(x)


def hard_swish(x: Array) -> Array:
    """Return x · relu6(x + 3) / 6. Source: Howard et al. 2019."""
    return gpu.hard_swish(x) if _platform() == "gpu" else jax.nn.hard_swish(x)


def activated(x: Array, bias: Array | None = None, activation: Activation | None = None) -> Array:
    """Add a bias [c] to x [..., c] and apply an activation, in the dtype of `x`; without a gradient's memory of more than x on a GPU."""
    if bias is None and activation is None:
        return x
    if _platform() == "gpu":
        return gpu.activated(x, bias, activation)
    y = x if bias is None else x + bias.astype(x.dtype)
    return activation(y) if activation else y


def layer_norm(x: Array, scale: Array, bias: Array | None, eps: float) -> Array:
    """Normalise each place of x [..., c]: (x - mean) / sqrt(var + eps) · scale + bias, with statistics over its channels, in float32."""
    if _platform() == "gpu":
        return gpu.recomputed(partial(_layer_norm, eps=eps))(x, scale, bias)
    return _layer_norm(computed_once(x), scale, bias, eps)


def _layer_norm(x: Array, scale: Array, bias: Array | None, eps: float) -> Array:
    wide = precise(x)
    wide = wide - wide.mean(-1, keepdims=True)
    var = jnp.square(wide).mean(-1, keepdims=True)
    y = wide * lax.rsqrt(var + eps) * scale
    return (y if bias is None else y + bias).astype(x.dtype)


def computed_once(x: Array) -> Array:
    """Return x; on a CPU, XLA is kept from computing it again for each of several uses, as it does with a sum of shifted images.

    A block of ConvNeXt-Nano at 32 pixels for 32 images, by processor time on a Xeon: 61 instead of 112 ms.
    """
    return lax.optimization_barrier(x) if _platform() == "cpu" else x


def batch_norm_train(
    x: Array, scale: Array, bias: Array, eps: float, axis: str | None = None, activation: Activation | None = None
) -> tuple[Array, Array, Array]:
    """Normalise with batch statistics: (x - mean) / sqrt(var + eps) · scale + bias, over all axes but the last; then an activation.

    Returns the result in the dtype of `x`, the float32 mean and the biased variance [c]. If the batch is split over a mapped `axis`, mean
    and variance are those of the whole batch, and no gradient flows through the returned ones; the gradients of scale and bias are those of
    this part of the batch.

    The arithmetic is float32 for every dtype of `x`. The variance is E[x²] - E[x]², so its relative error is about
    1e-7 · (1 + mean² / var). Source: Ioffe & Szegedy 2015.
    """
    if _platform() == "gpu":
        return _batch_norm(x, scale, bias, eps, axis, activation)
    y, mean, var = _batch_norm(x, scale, bias, eps, axis, None)
    return activated(y, activation=activation), mean, var


def affine(x: Array, factor: Array | None, shift: Array, activation: Activation | None = None) -> Array:
    """Return activation(x · factor + shift) for x [..., c], factor and shift float32 [c], in the dtype of `x`."""
    if _platform() == "gpu":
        return gpu.activated(x, shift, activation, factor)
    wide = precise(x)
    return activated((wide + shift if factor is None else wide * factor + shift).astype(x.dtype), activation=activation)


def moments(x: Array) -> tuple[Array, Array]:
    """Compute mean and biased variance of each example over all axes but the first and the last, float32 [b, c]."""
    wide = precise(x).reshape(x.shape[0], -1, x.shape[-1])
    mean = wide.mean(1)
    return mean, jnp.square(wide - mean[:, None]).mean(1)


type Norm = tuple[Array, Array, Array]


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _batch_norm(x: Array, scale: Array, bias: Array, eps: float, axis: str | None, activation: Activation | None) -> Norm:
    return _batch_norm_forward(x, scale, bias, eps, axis, activation)[0]


def _batch_norm_forward(
    x: Array, scale: Array, bias: Array, eps: float, axis: str | None, activation: Activation | None
) -> tuple[Norm, tuple[Array, ...]]:
    wide = precise(x)
    # Sums of x and x² read x and store nothing; a sum of (x - mean)² stores x - mean first: 80 ms more in a step of EfficientNet-Lite0 on
    # a CPU.
    mean, square = _means(axis, wide, wide * wide)
    var = jnp.maximum(square - mean * mean, 0)
    y = (wide - mean) * (lax.rsqrt(var + eps) * scale) + bias
    y = activation(y) if activation else y
    return (y.astype(x.dtype), mean, var), (x, scale, bias, mean, var)


def _batch_norm_backward(eps: float, axis: str | None, activation: Activation | None, saved: tuple[Array, ...], cotangents: Norm) -> Norm:
    """Compute the gradients in closed form, linear in g and x with coefficients [c]: two reductions, one pass.

    Autodiff costs 50 ms more in a step of EfficientNet-Lite0 (450 ms on a CPU).
    """
    x, scale, bias, mean, var = saved
    g, dmean, dvar = cotangents
    count = x.size // x.shape[-1]
    inverse = lax.rsqrt(var + eps)
    if axis is not None:
        dmean, dvar = jnp.zeros_like(dmean), jnp.zeros_like(dvar)

    def slopes(x: Array, g: Array) -> Array:
        """Return the gradient of what the activation is applied to."""
        if activation is None:
            return precise(g)
        return jax.vjp(activation, (precise(x) - mean) * (inverse * scale) + bias)[1](precise(g))[0]

    x, g = gpu.anew(x, g)
    wide, wide_g = precise(x), slopes(x, g)
    dbias, moved = _means(axis, wide_g, wide_g * wide)
    x, g, dbias, moved = gpu.anew(x, g, dbias, moved)
    wide, wide_g = precise(x), slopes(x, g)
    dscale = inverse * (moved - mean * dbias)
    slope = 2 * dvar / count - scale * inverse * inverse * dscale
    dx = wide_g * (scale * inverse) + (wide - mean) * slope + (dmean / count - scale * inverse * dbias)
    return dx.astype(x.dtype), dscale * count, dbias * count


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _means(axis: str | None, *xs: Array) -> tuple[Array, ...]:
    """Compute means over all axes but the last, and over all parts of a batch that is split over a mapped `axis`."""
    own = tuple(jnp.sum(x, tuple(range(x.ndim - 1))) / (x.size // x.shape[-1]) for x in xs)
    return own if axis is None else lax.pmean(own, axis)
