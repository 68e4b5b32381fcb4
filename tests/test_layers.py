"""The CPU lowerings against what they stand for: lax's convolution and its gradients, batch normalisation in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sgdr_jax.models import layers

# Sides even and odd, not square; kernels 1, 3 and 5; both strides; TensorFlow's and torch's padding.
CASES = [
    (9, 8, 3, 1, "SAME"),
    (9, 8, 3, 2, "SAME"),
    (8, 11, 5, 2, "SAME"),
    (7, 7, 5, 1, "SAME"),
    (8, 8, 3, 2, 1),
    (7, 10, 3, 1, 1),
    (6, 9, 1, 2, 0),
    (6, 7, 3, 1, ((2, 0), (1, 1))),
]


def drawn(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def both(ours, theirs, x, kernel):
    """Value and both gradients of two functions of (x, kernel), under one random cotangent."""
    out = []
    for function in (ours, theirs):

        def run(x, kernel, cotangent, function=function):
            y, pull = jax.vjp(function, x, kernel)
            return y, *pull(cotangent)

        out.append(jax.jit(run)(x, kernel, drawn(*jax.eval_shape(theirs, x, kernel).shape, seed=9)))
    return out


@pytest.mark.parametrize("height, width, size, stride, padding", CASES)
def test_depthwise_is_lax_grouped_convolution(height, width, size, stride, padding):
    x, kernel = drawn(3, height, width, 4), drawn(size, size, 1, 4, seed=1)
    around = layers.pads(padding, (height, width), (size, size), stride)

    def theirs(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), around, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4, precision="highest"
        )

    for ours, reference in zip(*both(lambda x, k: layers.conv(x, k, stride, padding, x.shape[-1]), theirs, x, kernel), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("size, stride, padding", [(1, 1, 0), (1, 2, "SAME"), (1, 2, 0), (3, 1, "SAME"), (1, 1, 1)])
def test_conv_is_lax_convolution(size, stride, padding):
    x, kernel = drawn(3, 7, 8, 5), drawn(size, size, 5, 6, seed=1)
    around = layers.pads(padding, (7, 8), (size, size), stride)

    def theirs(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), around, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
        )

    for ours, reference in zip(*both(lambda x, k: layers.conv(x, k, stride, padding), theirs, x, kernel), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=2e-5)


def batch_norm(x, scale, bias, eps):
    """Batch normalisation with its mean and variance, plainly."""
    mean = x.mean((0, 1, 2))
    var = ((x - mean) ** 2).mean((0, 1, 2))
    return (x - mean) / (var + eps) ** 0.5 * scale + bias, mean, var


def test_batch_norm_train_is_the_formula_in_float64():
    x, scale, bias = np.asarray(drawn(4, 5, 6, 3)) * 3 + 2, drawn(3, seed=1), drawn(3, seed=2)
    for ours, exact in zip(
        layers.batch_norm_train(jnp.asarray(x), scale, bias, 1e-3),
        batch_norm(np.float64(x), *map(np.float64, (scale, bias)), 1e-3),
        strict=True,
    ):
        np.testing.assert_allclose(ours, exact, rtol=2e-5, atol=2e-5)


def test_batch_norm_train_has_the_gradients_of_the_formula():
    """Through all three results at once, against central differences in float64."""
    x, scale, bias = np.float64(drawn(2, 3, 2, 3)) * 2 + 1, np.float64(drawn(3, seed=1)), np.float64(drawn(3, seed=2))
    weights = [np.random.default_rng(i).normal(size=s) for i, s in enumerate(((2, 3, 2, 3), (3,), (3,)))]

    def loss(x, scale, bias):
        return sum((w * y).sum() for w, y in zip(weights, batch_norm(x, scale, bias, 1e-3), strict=True))

    def ours(x, scale, bias):
        results = layers.batch_norm_train(x, scale, bias, 1e-3)
        return sum((jnp.asarray(w, jnp.float32) * y).sum() for w, y in zip(weights, results, strict=True))

    values = [x, scale, bias]
    grads = jax.jit(jax.grad(ours, (0, 1, 2)))(*(jnp.asarray(v, jnp.float32) for v in values))
    for i, grad in enumerate(grads):
        exact = np.empty_like(values[i])
        for at in np.ndindex(exact.shape):
            steps = []
            for delta in (1e-5, -1e-5):
                moved = [v.copy() for v in values]
                moved[i][at] += delta
                steps.append(loss(*moved))
            exact[at] = (steps[0] - steps[1]) / 2e-5
        np.testing.assert_allclose(grad, exact, rtol=2e-4, atol=2e-4)


def test_batch_norm_apply_uses_the_given_statistics():
    x, scale, bias, mean = drawn(2, 3, 3, 4), drawn(4, seed=1), drawn(4, seed=2), drawn(4, seed=3)
    var = drawn(4, seed=4) ** 2 + 0.1
    exact = (np.float64(x) - mean) / np.sqrt(np.float64(var) + 1e-3) * scale + bias
    np.testing.assert_allclose(layers.batch_norm_apply(x, scale, bias, mean, var, 1e-3), exact, rtol=1e-4, atol=1e-5)
