"""Attention over tokens [b, n, c]: the layers of a transformer block, and attention pooling."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from . import layers
from .blocks import LayerNorm, Mode, PixelLinear, Residual, empty
from .position_embedding import rotated, rotations


class Attention(nnx.Module):
    """Self-attention: every head's tokens become means of the values of all tokens, with weights softmax(query · key / √features).

    Queries, keys and values are one linear layer, and so is the result of all heads. With `rotary` queries and keys of all tokens but the
    first `prefix` are turned by their places, which requires square images. Source: Vaswani et al. 2017.
    """

    def __init__(self, features: int, heads: int, *, bias: bool = True, project_bias: bool = True, rotary: bool = False, prefix: int = 0):
        self.qkv = PixelLinear(features, 3 * features, bias=bias)
        self.project = PixelLinear(features, features, bias=project_bias)
        self.heads, self.rotary, self.prefix = heads, rotary, prefix

    def __call__(self, x: Array, mode: Mode) -> Array:
        b, n, c = x.shape
        query, key, value = jnp.moveaxis(self.qkv(x, mode).reshape(b, n, 3, self.heads, c // self.heads), 2, 0)
        if self.rotary:
            query, key = self._turned(query), self._turned(key)
        return self.project(layers.attention(query, key, value).reshape(b, n, c), mode)

    def _turned(self, x: Array) -> Array:
        patches = x.shape[1] - self.prefix
        side = math.isqrt(patches)
        if side * side != patches:
            raise ValueError(f"rotary embeddings need square images; these have {patches} patches")
        cos, sin = rotations((side, side), x.shape[-1])
        return jnp.concatenate([x[:, : self.prefix], rotated(x[:, self.prefix :], cos, sin)], axis=1)


class ImageAttention(Attention):
    """Self-attention of the pixels of an image [b, h, w, c]."""

    def __call__(self, x: Array, mode: Mode) -> Array:
        return super().__call__(x.reshape(x.shape[0], -1, x.shape[-1]), mode).reshape(x.shape)


class SwiGLU(nnx.Module):
    """silu(x @ gate) · (x @ value), both with bias. Source: Shazeer 2020."""

    def __init__(self, inputs: int, outputs: int):
        self.gate, self.value = PixelLinear(inputs, outputs, activation=jax.nn.silu), PixelLinear(inputs, outputs)

    def __call__(self, x: Array, mode: Mode) -> Array:
        return self.gate(x, mode) * self.value(x, mode)


class AttentionPool(nnx.Module):
    """Attention of one learned query over all tokens, then a residual block of two linear layers: [b, n, c] to [b, c].

    Source: Zhai et al. 2022, as in SigLIP.
    """

    def __init__(self, features: int, heads: int, eps: float, activation: Any):
        self.latent = nnx.Param(empty(1, 1, features))
        self.query, self.kv, self.project = (
            PixelLinear(features, features),
            PixelLinear(features, 2 * features),
            PixelLinear(features, features),
        )
        self.mlp = Residual(
            {
                "norm": LayerNorm(features, eps),
                "expand": PixelLinear(features, 4 * features, activation=activation),
                "project": PixelLinear(4 * features, features),
            }
        )
        self.heads = heads

    def __call__(self, x: Array, mode: Mode) -> Array:
        b, n, c = x.shape
        query = jnp.broadcast_to(self.query(self.latent[...].astype(x.dtype), mode), (b, 1, c)).reshape(b, 1, self.heads, -1)
        key, value = jnp.moveaxis(self.kv(x, mode).reshape(b, n, 2, self.heads, -1), 2, 0)
        return self.mlp(self.project(layers.attention(query, key, value).reshape(b, 1, c), mode), mode)[:, 0]
