"""Arithmetic that an NVIDIA GPU computes faster in another form: what gradients keep, and depthwise convolutions.

Figures in comments are milliseconds on an H200 in bfloat16 with jax 0.11.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .precision import full_products, precise
from .shifts import Pairs


def recomputed[**P](function: Callable[P, Array]) -> Callable[P, Array]:
    """Return the function with a gradient that keeps its arguments alone and computes the rest again, which costs no memory traffic."""
    return jax.checkpoint(function)  # pyright: ignore[reportReturnType, reportPrivateImportUsage]


def anew(*arrays: Array) -> tuple[Array, ...]:
    """Return the arrays, from which a GPU computes again what it has computed before, instead of keeping it in memory."""
    return lax.optimization_barrier(arrays) if jax.default_backend() == "gpu" else arrays


def activated(x: Array, shift: Array | None, activation: Callable[[Array], Array] | None, factor: Array | None = None) -> Array:
    """Compute activation(x · factor + shift) for x [..., c], in float32, returned in the dtype of `x`.

    Otherwise XLA keeps up to four arrays of the size of x for the gradient of an activation, since it computes nothing expensive twice.
    """

    def compute(x: Array, shift: Array | None, factor: Array | None) -> Array:
        y = precise(x)
        y = y if factor is None else y * factor
        y = y if shift is None else y + shift
        return (activation(y) if activation else y).astype(x.dtype)

    return recomputed(compute)(x, shift, factor)


# ---- Depthwise convolutions ----


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(x: Array, kernel: Array, stride: int, padding: Pairs) -> Array:
    """Convolve x [b, h, w, c] with kernel [kh, kw, 1, c]; see `layers.conv`.

    In milliseconds by cuDNN's best algorithm and by our kernels, 256 images, forward and gradient of x: 3×3 taps, 32 channels, 112 pixels
    0.19, 0.19 and 0.15, 0.15; with stride 2 and 96 channels 0.29, 0.90 and 0.25, 0.27; 5×5 taps, 240 channels, 28 pixels 0.21, 0.21 and
    0.17, 0.19. To compile them takes XLA 2 s for each shape, and the gradient of the kernel 4 to 7, ours 0.5 and 1.
    """
    height, width = ((n + sum(pair) - k) // stride + 1 for n, pair, k in zip(x.shape[1:3], padding, kernel.shape[:2], strict=True))
    if not (kernels := _kernels(x, (x.shape[0], height, width, x.shape[3]))):
        return _lax(x, kernel, stride, padding)
    return kernels.gather(x, kernel[:, :, 0], _geometry(kernels, kernel, stride, padding), (height, width), _tile(kernels, width))


def _depthwise_backward(stride: int, padding: Pairs, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return _dx(x, kernel, g, stride, padding), _dkernel(x, kernel, g, stride, padding)


depthwise.defvjp(lambda x, kernel, stride, padding: (depthwise(x, kernel, stride, padding), (x, kernel)), _depthwise_backward)


def _dx(x: Array, kernel: Array, g: Array, stride: int, padding: Pairs) -> Array:
    if not (kernels := _kernels(x, g.shape)):
        return jax.vjp(lambda x: _lax(x, kernel, stride, padding), x)[1](g)[0]
    geometry = _geometry(kernels, kernel, stride, padding)._replace(transposed=True)
    return kernels.gather(g, kernel[:, :, 0], geometry, (x.shape[1], x.shape[2]), _tile(kernels, -(-x.shape[2] // stride)))


def _dkernel(x: Array, kernel: Array, g: Array, stride: int, padding: Pairs) -> Array:
    taps = kernel.shape[0] * kernel.shape[1]
    if taps <= 25 and (kernels := _kernels(x, g.shape)):  # 7×7 taps: 0.71 instead of cuDNN's 0.22
        geometry, tile = _geometry(kernels, kernel, stride, padding), kernels.Tile(4, 8, 32, 4)
        return kernels.kernel_gradient(x, g, geometry, tile, programs=1056)[:, :, None].astype(kernel.dtype)
    if stride == 1 and any(n <= k for n, k in zip(g.shape[1:3], kernel.shape[:2], strict=True)):
        # XLA takes this gradient for a convolution of one large image: 2.05 for 128 images of 7 × 7 pixels, 768 channels and 7 × 7 taps;
        # with zeros around them 0.11.
        more = (0, 0), *((0, max(k + 1 - n, 0)) for n, k in zip(g.shape[1:3], kernel.shape[:2], strict=True)), (0, 0)
        x, g = jnp.pad(x, more), jnp.pad(g, more)
    return jax.vjp(lambda kernel: _lax(x, kernel, stride, padding), kernel)[1](g)[0]


def _lax(x: Array, kernel: Array, stride: int, padding: Pairs) -> Array:
    with full_products():  # a gradient is traced outside of the block that its function is traced in
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1]
        )


def _kernels(x: Array, outputs: tuple[int, ...]) -> Any:
    """Return the module `pallas_depthwise` where it is used, else None: on NVIDIA's Ampere or later, where XLA distributes no program.

    XLA cannot split a kernel over devices; it need not where there is one device, and within shard_map and pmap.
    """
    alone = jax.device_count() == 1 or jax.sharding.get_abstract_mesh().manual_axes
    fits = all(0 < math.prod(shape) < 1 << 31 for shape in (x.shape, outputs))  # offsets are int32
    if not alone or not fits or x.dtype.itemsize > 4:
        return None
    try:
        from . import pallas_depthwise  # Pallas takes 0.1 s to import

        return pallas_depthwise if pallas_depthwise.triton.get_gpu_info().compute_capability >= 80 else None
    except (ImportError, ValueError):  # no Triton back end, or none for this card
        return None


def _geometry(kernels: Any, kernel: Array, stride: int, padding: Pairs) -> Any:
    return kernels.Geometry((kernel.shape[0], kernel.shape[1]), (padding[0][0], padding[1][0]), stride)


def _tile(kernels: Any, width: int) -> Any:
    columns = 8 if width <= 8 else 16
    return kernels.Tile(7, columns, 32, columns // 8)


# ---- Activations ----


@jax.custom_jvp
def relu6(x: Array) -> Array:
    """Return min(max(x, 0), 6), with slope 0 where it is cut off."""
    return jnp.clip(x, 0, 6)


relu6.defjvps(lambda t, y, x: jnp.where((x > 0) & (x < 6), t, 0))


@jax.custom_jvp
def hard_swish(x: Array) -> Array:
    """Return x · min(max(x + 3, 0), 6) / 6. Source: Howard et al. 2019."""
    return x * jnp.clip(x + 3, 0, 6) * (1 / 6)


hard_swish.defjvps(lambda t, y, x: t * jnp.where(x < -3, 0, jnp.where(x > 3, 1, x * (1 / 3) + 0.5)))
