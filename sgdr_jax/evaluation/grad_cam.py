"""Grad-CAM: which regions of an image raise the score of a class."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..core.state import Tree
from ..models.chain import Network


def grad_cam(
    network: Network, params: Tree, stats: Tree, pixels: Float[Array, "b s s c"], classes: Int[Array, " b"]
) -> Float[Array, "b s s"]:
    """Compute a map for a class of each image: relu(Σ_k w_k·A_k) / its maximum, w_k = mean over places of ∂y/∂A_k.

    A_k are the channels that leave the body, before they are pooled (of a Vision Transformer those of the patches in front of the last
    block), and y is the logit of the class. Maps are enlarged to the size of the image; a map is 0 where nothing raises the logit.
    Source: Selvaraju et al. 2017.

    Args:
        network: the network.
        params, stats: its parameters and batch statistics.
        pixels: images 0…1.
        classes: a class of each image.
    """
    body, rest = network.at_maps(params, stats)
    activations = body(pixels)

    def score(x: Array) -> Array:
        return jnp.take_along_axis(rest(x), classes[:, None], axis=1).sum()

    slopes, activations = (_image(a, network.maps.prefix) for a in (jax.grad(score)(activations), activations))
    maps = jax.nn.relu((slopes.mean((1, 2), keepdims=True) * activations).sum(-1))
    maps = maps / jnp.maximum(maps.max((1, 2), keepdims=True), 1e-12)
    return jax.image.resize(maps, pixels.shape[:3], "linear")


def _image(x: Array, prefix: int) -> Array:
    """Return tokens of square images [b, prefix + side · side, c] as [b, side, side, c], and images as they are."""
    if x.ndim == 4:
        return x
    side = math.isqrt(x.shape[1] - prefix)
    return x[:, prefix:].reshape(len(x), side, side, -1)
