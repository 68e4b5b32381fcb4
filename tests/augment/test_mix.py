"""Images of a batch mixed with their neighbours, and what loss and accuracy make of their labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sgdr_jax.augment import CutMix, Flip, MixUp, kernel
from sgdr_jax.augment.mix import _beta
from sgdr_jax.core.errors import InputError
from sgdr_jax.data.sampler import Sampler, repeated
from sgdr_jax.evaluation import metrics

from ..helpers import seeded
from .augmentations import KEY, augment, mix, photos, seeds


@pytest.mark.parametrize("n", [6, 5, 1])
def test_neighbours_swap(n):
    want = [1, 0, 3, 2, 5, 4][: n // 2 * 2] + [n - 1] * (n % 2)
    assert np.asarray(kernel.neighbours(jnp.arange(n, dtype=jnp.int32))).tolist() == want


def test_mixup_blends_and_says_how_much():
    x = jnp.asarray(photos(6, 8, 3) / 255, jnp.float32)
    got, share = mix(x, seeds(6), KEY, augmentations=(Flip(), MixUp(1.0)))
    s = np.asarray(share)[:, None, None, None]
    np.testing.assert_allclose(got, s * x + (1 - s) * np.asarray(x)[[1, 0, 3, 2, 5, 4]], atol=1e-6)
    u = [np.asarray(jax.random.uniform(jax.random.fold_in(KEY, 100 + i), (3,)))[2] for i in range(6)]
    np.testing.assert_allclose(share, u, atol=1e-5)  # Beta(1, 1) is even
    half = mix(x, seeds(6), KEY, augmentations=(Flip(), MixUp(1.0)), strength=jnp.float32(0.5))[1]
    np.testing.assert_allclose(half, 1 - 0.5 * (1 - share), atol=1e-6)


def test_cutmix_pastes_what_its_share_says():
    x = jnp.asarray(np.arange(40, dtype=np.float32)[:, None, None, None] * np.ones((40, 16, 16, 1), np.float32))
    got, share = map(np.asarray, mix(x, seeds(40), KEY, augmentations=(CutMix(p=1),)))
    own = got[..., 0] == np.arange(40)[:, None, None]
    assert (own | (got[..., 0] == (np.arange(40) ^ 1)[:, None, None])).all()
    np.testing.assert_allclose(own.mean((1, 2)), share, atol=1e-6)
    assert 0.1 < share.mean() < 0.9 and len(set(share.tolist())) > 20
    for picture in ~own:  # one rectangle
        rows, columns = picture.any(1), picture.any(0)
        assert picture.sum() == rows.sum() * columns.sum()


@given(alpha=st.sampled_from([0.2, 0.4, 1.0, 3.0]), u=st.floats(0, 1, exclude_max=True))
def test_shares_follow_the_beta_distribution(alpha, u):
    np.testing.assert_allclose(stats.beta.cdf(_beta(np.float64(u), alpha), alpha, alpha), u, atol=2e-3)


def test_mixing_needs_a_probability_and_leaves_augment_alone():
    images, s = jnp.asarray(photos(4, 8, 3)), seeds(4)
    alone = augment(images, s, KEY, augmentations=(Flip(),), size=8)
    np.testing.assert_array_equal(augment(images, s, KEY, augmentations=(Flip(), MixUp()), size=8), alone)
    got, share = mix(alone, s, KEY, augmentations=(Flip(), MixUp(p=0)))
    np.testing.assert_array_equal(got, alone)
    assert np.asarray(share).tolist() == [1] * 4
    with pytest.raises(InputError, match="not both"):
        kernel.mix(alone, s, KEY, (MixUp(), CutMix()))


def test_pairs_stay_on_their_device():
    split = jax.NamedSharding(jax.sharding.Mesh(np.array(jax.devices()), ("batch",)), jax.P("batch"))
    x = jnp.asarray(photos(8, 8, 3) / 255, jnp.float32)
    arguments = jax.device_put((x, seeds(8)), split)
    compiled = jax.jit(lambda x, s: kernel.mix(x, s, KEY, (MixUp(1.0),)), out_shardings=split).lower(*arguments).compile()
    text = compiled.as_text() or ""
    assert not [word for word in ("all-gather", "all-to-all", "all-reduce", "collective-permute") if word in text]
    np.testing.assert_allclose(compiled(*arguments)[0], mix(x, seeds(8), KEY, augmentations=(MixUp(1.0),))[0], atol=1e-6)


# ---- labels ----


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_of_a_mixture_is_that_of_soft_targets(multi_label, smoothing):
    rng = np.random.default_rng(0)
    z, share, eye = rng.normal(0, 2, (7, 4)), rng.uniform(0, 1, 7), np.eye(4)
    one, two = (rng.integers(0, 2, (7, 4)).astype(float) for _ in range(2)) if multi_label else rng.integers(0, 4, (2, 7))
    got = metrics.losses(z, metrics.Mixed(one, two, share, np.ones(7)), smoothing)
    soft = share[:, None] * (one if multi_label else eye[one]) + (1 - share)[:, None] * (two if multi_label else eye[two])
    if multi_label:
        p, t = 1 / (1 + np.exp(-z)), soft * (1 - smoothing) + smoothing / 2
        want = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(1)
    else:
        want = -((soft * (1 - smoothing) + smoothing / 4) * (z - np.log(np.exp(z).sum(1, keepdims=True)))).sum(1)
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_accuracy_of_a_mixture_counts_each_label_by_its_share():
    z = np.array([[5.0, 0, 0], [0, 5, 0], [0, 0, 5]])
    labels = metrics.Mixed(np.array([0, 0, 0]), np.array([1, 1, 1]), np.array([0.7, 0.7, 0.7]), np.ones(3))
    sums = metrics.sums(z, labels, np.array([1.0, 1, 1]))
    assert sums["correct"] == pytest.approx(0.7 + 0.3)
    assert sums["weight"] == 3
    pure = metrics.Mixed(np.array([0, 1, 1]), np.array([2, 2, 2]), np.ones(3), np.ones(3))
    assert metrics.sums(z, pure, np.ones(3)) == metrics.sums(z, pure.own, np.ones(3))


# ---- repeated augmentation ----


@seeded
@given(st.integers(1, 60), st.sampled_from([(8, 2), (8, 8), (32, 4), (6, 3)]))
def test_no_repeated_batch_is_all_padding(n, sizes):
    """Updates without an image logged a loss of 0 and made the finder's curve fall."""
    batch_size, times = sizes
    per_epoch = -(-n // batch_size)
    batches = list(repeated(Sampler(3, 0, np.zeros(n, np.int32)).batches(batch_size, 2 * per_epoch), times))
    assert len(batches) == 2 * per_epoch * times and all(batch.weight.sum() >= times for batch in batches)
    shown = {int(i) for batch in batches[: per_epoch * times] for i, w in zip(batch.index, batch.weight, strict=True) if w}
    assert shown == set(range(n))


@pytest.mark.parametrize("first", [0, 1, 5])
def test_repeated_batches_show_each_image_in_several_draws(first):
    labels = np.zeros(24, np.int32)

    def batches(start: int) -> list:
        return list(repeated(Sampler(3, 0, labels).batches(batch_size=8, first_step=start // 2, steps=6), 2, start))

    every = batches(0)
    assert len(every) == 12
    for batch in every:
        assert np.array_equal(batch.index[:4], batch.index[4:]) and len(set(batch.index.tolist())) == 4
    assert len({draw for batch in every for draw in batch.draw.tolist()}) == 96
    # Two epochs of three updates show all 24 images, each twice.
    assert np.bincount(np.concatenate([batch.index for batch in every[:6]])).tolist() == [2] * 24
    for one, two in zip(batches(first), every[first:], strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(one, two, strict=True))
