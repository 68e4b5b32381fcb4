"""What a GPU computes in another form, on a CPU in float32, against the form of every other platform: values, statistics and gradients."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdr_jax.models import gpu, layers

from .test_layers import drawn, platform_of_convolutions

ACTIVATIONS = {
    "none": None,
    "relu": jax.nn.relu,
    "relu6": gpu.relu6,
    "hard_swish": gpu.hard_swish,
    "silu": jax.nn.silu,
    "gelu": layers.gelu,
}


def results(platform, function, *arrays):
    """Values and gradients under one random cotangent each."""
    with platform_of_convolutions(platform):
        y, pull = jax.vjp(lambda *arrays: function(*arrays), *arrays)
        leaves, tree = jax.tree.flatten(y)
        return jax.tree.leaves((y, pull(tree.unflatten([drawn(*leaf.shape, seed=i + 5) for i, leaf in enumerate(leaves)]))))


def check(function, *arrays):
    for ours, theirs in zip(results("gpu", function, *arrays), results("tpu", function, *arrays), strict=True):
        assert np.abs(np.float64(ours) - theirs).max() <= 3e-6 * max(np.abs(theirs).max(), 1e-3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_normalisation_bias_and_activation(name):
    act, x, c = ACTIVATIONS[name], 3 * drawn(4, 5, 5, 6), drawn(6, seed=1)
    scale = 1 + 0.1 * c
    check(lambda x, scale, c: layers.batch_norm_train(x, scale, c, 1e-5, activation=act), x, scale, c)
    check(lambda x, scale, c: layers.affine(x, scale, c, act), x, scale, c)
    check(lambda x, c: layers.affine(x, None, c, act), x, c)
    check(lambda x, c: layers.activated(x, c, act), x, c)
    check(lambda x: layers.activated(x, None, act), x)


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(bias):
    x, scale = drawn(3, 7, 16), 1 + drawn(16, seed=1)
    if bias:
        check(lambda x, scale, bias: layers.layer_norm(x, scale, bias, 1e-6), x, scale, drawn(16, seed=2))
    else:
        check(lambda x, scale: layers.layer_norm(x, scale, None, 1e-6), x, scale)


@pytest.mark.parametrize("name", ["relu6", "hard_swish"])
def test_activations_with_shorter_slopes_are_those_of_jax(name):
    x = jnp.linspace(-8, 8, 1001) + 1e-3  # away from the corners, where jax gives half of both slopes
    ours, theirs = getattr(gpu, name), getattr(jax.nn, name)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(*(jax.vmap(jax.grad(f))(x) for f in (ours, theirs)), rtol=2e-6, atol=2e-6)


def test_no_network_starts_a_backend_when_it_is_built():
    """Else jax.distributed could not be initialised after it."""
    code = """
from jax._src import xla_bridge
from sgdr_jax import models
for name in ("MobileNetV2", "MobileNetV3Small", "ConvNeXtAtto", "ViTTiny16", "RegNetY002"):
    getattr(models, name)(weights=None).build(10)
assert not xla_bridge.backends_are_initialized()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_gradient_keeps_the_input_of_an_activation_alone():
    """Of an array of 4 MiB, the residuals of bias and GELU are at most that array and the bias."""
    x, bias = drawn(1024, 1024), drawn(1024)
    with platform_of_convolutions("gpu"):
        kept = jax.tree.leaves(jax.vjp(lambda x, bias: layers.activated(x, bias, layers.gelu), x, bias)[1])
    assert sum(leaf.size for leaf in kept if hasattr(leaf, "size")) <= x.size + bias.size


def test_products_of_a_depthwise_gradient_are_full_float32():
    """A gradient is traced after the block that asks for full products has ended."""
    x, kernel = drawn(2, 8, 8, 4), drawn(3, 3, 1, 4)
    padding = ((1, 1), (1, 1))
    text = str(jax.make_jaxpr(jax.grad(lambda x, kernel: gpu.depthwise(x, kernel, 1, padding).sum(), (0, 1)))(x, kernel))
    assert text.count("conv_general_dilated") == text.count("precision=(Precision.HIGHEST") >= 3


def test_normalisation_and_activation_of_a_batch_on_two_devices():
    """Statistics are those of the whole batch; gradients of scale and bias are sums over the parts."""
    x, scale, bias, g = 3 * drawn(4, 5, 5, 6), drawn(6, seed=1), drawn(6, seed=2), drawn(4, 5, 5, 6, seed=3)

    def gradients(x, g, axis=None):
        y, pull = jax.vjp(lambda *a: layers.batch_norm_train(*a, 1e-5, axis, jax.nn.silu)[0], x, scale, bias)
        dx, *rest = pull(g)
        return (y, dx), rest if axis is None else jax.lax.psum(rest, axis)

    split, whole = jax.P("batch"), jax.P()
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("batch",))
    with platform_of_convolutions("gpu"):
        parts = jax.shard_map(
            partial(gradients, axis="batch"), mesh=mesh, in_specs=(split, split), out_specs=((split, split), whole), check_vma=False
        )
        for ours, theirs in zip(jax.tree.leaves(parts(x, g)), jax.tree.leaves(gradients(x, g)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6 * np.abs(theirs).max())
