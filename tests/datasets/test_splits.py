"""Held-out splits: shares per class, independence of order, reproducibility."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.datasets import splits

single = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(np.array)
several = st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=30).map(lambda rows: np.array(rows, np.float32))
fractions = st.floats(0.01, 0.99)


@given(single, fractions, st.integers(0, 9))
def test_hold_out_takes_the_share_of_each_class(labels, fraction, seed):
    held = splits.hold_out([f"i{i}" for i in range(len(labels))], labels, fraction, seed)
    for label in set(labels.tolist()):
        count, out = int((labels == label).sum()), int(held[labels == label].sum())
        assert out < count or count == 0  # one is always left to train on
        assert (out >= 1) == (count >= 2)
        assert abs(out - fraction * count) <= 1


@given(several, fractions, st.integers(0, 9))
def test_hold_out_of_multi_label_leaves_every_class_to_train(labels, fraction, seed):
    held = splits.hold_out([f"i{i}" for i in range(len(labels))], labels, fraction, seed)
    assert (labels[~held].sum(axis=0) > 0).tolist() == (labels.sum(axis=0) > 0).tolist()


def test_hold_out_spares_the_last_example_of_a_class_shared_by_rarer_ones():
    labels = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0]], np.float32)
    for seed in range(20):
        held = splits.hold_out(["w", "x", "y", "z"], labels, 0.5, seed)
        assert labels[~held].any(axis=0).all()
        assert held.any()


@given(single, fractions, st.randoms(use_true_random=False))
def test_hold_out_does_not_depend_on_the_order_of_the_examples(labels, fraction, random):
    names = [f"i{i}" for i in range(len(labels))]
    held = splits.hold_out(names, labels, fraction, seed=3)
    moved = list(range(len(labels)))
    random.shuffle(moved)
    again = splits.hold_out([names[i] for i in moved], labels[moved], fraction, seed=3)
    assert again.tolist() == held[moved].tolist()


def test_hold_out_changes_with_the_seed_and_hardly_with_a_new_image():
    names, labels = [f"i{i}" for i in range(200)], np.arange(200) % 4
    held = splits.hold_out(names, labels, 0.25, seed=0)
    assert held.sum() == 4 * 13  # 12.5 of 50 is rounded up
    assert (splits.hold_out(names, labels, 0.25, seed=1) != held).any()
    more = splits.hold_out([*names, "new"], np.append(labels, 0), 0.25, seed=0)[:-1]
    assert (more != held).sum() <= 2


@given(single, st.integers(1, 6), st.integers(0, 9))
def test_per_class_picks_the_given_number(labels, count, seed):
    where = splits.per_class([f"i{i}" for i in range(len(labels))], labels, count, seed)
    assert where.tolist() == sorted(set(where.tolist()))
    expected = np.minimum(np.bincount(labels, minlength=5), count)
    assert np.bincount(labels[where], minlength=5).tolist() == expected.tolist()
