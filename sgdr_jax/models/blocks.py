"""Building blocks of the architectures. A module is called as `module(x, mode)`; its arithmetic is in `layers`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from . import layers
from .layers import Activation
from .precision import precise


class Mode(NamedTuple):
    """How a group runs; see `chain.Modes`.

    Attributes:
        collect: whether to normalise with batch statistics and update the running ones.
        key: for dropout; None for no dropout.
        measure: whether to replace the statistics by those of each example, [b, c], after normalising with the stored ones.
        axis: mapped axis that the batch is split over; None if it is whole.
    """

    collect: bool = False
    key: Array | None = None
    measure: bool = False
    axis: str | None = None


def empty(*shape: int) -> np.ndarray:
    """Return a float32 placeholder that holds a parameter's shape until `Network.init` draws its values."""
    return np.zeros(shape, np.float32)


class BatchNorm(nnx.Module):
    """Batch normalisation with float32 statistics: running ← momentum · running + (1 - momentum) · batch.

    The running variance takes the unbiased estimate (n - 1), as torch does; the batch itself is normalised with the biased one.
    An optional activation follows.
    """

    def __init__(self, features: int, eps: float, momentum: float = 0.9, activation: Activation | None = None):
        self.scale, self.bias = nnx.Param(empty(features)), nnx.Param(empty(features))
        self.mean, self.var = nnx.BatchStat(empty(features)), nnx.BatchStat(empty(features))
        self.eps, self.momentum, self.activation = eps, momentum, activation

    def stored(self) -> tuple[Array, Array]:
        """Return factor and shift [c], float32, of normalisation by the stored statistics: (x - mean) / sqrt(var + eps) · scale + bias."""
        factor = lax.rsqrt(self.var[...] + self.eps) * self.scale[...]
        return factor, self.bias[...] - self.mean[...] * factor

    def __call__(self, x: Array, mode: Mode) -> Array:
        scale, bias, mean, var = self.scale[...], self.bias[...], self.mean[...], self.var[...]
        factor, shift = self.stored()  # before statistics that are measured take their place
        if mode.measure:
            for stored, measured in zip((self.mean, self.var), layers.moments(x), strict=True):
                stored.set_value(measured)  # pyright: ignore[reportArgumentType] (changes shape)
        if not mode.collect:
            return layers.affine(x, factor, shift, self.activation)
        y, batch_mean, batch_var = layers.batch_norm_train(x, scale, bias, self.eps, mode.axis, self.activation)
        count = x.size // x.shape[-1] * (1 if mode.axis is None else lax.axis_size(mode.axis))
        self.mean[...] = self.momentum * mean + (1 - self.momentum) * batch_mean
        self.var[...] = self.momentum * var + (1 - self.momentum) * (count / max(count - 1, 1)) * batch_var
        return y


class Conv(nnx.Module):
    """Convolution with optional bias and activation."""

    def __init__(
        self,
        size: int,
        inputs: int,
        outputs: int,
        *,
        stride: int = 1,
        padding: layers.Padding = 0,
        groups: int = 1,
        bias: bool = False,
        activation: Activation | None = None,
    ):
        self.kernel = nnx.Param(empty(size, size, inputs // groups, outputs))
        if bias:
            self.bias = nnx.Param(empty(outputs))
        self.stride, self.padding, self.groups, self.has_bias, self.activation = stride, padding, groups, bias, activation

    def __call__(self, x: Array, mode: Mode) -> Array:
        y = layers.conv(x, self.kernel[...], self.stride, self.padding, self.groups)
        return layers.activated(y, self.bias[...] if self.has_bias else None, self.activation)


class PixelLinear(nnx.Module):
    """Linear layer at every place, [..., inputs] to [..., outputs], with optional bias and activation; its kernel is [inputs, outputs]."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, activation: Activation | None = None):
        self.kernel = nnx.Param(empty(inputs, outputs))
        if bias:
            self.bias = nnx.Param(empty(outputs))
        self.has_bias, self.activation = bias, activation

    def __call__(self, x: Array, mode: Mode) -> Array:
        y = layers.linear(x, self.kernel[...])
        return layers.activated(y, self.bias[...] if self.has_bias else None, self.activation)


class ConvBN(nnx.Module):
    """Convolution without bias, batch normalisation and optional activation.

    Normalising by stored statistics multiplies the kernel: the gradient of the factor is then a sum over the kernel's gradient, where that
    of a factor on the outputs is a sum over all outputs, which have to be kept for it. Not in bfloat16, in which the kernel's gradient is
    rounded before that sum.
    """

    def __init__(
        self,
        size: int,
        inputs: int,
        outputs: int,
        *,
        eps: float,
        stride: int = 1,
        padding: layers.Padding = 0,
        groups: int = 1,
        activation: Activation | None = None,
    ):
        self.kernel = nnx.Param(empty(size, size, inputs // groups, outputs))
        self.bn = BatchNorm(outputs, eps, activation=activation)
        self.stride, self.padding, self.groups = stride, padding, groups

    def __call__(self, x: Array, mode: Mode) -> Array:
        if mode.collect or mode.measure or x.dtype == jnp.bfloat16:
            return self.bn(layers.conv(x, self.kernel[...], self.stride, self.padding, self.groups), mode)
        factor, shift = self.bn.stored()
        y = layers.conv(x, self.kernel[...] * factor, self.stride, self.padding, self.groups)
        return layers.affine(y, None, shift, self.bn.activation)


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(var + eps) · scale + optional bias, with mean and biased variance over the channels of each pixel, in float32.

    Source: Ba et al. 2016.
    """

    def __init__(self, features: int, eps: float, *, bias: bool = True):
        self.scale = nnx.Param(empty(features))
        if bias:
            self.bias = nnx.Param(empty(features))
        self.eps, self.has_bias = eps, bias

    def __call__(self, x: Array, mode: Mode) -> Array:
        return layers.layer_norm(x, self.scale[...], self.bias[...] if self.has_bias else None, self.eps)


class ResponseNorm(nnx.Module):
    """Global response normalisation: x + gain · x · r / (mean of r over the channels + eps) + bias, r = L2 norm of a channel.

    Source: Woo et al. 2023.
    """

    def __init__(self, features: int, eps: float):
        self.gain, self.bias = nnx.Param(empty(features)), nnx.Param(empty(features))
        self.eps = eps

    def __call__(self, x: Array, mode: Mode) -> Array:
        wide = precise(x)
        square = jnp.square(wide).sum((1, 2), keepdims=True)
        # The square root has no gradient at 0, where a channel is all zero.
        length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        share = length / (length.mean(-1, keepdims=True) + self.eps)
        return (wide * (1 + self.gain[...] * share) + self.bias[...]).astype(x.dtype)


class LayerScale(nnx.Module):
    """x · gamma, one factor per channel, initially 1e-6. Source: Touvron et al. 2021."""

    def __init__(self, features: int):
        self.gamma = nnx.Param(empty(features))

    def __call__(self, x: Array, mode: Mode) -> Array:
        return x * self.gamma[...].astype(x.dtype)


class ChannelScale(nnx.Module):
    """x · scale, one factor per channel, initially 1: of the input of a residual block. Source: Shleifer et al. 2021."""

    def __init__(self, features: int):
        self.scale = nnx.Param(empty(features))

    def __call__(self, x: Array, mode: Mode) -> Array:
        return x * self.scale[...].astype(x.dtype)


class StarReLU(nnx.Module):
    """scale · relu(x)² + bias with one learned scale, initially 1, and one bias. Source: Yu et al. 2024."""

    def __init__(self):
        self.scale, self.bias = nnx.Param(empty(1)), nnx.Param(empty(1))

    def __call__(self, x: Array, mode: Mode) -> Array:
        return self.scale[...].astype(x.dtype) * jnp.square(jnp.maximum(x, 0)) + self.bias[...].astype(x.dtype)


class SqueezeExcite(nnx.Module):
    """x · gate(expand(activation(reduce(mean of x over the image)))), two 1×1 convolutions. Source: Hu et al. 2018."""

    def __init__(self, features: int, squeezed: int, activation: Activation, gate: Activation):
        self.reduce = Conv(1, features, squeezed, bias=True, activation=activation)
        self.expand = Conv(1, squeezed, features, bias=True, activation=gate)

    def __call__(self, x: Array, mode: Mode) -> Array:
        x = layers.computed_once(x)
        mean = precise(x).mean((1, 2), keepdims=True).astype(x.dtype)
        return x * self.expand(self.reduce(mean, mode), mode)


class Sequential(nnx.Module):
    """Modules in sequence. They are attributes, so that the trees are keyed by their names."""

    def __init__(self, modules: Mapping[str, nnx.Module]):
        self.order = tuple(modules)
        for name, module in modules.items():
            setattr(self, name, module)

    def __call__(self, x: Array, mode: Mode) -> Array:
        for name in self.order:
            x = getattr(self, name)(x, mode)
        return x


class Residual(Sequential):
    """Modules in sequence plus their input (through `down`, where the shape changes), then an optional activation."""

    def __init__(self, modules: Mapping[str, nnx.Module], down: nnx.Module | None = None, activation: Activation | None = None):
        super().__init__(modules)
        if down is not None:
            self.down = down
        self.changes, self.activation = down is not None, activation

    def __call__(self, x: Array, mode: Mode) -> Array:
        y = super().__call__(x, mode) + (self.down(x, mode) if self.changes else x)
        return self.activation(y) if self.activation else y


class PreActivated(Sequential):
    """`bn` and then modules in sequence, plus the input, or `down` of the normalised input where the shape changes."""

    def __init__(self, bn: BatchNorm, modules: Mapping[str, nnx.Module], down: nnx.Module | None = None):
        super().__init__(modules)
        self.bn = bn
        if down is not None:
            self.down = down
        self.changes = down is not None

    def __call__(self, x: Array, mode: Mode) -> Array:
        y = self.bn(x, mode)
        return super().__call__(y, mode) + (self.down(y, mode) if self.changes else x)


class Dense(Sequential):
    """Concatenation of the input and the output of the modules in sequence, along the channels."""

    def __call__(self, x: Array, mode: Mode) -> Array:
        return jnp.concatenate([x, super().__call__(x, mode)], axis=-1)


class Linear(nnx.Module):
    """x @ kernel + bias, kernel [inputs, outputs]."""

    def __init__(self, inputs: int, outputs: int):
        self.kernel, self.bias = nnx.Param(empty(inputs, outputs)), nnx.Param(empty(outputs))

    def __call__(self, x: Array) -> Array:
        return x @ self.kernel[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class MaxPool(nnx.Module):
    """Max pooling with windows of `size` × `size` pixels, stride 2, and `padding` pixels of -inf on every side.

    The default maps [b, h, w, c] to [b, ceil(h / 2), ceil(w / 2), c], (2, 0) to [b, floor(h / 2), floor(w / 2), c]. Computed as maxima of
    shifted images, rows then columns: with gradients 8x faster than lax's window reduction on CPU, and the same numbers.
    """

    def __init__(self, size: int = 3, padding: int = 1):
        self.size, self.padding = size, padding

    def __call__(self, x: Array, mode: Mode) -> Array:
        around = (self.padding, self.padding)
        x = jnp.pad(x, ((0, 0), around, around, (0, 0)), constant_values=-jnp.inf)
        height, width = ((side - self.size) // 2 + 1 for side in x.shape[1:3])
        x = reduce(jnp.maximum, [x[:, i : i + 2 * height - 1 : 2] for i in range(self.size)])
        return reduce(jnp.maximum, [x[:, :, i : i + 2 * width - 1 : 2] for i in range(self.size)])


class MeanPool(nnx.Module):
    """Mean pooling with 2×2 windows, stride 2. An odd last row or column is dropped, or averaged by itself with `partial`."""

    def __init__(self, *, partial: bool = False):
        self.partial = partial

    def __call__(self, x: Array, mode: Mode) -> Array:
        b, h, w, c = x.shape
        if self.partial:  # the mean of an edge and its copy is the edge
            x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
        height, width = x.shape[1] // 2, x.shape[2] // 2
        return x[:, : 2 * height, : 2 * width].reshape(b, height, 2, width, 2, c).mean((2, 4))
