"""From images to tokens [b, n, c] and from tokens to features: patch embedding, and pooling. The tokens of the patches come last."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import Array

from . import layers
from .attention import AttentionPool
from .blocks import LayerNorm, Mode, empty
from .position_embedding import PositionEmbedding
from .precision import precise


class PatchEmbedding(nnx.Module):
    """Images [b, h, w, i] to tokens: a linear layer of every patch of `side` × `side` pixels, class token and registers before them.

    Rows and columns of pixels that fill no whole patch, at the bottom and the right, are left out. Positions are added to all tokens, or
    to those that they have an embedding for: if the prefix of `positions` is empty, to the patches only. Source: Dosovitskiy et al. 2020;
    Darcet et al. 2023 (registers).
    """

    def __init__(
        self,
        side: int,
        channels: int,
        features: int,
        *,
        classes: int,
        registers: int,
        positions: PositionEmbedding | None,
        norm: LayerNorm | None,
    ):
        self.kernel = nnx.Param(empty(side, side, channels, features))
        if norm is None:
            self.bias = nnx.Param(empty(features))
        else:
            self.norm = norm  # its bias replaces that of the linear layer
        if classes:
            self.token = nnx.Param(empty(1, classes, features))
        if registers:
            self.registers = nnx.Param(empty(1, registers, features))
        if positions is not None:
            self.positions = positions
        self.side, self.before = side, tuple(name for name, n in (("token", classes), ("registers", registers)) if n)
        self.normalised, self.placed = norm is not None, positions is not None

    def __call__(self, x: Array, mode: Mode) -> Array:
        grid = x.shape[1] // self.side, x.shape[2] // self.side
        kernel = self.kernel[...]
        x = layers.linear(self._patches(x, grid), kernel.reshape(-1, kernel.shape[-1]))
        x = x if self.normalised else x + self.bias[...].astype(x.dtype)
        before = [self._repeated(name, x) for name in self.before]
        places = self.positions(grid).astype(x.dtype) if self.placed else jnp.zeros((1, x.shape[1], 1), x.dtype)
        if places.shape[1] > x.shape[1]:
            x = jnp.concatenate([*before, x], axis=1) + places
        else:
            x = jnp.concatenate([*before, x + places], axis=1)
        return self.norm(x, mode) if self.normalised else x

    def _patches(self, x: Array, grid: tuple[int, int]) -> Array:
        """Return the pixels of every patch as a row: [b, rows · columns, side · side · i]."""
        (rows, columns), side = grid, self.side
        x = x[:, : rows * side, : columns * side].reshape(len(x), rows, side, columns, side, -1)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), rows * columns, -1)

    def _repeated(self, name: str, x: Array) -> Array:
        token = getattr(self, name)[...].astype(x.dtype)
        return jnp.broadcast_to(token, (len(x), *token.shape[1:]))


class TokenPool(nnx.Module):
    """Tokens [b, prefix + patches, c] to float32 features: each of the parts, side by side.

    Parts are "token" (the first token, the class token), "map" (attention pooling) and "avg" (the mean of the patches).
    """

    def __init__(self, parts: tuple[str, ...], prefix: int, attention: AttentionPool | None = None):
        self.parts, self.prefix = parts, prefix
        if attention is not None:
            self.attention = attention

    def __call__(self, x: Array, mode: Mode) -> Array:
        pooled = [self._part(part, x, mode) for part in self.parts]
        return pooled[0] if len(pooled) == 1 else jnp.concatenate(pooled, axis=-1)

    def _part(self, part: str, x: Array, mode: Mode) -> Array:
        if part == "token":
            return precise(x[:, 0])
        patches = x[:, self.prefix :]
        return precise(self.attention(patches, mode)) if part == "map" else precise(patches).mean(1)
