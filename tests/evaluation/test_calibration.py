"""Calibration and the results of classes: against scikit-learn's figures, brute force, and what must hold for any probabilities."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.evaluation import metrics
from sgdr_jax.evaluation.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, apply_temperature, class_results, fit_temperature, reliability

from ..helpers import seeded

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "calibration.json").read_text())
LABELS = np.array(GOLDEN["labels"])


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


P = softmax(np.array(GOLDEN["logits"]))


def drawn(seed: int, n: int, k: int, sure: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    return softmax(sure * (np.eye(k)[labels] + rng.normal(size=(n, k)))), labels


def test_the_temperature_is_that_of_scikit_learn() -> None:
    assert fit_temperature(np.array(GOLDEN["logits"]), LABELS) == pytest.approx(GOLDEN["temperature"], rel=1e-8)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 8.0, 15.0])
def test_the_temperature_of_a_network_that_is_far_too_sure_is_found(temperature: float, multi_label: bool) -> None:
    """It was fitted to probabilities, in which the logits of sure answers are lost: 10 was found where 15 is right."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(4000, 5)) - 2 * multi_label
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    if multi_label:
        labels = (rng.random(logits.shape) < metrics.squash(logits, True)).astype(np.float32)
    found, calibrated = fit_temperature((temperature * logits).astype(np.float32), labels), fit_temperature(logits, labels)
    assert found == pytest.approx(temperature * calibrated, rel=1e-6) and calibrated == pytest.approx(1, rel=0.08)


@pytest.mark.parametrize("n", [50, 200, 2000])
def test_a_perfectly_calibrated_network_has_the_error_of_chance(n: int) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        p = softmax(1.5 * rng.normal(size=(n, 4)))
        labels = (rng.random((n, 1)) < p.cumsum(1)).argmax(1)
        found.append((reliability(p, labels).error, reliability(p, labels).by_chance))
    error, chance = np.mean(found, axis=0)
    assert chance == pytest.approx(error, rel=0.06)


def test_the_bins_are_those_of_scikit_learn() -> None:
    found = reliability(P, LABELS)
    filled = found.count > 0
    np.testing.assert_allclose(found.frequency[filled], GOLDEN["happened"], rtol=1e-12)
    np.testing.assert_allclose(found.confidence[filled], GOLDEN["promised"], rtol=1e-12)
    gaps = np.abs(np.array(GOLDEN["happened"]) - GOLDEN["promised"])
    assert found.error == pytest.approx(np.average(gaps, weights=found.count[filled]), rel=1e-12)


def test_the_results_of_classes_are_those_of_scikit_learn() -> None:
    rows = class_results(P, LABELS)
    for name in ("precision", "recall", "f1"):
        np.testing.assert_allclose([getattr(row, name) for row in rows], GOLDEN[name], rtol=1e-12)
    assert [row.images for row in rows] == GOLDEN["support"]
    table = metrics.confusion(LABELS, P.argmax(1), 4)
    for c, row in enumerate(rows):
        assert row.predicted == table[:, c].sum() and row.confused_with is not None
        other, count = row.confused_with
        assert other != c and count == table[c, other] == max(table[c, i] for i in range(4) if i != c)
        assert row.average == pytest.approx(P[:, c][c == LABELS].mean())


@settings(seeded, max_examples=50)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(2, 6), st.floats(0.1, 6), st.booleans())
def test_no_temperature_has_a_lower_loss(seed: int, n: int, k: int, sure: float, multi_label: bool) -> None:
    p, labels = drawn(seed, n, k, sure)
    if multi_label:
        labels = (np.random.default_rng(seed).random((n, k)) < p).astype(np.float64)

    z = np.log(p) - np.log1p(-p) if multi_label else np.log(p)

    def loss(t: float) -> float:
        return float(metrics.losses(z / t, labels).mean())

    best, tried = fit_temperature(z, labels), np.geomspace(MIN_TEMPERATURE, MAX_TEMPERATURE, 40)
    losses = [loss(float(t)) for t in tried]
    if np.isnan(best):
        assert min(losses) in (losses[0], losses[-1])  # at a bound
    else:
        assert MIN_TEMPERATURE <= best <= MAX_TEMPERATURE and loss(best) <= min(losses) + 1e-12


@settings(seeded, max_examples=50)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 20), st.booleans())
def test_the_error_is_the_mean_gap_by_hand(seed: int, n: int, bins: int, multi_label: bool) -> None:
    p, labels = drawn(seed, n, 3, 2.0)
    p = np.round(p, 1)  # often at the very edge of a bin
    if multi_label:
        labels = np.eye(3)[labels]
        events = [(x, y > 0.5) for x, y in zip(p.ravel().tolist(), labels.ravel(), strict=True)]
    else:
        events = [(row.max(), int(row.argmax()) == y) for row, y in zip(p, labels, strict=True)]
    error, edges = 0.0, np.linspace(0, 1, bins + 1).tolist()
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = [(x, y) for x, y in events if (x > low or i == 0) and (x <= high or i == bins - 1)]
        error += abs(sum(x - y for x, y in inside)) / len(events)
    assert reliability(p, labels, bins).error == pytest.approx(error, abs=1e-12)


def test_a_temperature_keeps_the_order_and_one_changes_nothing() -> None:
    z = np.array(GOLDEN["logits"])
    np.testing.assert_allclose(apply_temperature(z, 1.0), P, atol=1e-12)
    np.testing.assert_array_equal(apply_temperature(z, 3.0).argmax(1), P.argmax(1))
    np.testing.assert_allclose(apply_temperature(z, 2.0).sum(1), 1)
    assert apply_temperature(z, 2.0).max() < P.max()
    assert apply_temperature(np.log([[4.0]]), 2.0, multi_label=True)[0, 0] == pytest.approx(2 / 3)


def test_where_all_is_right_or_wrong_there_is_no_temperature() -> None:
    z = np.array([[2.0, -2.0], [-1.0, 1.0]])
    several = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert all(np.isnan(fit_temperature(z, labels)) for labels in (np.array([0, 1]), np.array([1, 0]), several, 1 - several))
    assert MIN_TEMPERATURE < fit_temperature(z, np.array([0, 0])) < MAX_TEMPERATURE


@pytest.mark.parametrize("value", [0.0, -0.7, 3e4])
@pytest.mark.parametrize("k", [1, 3, 7])
def test_equal_probabilities_have_no_temperature(k: int, value: float) -> None:
    """The highest was fitted: the slope is 0, or a rounding."""
    rng = np.random.default_rng(0)
    assert np.isnan(fit_temperature(np.full((50, k), value) + rng.normal(size=(50, 1)), rng.integers(0, k, 50)))
    assert np.isnan(fit_temperature(np.zeros((50, k)), (rng.random((50, k)) < 0.3).astype(np.float32)))


@pytest.mark.parametrize("multi_label", [False, True])
def test_where_all_is_surely_right_there_is_no_temperature(multi_label: bool) -> None:
    """One was fitted where the slope vanishes, since all probabilities are 1."""
    labels = np.eye(3) if multi_label else np.arange(3)
    assert np.isnan(fit_temperature(500 * (np.eye(3) - 0.5), labels))


def test_a_constant_prediction_has_the_temperature_of_its_shares() -> None:
    labels = np.array([0] * 6 + [1] * 4)
    assert fit_temperature(np.tile(2 * np.log([0.6, 0.4]), (10, 1)), labels) == pytest.approx(2, rel=1e-9)


def test_classes_that_do_not_occur_have_no_shares() -> None:
    absent = class_results(np.array([[0.9, 0.1, 0.0]]), np.array([0]))[2]
    assert (absent.images, absent.predicted, absent.confused_with) == (0, 0, None)
    assert np.isnan([absent.precision, absent.recall, absent.f1, absent.average]).all()


def test_a_class_of_several_is_predicted_above_one_half() -> None:
    rows = class_results(np.array([[0.6, 0.4], [0.6, 0.9]]), np.array([[1.0, 1.0], [0.0, 1.0]]))
    assert [(row.images, row.predicted, row.precision, row.recall) for row in rows] == [(1, 2, 0.5, 1.0), (2, 1, 1.0, 0.5)]
