"""Test-time augmentation: which views there are, and how they are mixed, against NumPy."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.augment import AugMix, Border, Erase, Flip, MixUp, OneOf, kernel, resampling, side_on
from sgdr_jax.core.experiment import Eval
from sgdr_jax.evaluation import metrics, tta

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
    got = tta.mix_views(jnp.asarray(z, jnp.float32), weight=weight, mean=mean, multi_label=multi_label)
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
    got = np.asarray(tta.mix_views(z, weight=None, mean=mean, multi_label=multi_label))
    assert np.isfinite(got).all()
    assert (got >= 0).all()
    assert (got <= 1).all()
    masked = jnp.asarray([[[0.0, -jnp.inf]], [[1.0, 1.0]]])
    np.testing.assert_allclose(tta.mix_views(masked, weight=0, mean=mean), [[0.5, 0.5]], atol=1e-6)


WEIGHTS = st.none() | st.floats(0, 1) | st.tuples(st.floats(0.1, 2), *[st.floats(0, 2)] * 3)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("mean", ["probability", "log", "max"])
@settings(max_examples=15, deadline=None)
@given(weight=WEIGHTS, scale=st.sampled_from([1.0, 30.0, 1000.0]), seed=st.integers(0, 100))
def test_views_that_say_the_same_have_the_loss_of_each(mean, multi_label, weight, scale, seed):
    """Mixtures were clipped, so that a network that is sure and wrong seemed better with any test-time views."""
    rng = np.random.default_rng(seed)
    z = np.broadcast_to(rng.normal(0, scale, (6, 3)).astype(np.float32), (4, 6, 3))
    labels = rng.integers(0, 2, (6, 3)).astype(np.float32) if multi_label else rng.integers(0, 3, 6)
    losses = [metrics.losses(each, labels) for each in tta.mix_prefixes(z, weight=weight, mean=mean, multi_label=multi_label)]
    for each in losses:
        np.testing.assert_allclose(each, losses[0], rtol=1e-9, atol=1e-12)


def test_prefixes_are_the_mixtures_of_the_first_views():
    z = np.random.default_rng(1).normal(0, 3, (5, 4, 6))
    for how in (
        {"weight": 0.3},
        {"weight": None, "mean": "log"},
        {"weight": 0.0},
        {"weight": 1.0},
        {"mean": "max"},
        {"weight": (2.0, 1, 0, 1, 3)},
    ):
        for multi_label in (False, True):
            got = metrics.squash(tta.mix_prefixes(z, multi_label=multi_label, **how), multi_label)
            for m in range(1, 6):
                np.testing.assert_allclose(got[m - 1], tta.mix_views(z[:m], multi_label=multi_label, **how), atol=1e-12)
            if not multi_label:
                np.testing.assert_allclose(got.sum(-1), 1, atol=1e-12)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_mean_of_one_prediction_after_the_other_is_the_last_mixture(multi_label):
    each = np.random.default_rng(3).normal(0, 30, (5, 40, 6)).astype(np.float32)
    exact = tta.mix_prefixes(each, weight=None, multi_label=multi_label)
    for k in (2, 5):
        np.testing.assert_allclose(tta.mean_logits(list(each[:k]), multi_label), exact[k - 1], rtol=1e-12, atol=1e-12)
    alone = metrics.squash(tta.mean_logits([each[0]], multi_label), multi_label)
    np.testing.assert_allclose(alone, soft(each[0].astype(np.float64), multi_label), rtol=1e-9, atol=1e-15)


def test_an_ensemble_takes_no_more_memory_with_more_members():
    each = np.zeros((30, 500, 100), np.float32)
    tracemalloc.start()
    tta.mean_logits(list(each), multi_label=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * each[0].size * 8  # eight arrays in float64 of one member; all of them are thirty


def test_each_view_can_have_its_weight():
    z = np.random.default_rng(2).normal(0, 3, (3, 4, 6))
    got = tta.mix_views(z, weight=(3.0, 0.0, 1.0))
    np.testing.assert_allclose(got, 0.75 * soft(z[0], False) + 0.25 * soft(z[2], False), atol=1e-12)
    top = np.maximum(soft(z[0], False), soft(z[2], False))
    np.testing.assert_allclose(tta.mix_views(z, weight=(1.0, 0.0, 1.0), mean="max"), top / top.sum(-1, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(tta.mix_views(z, weight=None, mean="max", multi_label=True), soft(z, True).max(0), atol=1e-12)


def test_disagreement_is_the_share_of_views_that_differ():
    z = np.eye(3)[[[0, 1], [0, 2], [1, 1], [0, 1]]]  # 4 views of two images
    np.testing.assert_allclose(tta.disagreement(z, np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])), [0.25, 0.25])
    decisions = np.array([[[1.0, -1.0]], [[1.0, 1.0]]])
    np.testing.assert_allclose(tta.disagreement(decisions, np.array([[0.9, 0.4]]), 0.5), [0.25])
    views = np.array([[[0.30, 0.1]], [[0.55, 0.35]], [[0.30, 0.1]]])
    for threshold, share in ((0.2, 1 / 6), (0.5, 1 / 6), (0.05, 0.0), (0.32, 1 / 2)):
        np.testing.assert_allclose(tta.disagreement(np.log(views / (1 - views)), np.array([[0.36, 0.16]]), threshold), [share])


def test_windows_show_corners_centre_and_scales():
    ramp = np.broadcast_to(np.linspace(0, 255, 32).round().astype(np.uint8)[None, None, :, None], (1, 32, 32, 1))
    images, ids = jnp.asarray(np.concatenate([ramp, ramp.swapaxes(1, 2)])), jnp.arange(2, dtype=jnp.uint32)

    def middle(kind: str, v: int) -> list[float]:
        """What the middle of the view shows: its x and y in -1…1, and the extent of the window in x."""
        got = np.asarray(view(images, ids, KEY, v, augmentations=(), size=16, kind=kind))[..., 0] * 2 - 1
        return [got[0, 8, 7:9].mean(), got[1, 7:9, 8].mean(), (got[0, 8, 9] - got[0, 8, 6]) * 16 / 6]

    share = 32 / 31  # of the values' span, from the first pixel's centre to the last one's
    for v, (x, y) in enumerate([(-1, -1), (1, -1), (-1, 1), (1, 1), (0, 0)], 1):
        np.testing.assert_allclose(middle("ten", v), [x / 8 * share, y / 8 * share, 7 / 8 * share], atol=0.01)
        np.testing.assert_allclose(middle("ten", v + 5), [x / 8 * share, y / 8 * share, -7 / 8 * share], atol=0.01)
        np.testing.assert_allclose(middle("five", v), middle("ten", v), atol=1e-5)
    for v, scale in enumerate([7 / 8, 9 / 8, 3 / 4, 5 / 4], 1):
        np.testing.assert_allclose(middle("scales", v), [0, 0, scale * share], atol=0.01)


def test_windows_lie_within_the_crop():
    images, ids = pictures()
    for kind, v in (("five", 1), ("ten", 9), ("scales", 3)):
        got = tta.view(images, ids, KEY, v, augmentations=(), size=16, kind=kind, plain=resampling.PlainView(crop=0.5))
        inner = np.diag([0.5, 0.5, 1]).astype(np.float32) @ tta._windows(kind)[v]
        want = kernel.resample(images, jnp.broadcast_to(jnp.asarray(inner), (len(images), 3, 3)), 16, (0.25, 1.0))
        np.testing.assert_allclose(got, want, atol=1e-5)
    flipped = tta.view(images, ids, KEY, 1, augmentations=(), size=16, kind="flip", plain=resampling.PlainView("bicubic", 0.5))
    np.testing.assert_allclose(flipped, kernel.resize(images, 16, resampling.PlainView("bicubic", 0.5))[:, :, ::-1], atol=1e-6)


def test_a_weight_repeats_the_plain_view_as_fastai_0_7_did():
    z = np.random.default_rng(0).normal(0, 2, (8, 3, 4))
    for n in (1, 4, 5, 7):
        repeated = np.concatenate([np.repeat(z[:1], -(-n // 4), 0), z[1 : n + 1]])
        weight = -(-n // 4) / (-(-n // 4) + n)
        got = tta.mix_views(jnp.asarray(z[: n + 1], jnp.float32), weight=weight)
        np.testing.assert_allclose(got, soft(repeated, False).mean(0), atol=1e-6)


@pytest.mark.parametrize("kind", ["random", "flip", "five"])
def test_view_zero_is_the_plain_image(kind):
    images, ids = pictures()
    got = view(images, ids, KEY, jnp.int32(0), augmentations=side_on(), size=16, kind=kind)
    np.testing.assert_array_equal(got, jax.jit(resampling.resize, static_argnums=1)(images, 16))


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
    assert tta.view_count(Eval(tta_views=0)) == 1
    assert tta.view_count(Eval(tta_views=4)) == 1
    assert tta.view_count(Eval(tta_views=4), side_on()) == 5
    assert tta.view_count(Eval(tta_views=0), side_on()) == 1
    assert tta.view_count(Eval(tta_views=1, tta_kind="flip")) == 2


STILL = [Border("constant"), MixUp(), Flip(p=0.0), OneOf((Flip(),), p=0.0), AugMix((Flip(),), p=0.0)]


@pytest.mark.parametrize("still", [*([a] for a in STILL), STILL[:3]], ids=lambda still: "+".join(type(a).__name__ for a in still))
def test_augmentations_that_leave_a_single_image_as_it_is_make_no_views(still):
    """A border alone made as many plain views as were asked for."""
    assert tta.view_count(Eval(tta_views=4), still) == 1
    assert tta.view_count(Eval(tta_views=4, tta_kind="five"), still) == 5
    images, ids = pictures()
    plain = view(images, ids, KEY, 0, augmentations=tuple(still), size=12, kind="random")
    np.testing.assert_allclose(view(images, ids, KEY, 2, augmentations=tuple(still), size=12, kind="random"), plain, atol=1e-5)


@pytest.mark.parametrize("acting", [Flip(), OneOf((Flip(),)), AugMix((Flip(),)), Erase()], ids=lambda a: type(a).__name__)
def test_augmentations_that_act_make_views(acting):
    assert tta.view_count(Eval(tta_views=4), (Border(), acting)) == 5
