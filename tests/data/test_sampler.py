"""Orders with and without oversampling, and batches that can be entered anywhere."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.data.sampler import Sampler, eval_batches, expected_draws, steps_per_epoch

from ..helpers import expected_counts

# ---- orders ----

labels_of = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)
balances = st.floats(0.01, 1)


@given(labels_of, st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 99))
def test_order_is_a_permutation(labels, seed, stage, epoch):
    got = Sampler(seed, stage, labels).order(epoch)
    assert sorted(got.tolist()) == list(range(len(labels)))
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, Sampler(seed, stage, labels).order(epoch))


def test_order_is_the_same_for_ever_and_changes_with_each_argument():
    labels = np.arange(8) % 2
    assert Sampler(0, 0, labels).order(0).tolist() == [7, 1, 2, 0, 4, 5, 6, 3]
    assert len({tuple(Sampler(*key, labels).order(e).tolist()) for *key, e in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0))}) == 5


def test_permutations_are_uniform():
    first = Counter(int(Sampler(0, 0, np.zeros(4, int)).order(epoch)[0]) for epoch in range(2000))
    assert all(abs(first[i] - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75) for i in range(4))


@given(labels_of, balances, st.integers(0, 9))
def test_balanced_counts_are_within_one_of_their_mean(labels, balance, epoch):
    got = Sampler(0, 0, labels, balance).order(epoch)
    assert len(got) == len(labels)
    mean = expected_counts(labels, balance)
    assert (np.abs(np.bincount(labels[got], minlength=len(mean)) - mean) < 1 + 1e-9).all()
    times = np.bincount(got, minlength=len(labels))
    for label in set(labels.tolist()):  # nobody twice before everybody once
        assert np.ptp(times[labels == label]) <= 1


@given(labels_of, st.fractions(0, 1, max_denominator=20))
def test_expected_counts_follow_the_formula(labels, balance):
    n, present = len(labels), Counter(labels.tolist())
    got = expected_counts(labels, float(balance))
    for label, mean in enumerate(got.tolist()):
        share = (1 - balance) * Fraction(present[label], n) + balance * Fraction(1, len(present)) if present[label] else Fraction(0)
        assert mean == pytest.approx(float(n * share), abs=1e-9)
    np.testing.assert_allclose(expected_counts(labels, 0.0), np.bincount(labels))


def test_balanced_rounding_is_unbiased():
    labels = np.array([0] * 7 + [1] * 3 + [2])
    drawn = np.mean([np.bincount(labels[Sampler(0, 0, labels, 0.5).order(epoch)], minlength=3) for epoch in range(3000)], axis=0)
    np.testing.assert_allclose(drawn, expected_counts(labels, 0.5), atol=0.05)


@given(st.lists(st.tuples(*[st.booleans()] * 4), min_size=1, max_size=40).map(lambda rows: np.array(rows, np.float32)), balances)
def test_balanced_multi_label_draws_by_the_rarest_label(labels, balance):
    frequency = labels.sum(axis=0)
    rarest = [min(np.flatnonzero(row), key=lambda c: (frequency[c], c)) if row.any() else 4 for row in labels]
    sizes = Counter(rarest)
    named, classes = len(labels) - sizes[4], len(set(sizes) - {4})
    weight = np.array([1 if label == 4 else (1 - balance) + balance * named / classes / sizes[label] for label in rarest])
    np.testing.assert_allclose(expected_counts(labels, balance), weight @ labels, rtol=1e-6)
    times = np.bincount(Sampler(1, 2, labels, balance).order(3), minlength=len(labels))
    assert times.sum() == len(labels)
    for label, size in sizes.items():
        mine = np.array([label == other for other in rarest])
        assert abs(times[mine].sum() - weight[mine].sum()) < 1 + 1e-6
        assert size == 1 or np.ptp(times[mine]) <= 1


@pytest.mark.parametrize("rates", [None, np.linspace(0.5, 1.5, 101)], ids=["alike", "rates"])
@pytest.mark.parametrize("empty", [1, 50, 101])
def test_images_without_a_label_are_no_class_to_balance(empty: int, rates: np.ndarray | None) -> None:
    """The one of 101 images that had no label was drawn 13 times an epoch at a balance of a half."""
    labels = np.eye(3, dtype=np.float32)[np.arange(101) % 3]
    labels[:empty] = 0
    draws = expected_draws(labels, 0.5, rates)
    np.testing.assert_allclose(draws[:empty], 1 if rates is None else rates[:empty])
    assert draws.sum() == pytest.approx(101)
    times = np.bincount(Sampler(0, 0, labels, 0.5, rates).order(0), minlength=101)
    assert times[:empty].max() <= 2 and times.sum() == 101


def test_balance_one_makes_rare_classes_as_frequent():
    labels = np.array([0] * 90 + [1] * 10)
    got = Sampler(3, 0, labels, 1.0).order(0)
    assert np.bincount(labels[got]).tolist() == [50, 50]
    assert np.bincount(got, minlength=100)[90:].tolist() == [5] * 10
    assert 10 < labels[got][:50].sum() < 40  # mixed, not class by class
    assert (Sampler(3, 0, labels, 1.0).order(1) != got).any()


# ---- batches ----


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 3), st.sampled_from([0, 1, 3]), st.sampled_from([0.0, 0.5]), st.data())
def test_batches_can_be_entered_at_any_step(n, batch_size, epochs, views, balance, data):
    labels = np.arange(n) % 3
    steps = epochs * steps_per_epoch(n, batch_size)
    whole = list(Sampler(0, 1, labels, balance).batches(batch_size=batch_size, steps=steps, views=views))
    assert len(whole) == steps
    first = data.draw(st.integers(0, steps))
    rest = list(Sampler(0, 1, labels, balance).batches(batch_size=batch_size, steps=steps, first_step=first, views=views))
    for batch, again in zip(whole[first:], rest, strict=True):
        for part, same in zip(batch, again, strict=True):
            np.testing.assert_array_equal(part, same)
            assert part.shape == (batch_size,)
            assert part.dtype == same.dtype
    assert sum(batch.weight.sum() for batch in whole) == epochs * n
    for epoch in range(epochs):
        part = whole[epoch * steps // epochs : (epoch + 1) * steps // epochs]
        index, weight = (np.concatenate(column) for column in list(zip(*part, strict=True))[::2])
        np.testing.assert_array_equal(index[weight > 0], Sampler(0, 1, labels, balance).order(epoch))
        if views:
            np.testing.assert_array_equal(np.concatenate([batch.draw for batch in part]), epoch % views * n + index)
    if not views:
        assert np.concatenate([batch.draw for batch in whole]).tolist() == list(range(steps * batch_size))


def test_batch_types_and_padding_with_different_images():
    last = list(Sampler(0, 0, np.arange(10) % 2).batches(batch_size=8, steps=2))[-1]
    assert (last.index.dtype, last.draw.dtype, last.weight.dtype) == (np.int32, np.uint32, np.float32)
    assert last.weight.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert len(set(last.index.tolist())) == 8


def test_draws_wrap_and_too_many_views_are_refused():
    step = 2**31
    batch = next(Sampler(0, 0, np.zeros(4, int)).batches(batch_size=4, steps=step + 1, first_step=step))
    assert batch.draw.tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="views is 2147483648; with 4 images use at most 1073741824"):
        next(Sampler(0, 0, np.zeros(4, int)).batches(batch_size=4, steps=1, views=2**31))


@given(st.integers(0, 40), st.integers(1, 12))
def test_eval_batches_count_everything_once(n, batch_size):
    got = list(eval_batches(n, batch_size))
    assert len(got) == steps_per_epoch(n, batch_size)
    index = [i for batch in got for i, weight in zip(batch.index.tolist(), batch.weight.tolist(), strict=True) if weight == 1]
    assert index == list(range(n))
    for batch in got:
        assert (batch.index.shape, batch.index.dtype, batch.draw.dtype, batch.weight.dtype) == (
            (batch_size,),
            np.int32,
            np.uint32,
            np.float32,
        )
        np.testing.assert_array_equal(batch.index, batch.draw)
        assert (batch.index < n).all()
