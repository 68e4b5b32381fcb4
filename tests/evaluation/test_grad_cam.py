"""Grad-CAM against its formula, and against the class activation map where the two are equal."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdr_jax.evaluation.grad_cam import grad_cam

from ..helpers import CLASSES, Tiny, batch, host_state, network

PIXELS = jnp.asarray(batch()[0])
CLASS = jnp.asarray(np.arange(8) % CLASSES)


@pytest.mark.parametrize("cuts", [("second",), ()], ids=["two groups", "one group"])
def test_the_parts_at_the_pool_are_the_network(cuts: tuple[str, ...]) -> None:
    chain = dataclasses.replace(Tiny(), cuts=cuts).build(CLASSES)
    params, stats = chain.init(jax.random.key(1))
    body, rest = chain.at_maps(params, stats)
    assert body(PIXELS).shape == (8, 4, 4, 5)
    np.testing.assert_array_equal(rest(body(PIXELS)), chain.apply(params, stats, PIXELS)[0])


def test_maps_follow_the_formula() -> None:
    params, stats = host_state()
    body, rest = network().at_maps(params, stats)
    activations = np.asarray(body(PIXELS), np.float64)
    slopes = np.zeros_like(activations)
    for i in range(8):  # one image at a time, so that no image depends on another
        one = jnp.asarray(activations[i : i + 1], jnp.float32)
        slopes[i] = np.asarray(jax.grad(lambda x, i=i: rest(x)[0, CLASS[i]])(one))[0]
    raw = np.maximum((slopes.mean((1, 2), keepdims=True) * activations).sum(-1), 0)
    peaks = raw.max((1, 2), keepdims=True)
    expected = jax.image.resize(jnp.asarray(raw / np.maximum(peaks, 1e-12)), (8, 8, 8), "linear")
    found = np.asarray(grad_cam(network(), params, stats, PIXELS, CLASS))
    assert (peaks > 0).any() and found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_with_a_linear_classifier_it_is_the_class_activation_map() -> None:
    """Source: Zhou et al. 2016; the slope of a mean over h·w places is the classifier's weight over h·w."""
    chain = Tiny(head="classifier").build(CLASSES)
    params, stats = host_state()[0] | {"head": None}, host_state()[1] | {"head": {}}
    params["head"] = chain.init(jax.random.key(0))[0]["head"]
    body, _ = chain.at_maps(params, stats)
    (kernel,) = (leaf for leaf in jax.tree.leaves(params["head"]) if leaf.ndim == 2)
    raw = np.maximum(np.einsum("bhwk,kb->bhw", np.asarray(body(PIXELS)), np.asarray(kernel)[:, np.asarray(CLASS)]), 0)
    expected = jax.image.resize(jnp.asarray(raw / np.maximum(raw.max((1, 2), keepdims=True), 1e-12)), (8, 8, 8), "linear")
    assert raw.max() > 0
    np.testing.assert_allclose(grad_cam(chain, params, stats, PIXELS, CLASS), expected, atol=1e-5)
