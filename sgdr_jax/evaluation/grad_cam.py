"""Grad-CAM: which regions of an image raise the score of a class."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..core.state import Tree
from ..models.chain import Network


def grad_cam(
    network: Network, params: Tree, stats: Tree, pixels: Float[Array, "b s s c"], classes: Int[Array, " b"]
) -> Float[Array, "b s s"]:
    """Compute a map for a class of each image: relu(Σ_k w_k·A_k) / its maximum, w_k = mean over places of ∂y/∂A_k.

    A_k are the channels that leave the body, before they are pooled, and y is the logit of the class. Maps are enlarged to the size of the
    image; a map is 0 where nothing raises the logit. Source: Selvaraju et al. 2017.

    Args:
        network: the network.
        params, stats: its parameters and batch statistics.
        pixels: images 0…1.
        classes: a class of each image.
    """
    body, rest = network.at_pool(params, stats)
    activations = body(pixels)

    def score(x: Array) -> Array:
        return jnp.take_along_axis(rest(x), classes[:, None], axis=1).sum()

    weights = jax.grad(score)(activations).mean((1, 2), keepdims=True)
    maps = jax.nn.relu((weights * activations).sum(-1))
    maps = maps / jnp.maximum(maps.max((1, 2), keepdims=True), 1e-12)
    return jax.image.resize(maps, pixels.shape[:3], "linear")
