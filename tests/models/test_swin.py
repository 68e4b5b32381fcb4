"""SwinV2: what its windows see, how it starts, and images of every size; parity is in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdr_jax.models import SwinV2Tiny
from sgdr_jax.models.blocks import Mode
from sgdr_jax.models.window_attention import PatchMerging, WindowAttention


def attention(window: int, *, shifted: bool) -> WindowAttention:
    module, rng = WindowAttention(8, 2, window, shifted=shifted), np.random.default_rng(0)
    for linear in (module.qkv, module.project, module.positions.hidden, module.positions.bias):
        linear.kernel[...] = jnp.asarray(rng.normal(size=linear.kernel.shape), jnp.float32)
    return module


def seen(module: WindowAttention, size: tuple[int, int], place: tuple[int, int]) -> set[tuple[int, int]]:
    """The places that the result at one place depends on."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(1, *size, 8)), jnp.float32)
    slope = jax.grad(lambda x: module(x, Mode())[0, place[0], place[1]].sum())(x)
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(np.abs(np.asarray(slope[0])).max(-1) > 1e-9), strict=True)}


def block(rows: range, columns: range) -> set[tuple[int, int]]:
    return {(i, j) for i in rows for j in columns}


@pytest.mark.parametrize(
    ("window", "shifted", "size", "place", "expected"),
    [
        (4, False, (8, 8), (5, 2), block(range(4, 8), range(4))),
        (4, True, (8, 8), (5, 2), block(range(2, 6), range(2, 6))),
        # The rolled image brings opposite edges together; they stay apart.
        (4, True, (8, 8), (7, 7), block(range(6, 8), range(6, 8))),
        (4, True, (8, 8), (0, 4), block(range(2), range(2, 6))),
        # The last window is padded.
        (4, False, (6, 8), (5, 0), block(range(4, 6), range(4))),
        # An image that is no larger is a single window.
        (4, True, (3, 3), (0, 0), block(range(3), range(3))),
        (8, True, (8, 8), (7, 7), block(range(8), range(8))),
    ],
)
def test_a_place_sees_its_window(
    window: int, shifted: bool, size: tuple[int, int], place: tuple[int, int], expected: set[tuple[int, int]]
) -> None:
    assert seen(attention(window, shifted=shifted), size, place) == expected


def test_half_precision_stays_near_and_an_image_of_zeros_has_finite_gradients() -> None:
    module, x = attention(4, shifted=True), jnp.asarray(np.random.default_rng(2).normal(size=(2, 6, 6, 8)), jnp.float32)
    full, half = module(x, Mode()), module(x.astype(jnp.bfloat16), Mode())
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), full, atol=0.05 * float(jnp.abs(full).max()))
    assert np.isfinite(jax.grad(lambda x: module(x, Mode()).sum())(jnp.zeros((1, 6, 6, 8)))).all()


def test_merging_takes_the_four_neighbours_in_the_papers_order() -> None:
    module = PatchMerging(1, 1e-5)
    module.reduce.kernel[...] = jnp.eye(4, 2)
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    merged = module.reduce(jnp.asarray([[0.0, 3.0, 1.0, 4.0]]), Mode())
    assert merged.tolist() == [[0.0, 3.0]] and module(x, Mode()).shape == (1, 2, 2, 2)
    expected = module.norm(jnp.asarray([[[0.0, 3.0], [2.0, 5.0]], [[6.0, 0.0], [8.0, 0.0]]]), Mode())
    np.testing.assert_allclose(module(x, Mode())[0], expected, atol=1e-5)


@pytest.mark.parametrize("size", [40, 64])
def test_every_size_goes_with_the_same_parameters(size: int) -> None:
    small = type("SwinV2Small", (SwinV2Tiny,), {"depths": (1, 1, 2, 1), "width": 32, "features": 256})
    network = small(weights=None).build(3)
    params, stats = network.init(jax.random.key(0))
    np.testing.assert_allclose(params["early"]["block0"]["mixer"]["attention"]["log_scale"], np.log(10), rtol=1e-6)
    logits, _ = network.apply(params, stats, jnp.zeros((2, size, size, 3)))
    assert network.groups == ("early", "late", "head") and logits.shape == (2, 3) and np.isfinite(logits).all()
