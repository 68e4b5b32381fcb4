"""Mistakes against direct counting."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.evaluation.predictions import ExamplePredictions
from sgdr_jax.report.mistakes import class_lines, confused_pairs, confused_part, least_confident, top_losses

LABELS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


@given(LABELS, st.integers(1, 8))
def test_a_part_of_the_matrix_and_the_rest_are_all_images(pairs: list[tuple[int, int]], most: int) -> None:
    true, predicted = np.array(pairs).T
    part = confused_part(true, predicted, 6, most)
    assert part.classes.tolist() == sorted(part.classes) and len(part.classes) == min(most, 6)
    for row, c in enumerate(part.classes):
        assert part.counts[row].sum() + part.elsewhere[row] == (true == c).sum()
        for column, d in enumerate(part.classes):
            assert part.counts[row, column] == ((true == c) & (predicted == d)).sum()
    wrong = true != predicted
    inside = np.isin(true, part.classes) & np.isin(predicted, part.classes)
    assert not wrong.any() or part.covered == (wrong & inside).sum() / wrong.sum()
    left = [int((wrong & ((true == c) | (predicted == c))).sum()) for c in range(6) if c not in part.classes]
    assert max(left, default=0) <= min(int((wrong & ((true == c) | (predicted == c))).sum()) for c in part.classes)


@given(LABELS)
def test_pairs_are_sorted_and_complete(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs).T
    found = confused_pairs(true, predicted, 6, most=100)
    assert sum(pair.count for pair in found) == (true != predicted).sum()
    assert [pair.count for pair in found] == sorted((pair.count for pair in found), reverse=True)
    for pair in found:
        assert pair.count == ((true == pair.true) & (predicted == pair.predicted)).sum() and pair.true != pair.predicted
        assert pair.share == pair.count / (true == pair.true).sum()


def test_images_to_look_at() -> None:
    labels, loss = np.array([0, 1, 1]), np.array([0.1, 3.0, 2.0])
    found = ExamplePredictions(np.array([0, 0, 1]), loss, np.array([0.9, 0.95, 0.4]))
    top = top_losses(labels, found, ("a", "b"))[:2]
    assert [(s.index, s.true, s.predicted, s.wrong) for s in top] == [(1, ("b",), ("a",), True), (2, ("b",), ("b",), False)]
    assert top[0].probability == np.exp(-3.0) and top[0].confidence == 0.95
    assert [s.index for s in least_confident(labels, found, ("a", "b"))] == [2, 0, 1]
    assert least_confident(labels, found._replace(confidence=None), ("a", "b")) == []


def test_several_labels() -> None:
    labels = np.array([[1, 0], [1, 1], [0, 0]], np.uint8)
    found = ExamplePredictions(np.array([[1, 0], [0, 1], [0, 1]], np.uint8), np.array([0.1, 1.0, 2.0]), np.array([0.9, 0.8, 0.7]))
    top = top_losses(labels, found, ("a", "b"))
    assert [(s.true, s.predicted) for s in top] == [((), ("b",)), (("a", "b"), ("b",)), (("a",), ("a",))]
    first, second = class_lines(labels, found, 2)
    assert (first.images, first.predicted, first.precision, first.recall) == (2, 1, 1.0, 0.5) and np.isnan(first.average)
    assert (second.images, second.predicted, second.precision, second.recall) == (1, 2, 0.5, 1.0) and second.confused_with is None
