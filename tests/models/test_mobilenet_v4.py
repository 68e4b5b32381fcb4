"""MobileNetV4: its universal blocks, and the normalisation between pooling and head; parity is in test_parity.py."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from sgdr_jax.models import MobileNetV4Medium, MobileNetV4Small
from sgdr_jax.models.blocks import ConvBN, Mode
from sgdr_jax.models.head import ConcatPool


def test_blocks_have_every_arrangement_of_the_paper() -> None:
    """With both depthwise convolutions, either, or none."""
    found = {(bool(block.start), bool(block.kernel)) for block in MobileNetV4Medium().table() if block.kind == "universal"}
    assert found == {(True, True), (True, False), (False, False)}
    assert (False, True) in {(bool(block.start), bool(block.kernel)) for block in MobileNetV4Small().table() if block.kind == "universal"}


@dataclass(frozen=True)
class Strided(MobileNetV4Small):
    rows: ClassVar = ((2, 3, 0, 2, 4, 96), *MobileNetV4Small.rows[1:])


def test_a_block_without_second_depthwise_convolution_strides_in_the_first() -> None:
    network = replace(Strided(weights=None), cuts=("block4", "block5")).build(2)
    params, stats = network.init(jax.random.key(0))
    x, _ = network.apply(params, stats, jnp.zeros((1, 64, 64, 3)), stop="block5")
    assert x.shape == (1, 4, 4, 96)


def test_statistics_after_pooling_are_those_of_maxima_and_means_together() -> None:
    """So that training normalises as evaluation does once the running statistics have arrived there."""
    module = ConcatPool(ConvBN(1, 3, 4, eps=1e-5))
    rng = np.random.default_rng(0)
    module.then.kernel[...] = jnp.asarray(rng.normal(size=(1, 1, 3, 4)), jnp.float32)
    module.then.bn.scale[...] = jnp.ones(4)
    x = jnp.asarray(rng.normal(size=(5, 6, 6, 3)), jnp.float32)
    both = np.concatenate([np.asarray(x).max((1, 2)), np.asarray(x).mean((1, 2))]) @ np.asarray(module.then.kernel[0, 0])
    expected = (both - both.mean(0)) / np.sqrt(both.var(0) + 1e-5)
    pooled = module(x, Mode(collect=True))
    np.testing.assert_allclose(pooled, np.concatenate([expected[:5], expected[5:]], axis=1), atol=1e-5)
    np.testing.assert_allclose(module.then.bn.mean[...], 0.1 * both.mean(0), atol=1e-6)
    np.testing.assert_allclose(module.then.bn.var[...], 0.1 * both.var(0, ddof=1), atol=1e-6)

    module.then.bn.mean[...], module.then.bn.var[...] = jnp.asarray(both.mean(0)), jnp.asarray(both.var(0))
    np.testing.assert_allclose(module(x, Mode()), pooled, atol=1e-5)
