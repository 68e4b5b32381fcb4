"""CAFormer: how its parts start and what they compute; parity is in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np

from sgdr_jax.models import CAFormerS18
from sgdr_jax.models.attention import ImageAttention
from sgdr_jax.models.blocks import ChannelScale, LayerNorm, Mode, StarReLU


def test_scales_start_as_identities_and_star_relu_as_the_squared_relu() -> None:
    network = CAFormerS18(weights=None).build(3)
    params, _ = network.init(jax.random.key(0))
    block = params["late"]["block6"]["mlp"]
    assert np.all(block["down"]["scale"] == 1) and np.all(block["activate"]["scale"] == 1) and np.all(block["activate"]["bias"] == 0)
    assert "bias" not in block["norm"] and "bias" in params["late"]["pool"]["then"]["before"]


def test_star_relu_is_its_formula() -> None:
    module = StarReLU()
    module.scale[...], module.bias[...] = jnp.array([0.9]), jnp.array([-0.4])
    x = jnp.array([[-2.0, 0.0, 3.0]])
    np.testing.assert_allclose(module(x, Mode()), [[-0.4, -0.4, 7.7]], rtol=1e-6)
    assert module(x.astype(jnp.bfloat16), Mode()).dtype == jnp.bfloat16


def test_a_layer_norm_without_bias_only_scales() -> None:
    module, scale = LayerNorm(3, 1e-6, bias=False), ChannelScale(3)
    module.scale[...] = scale.scale[...] = jnp.array([1.0, 2.0, 3.0])
    x = jnp.array([[1.0, 2.0, 3.0]])
    plain = (np.asarray(x) - 2) / np.sqrt(2 / 3)
    np.testing.assert_allclose(module(x, Mode()), scale(jnp.asarray(plain), Mode()), atol=1e-5)


def test_attention_of_an_image_sees_its_pixels_in_any_order() -> None:
    """Without positions: permuted pixels give permuted results."""
    module, rng = ImageAttention(8, 2, bias=False, project_bias=False), np.random.default_rng(0)
    for linear in (module.qkv, module.project):
        linear.kernel[...] = jnp.asarray(rng.normal(size=linear.kernel.shape), jnp.float32)
    x, order = rng.normal(size=(2, 12, 8)).astype(np.float32), rng.permutation(12)
    plain, permuted = (module(jnp.asarray(y.reshape(2, 3, 4, 8)), Mode()) for y in (x, x[:, order]))
    assert plain.shape == (2, 3, 4, 8)
    np.testing.assert_allclose(np.asarray(plain).reshape(2, 12, 8)[:, order], np.asarray(permuted).reshape(2, 12, 8), rtol=1e-5, atol=1e-5)
