"""Label arrays: counts and strata."""

import numpy as np

from sgdr_jax.datasets.labels import counts, strata


def test_counts_of_both_kinds_of_labels():
    assert counts(np.array([0, 2, 2]), 4).tolist() == [1, 0, 2, 0]
    assert counts(np.array([[1, 0], [1, 1]], np.float32), 2).tolist() == [2, 1]


def test_a_stratum_is_the_class_or_the_rarest_label():
    assert strata(np.array([2, 0], np.int32)).tolist() == [2, 0]
    assert strata(np.array([[1, 1], [1, 0], [0, 0]], np.float32)).tolist() == [1, 0, 2]
