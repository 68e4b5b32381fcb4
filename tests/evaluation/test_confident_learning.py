"""Confident learning against its definition, one image at a time, and on labels that were made wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.evaluation.confident_learning import confident_classes, find_suspects, thresholds

from ..helpers import seeded


def drawn(seed: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(k, 0.5), n), rng.integers(0, k, n)


@seeded
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(2, 5))
def test_suspects_are_found_as_published(seed: int, n: int, k: int) -> None:
    p, labels = drawn(seed, n, k)
    t = [p[labels == j, j].mean() if (labels == j).any() else np.inf for j in range(k)]
    np.testing.assert_allclose(thresholds(p, labels), t)
    confident = np.full(n, -1)
    suspects = []
    for x in range(n):
        reached = [j for j in range(k) if p[x, j] >= t[j] - 1e-12]
        if not reached:
            continue
        j = max(reached, key=lambda j: p[x, j])
        confident[x] = j
        if j != labels[x] != p[x].argmax():
            suspects.append((p[x, labels[x]] - p[x, j], x, j))
    np.testing.assert_array_equal(confident_classes(p, labels), confident)
    found = find_suspects(p, labels)
    assert [(s.margin, s.index, *s.suggested) for s in found] == sorted(suspects)
    assert [s.margin for s in found] == sorted(s.margin for s in found)


def test_labels_that_were_made_wrong_are_found() -> None:
    """Northcutt et al. 2021, theorem 1: with probabilities that are right up to noise per class, exactly the wrong labels are found."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 400)
    labels = np.where(rng.random(400) < 0.1, (true + 1) % 4, true)
    p = np.full((400, 4), 0.05)
    p[np.arange(400), true] = 0.85
    assert sorted(s.index for s in find_suspects(p, labels)) == np.flatnonzero(labels != true).tolist()
    assert all(s.suggested == (true[s.index],) for s in find_suspects(p, labels))


def test_equal_probabilities_reach_their_mean() -> None:
    p = np.full((7, 3), [0.1, 0.3, 0.6])
    assert confident_classes(p, np.full(7, 1)).tolist() == [1] * 7  # the mean of seven times 0.3 may round above 0.3
    assert find_suspects(p, np.full(7, 1)) == []


def test_classes_without_images_are_never_suggested() -> None:
    p, labels = drawn(0, 50, 4)
    labels[labels == 3] = 2
    assert all(s.suggested != (3,) for s in find_suspects(p, labels))
    assert find_suspects(p[:0], labels[:0]) == []


def test_several_labels_are_decided_class_by_class() -> None:
    rng = np.random.default_rng(1)
    true = rng.random((300, 3)) < 0.4
    labels = true.copy()
    labels[5, 0] ^= True
    labels[7] ^= np.array([True, False, True])
    p = np.where(true, 0.9, 0.1)
    p[7, 2] = 0.97 if true[7, 2] else 0.03
    first, second = find_suspects(p, labels.astype(np.float32))
    assert (first.index, second.index) == (7, 5)
    assert first.margin == pytest.approx(-0.94) and second.margin == pytest.approx(-0.8)
    assert first.suggested == tuple(np.flatnonzero(true[7])) and second.suggested == tuple(np.flatnonzero(true[5]))
