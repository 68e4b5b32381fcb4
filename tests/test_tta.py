"""Test-time augmentation: which views there are, and how they are mixed, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax import tta
from sgdr_jax.augment import kernel, side_on
from sgdr_jax.config import Eval

KEY = jax.random.key(3)
view = jax.jit(tta.view, static_argnames=("augmentations", "size", "kind"))


def pictures(count: int = 5) -> tuple[jax.Array, jax.Array]:
    images = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3)).astype(np.uint8)
    return jnp.asarray(images), jnp.arange(count, dtype=jnp.uint32) + 40


def soft(z: np.ndarray, multi_label: bool) -> np.ndarray:
    """Softmax or sigmoid in float64."""
    if multi_label:
        return 1 / (1 + np.exp(-z))
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("mean", ["probability", "log"])
@settings(max_examples=15, deadline=None)
@given(views=st.sampled_from([1, 2, 5]), weight=st.none() | st.floats(0, 1), seed=st.integers(0, 100))
def test_mixing_is_the_weighted_mean(mean, multi_label, views, weight, seed):
    z = np.random.default_rng(seed).normal(0, 3, (views, 4, 6))
    got = tta.combine(jnp.asarray(z, jnp.float32), weight=weight, mean=mean, multi_label=multi_label)
    weights = np.full(views, 1 / views)
    if weight is not None and views > 1:
        weights = np.array([weight] + [(1 - weight) / (views - 1)] * (views - 1))
    p = soft(z, multi_label)
    if mean == "probability":
        want = np.einsum("v,vbk->bk", weights, p)
    else:
        # The geometric mean, normalised over the classes, or over "yes" and "no" of each label.
        yes = np.exp(np.einsum("v,vbk->bk", weights, np.log(p)))
        no = np.exp(np.einsum("v,vbk->bk", weights, np.log1p(-p)))
        want = yes / (yes + no) if multi_label else yes / yes.sum(-1, keepdims=True)
    np.testing.assert_allclose(got, want, atol=2e-6)
    if not multi_label:
        np.testing.assert_allclose(got.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("mean", ["probability", "log"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_certain_and_impossible_classes_stay_finite(mean, multi_label):
    z = jnp.asarray([[[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]], [[3e4, -3e4, -1e30]]])
    got = np.asarray(tta.combine(z, weight=None, mean=mean, multi_label=multi_label))
    assert np.isfinite(got).all()
    assert (got >= 0).all()
    assert (got <= 1).all()
    masked = jnp.asarray([[[0.0, -jnp.inf]], [[1.0, 1.0]]])
    np.testing.assert_allclose(tta.combine(masked, weight=0, mean=mean), [[0.5, 0.5]], atol=1e-6)


def test_fastai_weight_repeats_the_plain_view():
    z = np.random.default_rng(0).normal(0, 2, (8, 3, 4))
    for n in (1, 4, 5, 7):
        repeated = np.concatenate([np.repeat(z[:1], -(-n // 4), 0), z[1 : n + 1]])
        got = tta.combine(jnp.asarray(z[: n + 1], jnp.float32), weight=tta.fastai07_weight(n))
        np.testing.assert_allclose(got, soft(repeated, False).mean(0), atol=1e-6)
    assert tta.fastai07_weight(0) == 1


@pytest.mark.parametrize("kind", ["random", "flip", "dihedral"])
def test_view_zero_is_the_plain_image(kind):
    images, ids = pictures()
    got = view(images, ids, KEY, jnp.int32(0), augmentations=side_on(), size=16, kind=kind)
    np.testing.assert_array_equal(got, jax.jit(kernel.resize, static_argnums=1)(images, 16))


def test_fixed_views_move_pixels():
    images, ids = pictures()
    plain = np.asarray(kernel.resize(images, 16))
    flipped = view(images, ids, KEY, 1, augmentations=(), size=16, kind="flip")
    np.testing.assert_allclose(flipped, plain[:, :, ::-1], atol=1e-6)
    views = [view(images, ids, KEY, v, augmentations=(), size=16, kind="dihedral") for v in range(8)]
    turns = [np.rot90(x, k, (1, 2)) for x in (plain, plain[:, :, ::-1]) for k in range(4)]
    for got in views:
        assert sum(np.allclose(got, want, atol=1e-6) for want in turns) == 1
    assert len({np.asarray(x).tobytes() for x in views}) == 8


def test_random_views_depend_on_view_and_example_alone():
    images, ids = pictures()
    how = {"augmentations": side_on(), "size": 16, "kind": "random"}
    views = [np.asarray(view(images, ids, KEY, v, **how)) for v in range(4)]
    np.testing.assert_allclose(view(images, ids, KEY, jnp.int32(2), **how), views[2], atol=1e-6)
    np.testing.assert_allclose(view(images[3:], ids[3:], KEY, 2, **how), views[2][3:], atol=1e-6)
    assert len({x.tobytes() for batch in views for x in batch}) == 20
    assert np.abs(np.asarray(view(images, ids, jax.random.key(4), 2, **how)) - views[2]).max() > 0.01


def test_count():
    assert tta.count(Eval(tta_views=0)) == 1
    assert tta.count(Eval(tta_views=4)) == 1
    assert tta.count(Eval(tta_views=4), side_on()) == 5
    assert tta.count(Eval(tta_views=0), side_on()) == 1
    assert tta.count(Eval(tta_views=1, tta_kind="flip")) == 2
