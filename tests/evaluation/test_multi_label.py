"""Average precision against scikit-learn's, and the fitted threshold against all others."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sgdr_jax.evaluation.metrics import f_beta
from sgdr_jax.evaluation.multi_label import average_precision, fit_threshold, map_of, mean_average_precision, mean_f_beta

from ..helpers import seeded

# Recorded from `average_precision_score` of scikit-learn 1.9.1, with ties.
SCORES = np.array(
    [
        [0.875, 0.625, 0.625], [0.875, 0.5, 0.75], [0.75, 0.125, 0.0], [0.25, 0.25, 0.75], [0.875, 0.0, 0.375], [0.75, 0.125, 0.75],
        [0.0, 0.375, 0.75], [0.25, 0.25, 0.25], [0.625, 0.25, 0.875], [0.375, 0.375, 0.5], [0.5, 0.5, 0.5], [0.875, 0.75, 0.75],
    ]
)  # fmt: skip
LABELS = np.array(
    [
        [0, 0, 1], [1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1], [1, 0, 1],
        [1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1],
    ],
    float,
)  # fmt: skip
EACH, MACRO = [0.40606060606060607, 0.5722222222222222, 0.5378306878306878], 0.5053711720378387


def test_average_precision_is_that_of_scikit_learn() -> None:
    np.testing.assert_allclose(average_precision(SCORES, LABELS), EACH, rtol=1e-14)
    assert mean_average_precision(SCORES, LABELS) == pytest.approx(MACRO, rel=1e-14)
    assert map_of(SCORES, LABELS) == {"map": mean_average_precision(SCORES, LABELS)}


@pytest.mark.parametrize("value", [0, 1], ids=["no image", "every image"])
def test_classes_that_no_image_or_every_one_has_do_not_count(value: int) -> None:
    """Those that every image has counted with 1, whatever their scores."""
    more = np.concatenate([LABELS, np.full((12, 1), value)], axis=1)
    scores = np.concatenate([SCORES, np.linspace(0, 1, 12)[:, None]], axis=1)
    assert mean_average_precision(scores, more) == mean_average_precision(SCORES, LABELS)
    assert map_of(scores, np.full((12, 4), value)) == {} == map_of(scores, np.zeros(12, int))


PROBABILITIES = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 1.0])


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n, k = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    values = draw(st.lists(st.tuples(PROBABILITIES, st.booleans()), min_size=n * k, max_size=n * k))
    p, labels = zip(*values, strict=True)
    return np.array(p).reshape(n, k), np.array(labels, np.float32).reshape(n, k)


@seeded
@example((np.array([[0.5]] * 2 + [[0.6]] * 3), np.array([[1.0]] * 2 + [[0.0]] * 3, np.float32)), 2.0, np.float64)  # most have no class
@given(tables(), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([np.float32, np.float64]))
def test_no_other_threshold_is_better(table, beta, dtype) -> None:
    p, labels = table[0].astype(dtype), table[1]
    threshold = fit_threshold(p, labels, beta)
    assert 0 <= threshold <= 1
    best = mean_f_beta(p, labels, beta, threshold)
    others = [mean_f_beta(p, labels, beta, t) for t in (*np.unique(p).tolist(), 0.05, 0.2, 0.6)]
    assert best >= max(others) - 1e-6
    higher = [t for t in np.unique(p).tolist() if t >= threshold and not ((p > threshold) == (p > t)).all()]
    assert all(mean_f_beta(p, labels, beta, t) < best + 1e-9 for t in higher)


def test_by_default_recall_counts_twice() -> None:
    p, labels = np.array([[0.25, 0.1, 0.15, 0.0], [0.05, 0.35, 0.2, 0.3]]), np.array([[1.0, 0, 0, 0], [1, 0, 1, 1]])
    assert fit_threshold(p, labels) == fit_threshold(p, labels, 2.0) == pytest.approx(0.175)
    assert fit_threshold(p, labels, 3.0) == pytest.approx(0.025)


def test_the_threshold_lies_between_its_neighbours_however_close() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    p, labels = np.array([[high, low]], np.float32), np.array([[1.0, 0.0]])
    threshold = fit_threshold(p, labels)
    assert (p > threshold).tolist() == [[True, False]]
    assert fit_threshold(np.array([[0.8, 0.4]]), labels) == pytest.approx(0.6)
    assert f_beta(np.array([[0.9, 0.2]]), np.zeros((1, 2)), threshold=fit_threshold(np.array([[0.9, 0.2]]), np.zeros((1, 2)))).item() == 1
