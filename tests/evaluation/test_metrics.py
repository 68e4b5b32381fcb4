"""Metrics against independent NumPy and plain-Python arithmetic, on the host and on the device."""

import math

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from sgdr_jax.evaluation import metrics
from sgdr_jax.evaluation.evaluate import logit_metrics


def batch(seed: int, n: int, k: int, multi: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, k)).astype(np.float32) if multi else rng.integers(0, k, n).astype(np.int32)
    return rng.normal(0, 3, (n, k)).astype(np.float32), labels


def slow_losses(logits: np.ndarray, labels: np.ndarray, s: float) -> list[float]:
    """The definition, one number at a time."""
    out = []
    for row, label in zip(logits.tolist(), labels, strict=True):
        k = len(row)
        if labels.ndim == 2:
            p = [1 / (1 + math.exp(-z)) for z in row]
            t = [(1 - s) * float(y) + s / 2 for y in label]
            out.append(-sum(ti * math.log(pi) + (1 - ti) * math.log(1 - pi) for ti, pi in zip(t, p, strict=True)) / k)
        else:
            total = sum(math.exp(z) for z in row)
            t = [(1 - s) * (c == label) + s / k for c in range(k)]
            out.append(-sum(ti * math.log(math.exp(z) / total) for ti, z in zip(t, row, strict=True)))
    return out


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_losses_are_the_definition(multi: bool, smoothing: float) -> None:
    logits, labels = batch(0, 33, 7, multi)
    expected = slow_losses(logits.astype(np.float64), labels, smoothing)
    np.testing.assert_allclose(metrics.losses(logits.astype(np.float64), labels, smoothing), expected, rtol=1e-12)
    on_device = jax.jit(metrics.losses)(jnp.asarray(logits), jnp.asarray(labels), jnp.float32(smoothing))
    assert on_device.dtype == jnp.float32
    np.testing.assert_allclose(on_device, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("multi", [False, True])
def test_gradients_are_probability_minus_target(multi: bool) -> None:
    logits, labels = batch(1, 8, 5, multi)
    gradient = jax.grad(lambda z: metrics.losses(z, jnp.asarray(labels), 0.2).sum())(jnp.asarray(logits))
    z = logits.astype(np.float64)
    if multi:
        expected = (1 / (1 + np.exp(-z)) - (0.8 * labels + 0.1)) / 5
    else:
        expected = np.exp(z) / np.exp(z).sum(1, keepdims=True) - (0.8 * np.eye(5)[labels] + 0.04)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("multi", [False, True])
def test_huge_logits_stay_finite(multi: bool) -> None:
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    labels = np.array([[1, 0], [1, 0]], np.float32) if multi else np.array([0, 0], np.int32)
    wrong = 1e4 if multi else 2e4
    np.testing.assert_array_equal(metrics.losses(logits, labels), [0, wrong])
    np.testing.assert_array_equal(metrics.losses(jnp.asarray(logits), jnp.asarray(labels)), [0, wrong])
    assert metrics.finish(metrics.sums(logits, labels, np.ones(2, np.float32)))["accuracy"] == 0.5


def test_top1_is_argmax_and_top5_is_the_sorted_first_five() -> None:
    logits, labels = batch(2, 200, 12)
    logits = np.round(logits)  # Many ties.
    order = np.argsort(-logits, axis=1, kind="stable")
    result = metrics.finish(metrics.sums(logits, labels, np.ones(200, np.float32)))
    assert result["accuracy"] == pytest.approx((logits.argmax(1) == labels).mean(), abs=1e-7)
    assert result["top5"] == pytest.approx((order[:, :5] == labels[:, None]).any(1).mean(), abs=1e-7)


@pytest.mark.parametrize("k", [2, 5, 6])
def test_the_first_five_of_five_classes_are_no_measure(k: int) -> None:
    """It would be 1, whatever the network."""
    result = metrics.sums(*batch(2, 20, k), np.ones(20, np.float32))
    assert ("top5" in result) == (k > 5)


def test_a_network_that_says_nothing_or_nan_is_not_right() -> None:
    labels = np.array([3, 2, 1, 0], np.int32)
    weight = np.ones(4, np.float32)
    assert metrics.finish(metrics.sums(np.zeros((4, 4), np.float32), labels, weight))["accuracy"] == 0.25
    assert metrics.sums(np.full((4, 8), np.nan, np.float32), labels, weight)["correct"] == 0
    assert metrics.sums(np.full((4, 8), np.nan, np.float32), labels, weight)["top5"] == 0


@given(seed=st.integers(0, 2**16), n=st.integers(1, 40), k=st.integers(2, 9), size=st.integers(1, 16), multi=st.booleans())
@settings(max_examples=30, deadline=None)
def test_padded_batches_merge_to_the_whole(seed: int, n: int, k: int, size: int, multi: bool) -> None:
    logits, labels = batch(seed, n, k, multi)
    whole = metrics.finish(metrics.sums(logits.astype(np.float64), labels, np.ones(n)))
    parts = []
    for start in range(0, n, size):
        rows = np.arange(start, start + size)
        weight = (rows < n).astype(np.float32)
        padded = np.where(weight[:, None] > 0, logits[rows % n], np.nan).astype(np.float32)
        parts.append(metrics.sums(padded, labels[rows % n], weight))
        assert all(part.dtype == np.float32 for part in parts[-1].values())
    merged = metrics.merge(parts)
    assert merged["weight"] == n
    assert metrics.finish(merged) == pytest.approx(whole, rel=1e-5, abs=1e-6)


def test_device_and_host_agree() -> None:
    for multi in (False, True):
        logits, labels = batch(3, 50, 10, multi)
        weight = np.ones(50, np.float32)
        device = jax.jit(metrics.sums)(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(weight))
        host = metrics.sums(logits, labels, weight)
        assert {name: float(value) for name, value in device.items()} == pytest.approx({n: float(v) for n, v in host.items()}, rel=1e-5)


def test_no_examples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no examples"):
        metrics.finish({"weight": 0.0, "loss": 0.0})


def test_f_beta_is_the_definition() -> None:
    rng = np.random.default_rng(4)
    p, labels = rng.random((60, 6)), rng.integers(0, 2, (60, 6)).astype(np.float32)
    for beta, threshold in ((2.0, 0.2), (1.0, 0.5), (0.5, 0.7)):
        for row, truth, score in zip(p, labels, metrics.f_beta(p, labels, beta, threshold), strict=True):
            said, true = set(np.flatnonzero(row > threshold)), set(np.flatnonzero(truth))
            if not said and not true:
                assert score == 1
            elif not said & true:
                assert score == 0
            else:
                precision, recall = len(said & true) / len(said), len(said & true) / len(true)
                assert score == pytest.approx((1 + beta**2) * precision * recall / (beta**2 * precision + recall), rel=1e-12)


def test_the_metrics_of_logits_are_those_of_their_probabilities() -> None:
    logits, labels = batch(5, 80, 6)
    z = logits.astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    result = logit_metrics(logits, labels)
    assert result["loss"] == pytest.approx(-np.log(p[np.arange(80), labels]).mean(), rel=1e-12)
    assert result["accuracy"] == (p.argmax(1) == labels).mean()
    multi = np.eye(6, dtype=np.float32)[labels]
    q = 1 / (1 + np.exp(-z))
    result = logit_metrics(logits, multi)
    assert result["loss"] == pytest.approx(-np.where(multi > 0, np.log(q), np.log(1 - q)).mean(), rel=1e-9)
    assert result["accuracy"] == pytest.approx(((q > 0.5) == (multi > 0)).mean(), rel=1e-12)
    assert result["f2"] == pytest.approx(metrics.f_beta(q, multi).mean(), rel=1e-12)


def test_small_probabilities_keep_their_digits() -> None:
    """The sigmoid was made of a hyperbolic tangent: 0 below a logit of -37.5, and with few digits well above it."""
    z = np.arange(-1000, 1001) * 0.7
    p = metrics.squash(z[:, None], True)[:, 0]
    np.testing.assert_allclose(p[z < 0], [math.exp(x) / (1 + math.exp(x)) for x in z[z < 0].tolist()], rtol=1e-14)
    np.testing.assert_allclose(p + p[::-1], 1, rtol=1e-15)
    assert (np.diff(p) >= 0).all() and metrics.squash(np.zeros((1, 1)), True)[0, 0] == 0.5
    np.testing.assert_array_equal(metrics.squash(np.float32([[-100.0]]), True), metrics.squash(np.array([[-100.0]]), True))


def test_a_sure_and_wrong_network_costs_what_its_logits_say() -> None:
    """It cost 34.5 at most where probabilities were clipped, and more elsewhere."""
    z = np.array([[80.0, 0.0], [0.0, 0.5]], np.float32)
    several = np.array([[0.0, 0.0], [1.0, 1.0]], np.float32)
    for labels, loss in ((np.array([1, 0]), 80.0), (several, (80 + math.log(2)) / 2)):
        found = metrics.example_predictions(z, labels).loss
        assert found[0] == pytest.approx(loss, rel=1e-6) and found.mean() == pytest.approx(logit_metrics(z, labels)["loss"], rel=1e-6)


def test_confusion_counts_pairs() -> None:
    rng = np.random.default_rng(6)
    labels, predictions = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    counts = metrics.confusion(labels, predictions, 5)
    assert counts.dtype == np.int64
    assert all(counts[i, j] == ((labels == i) & (predictions == j)).sum() for i in range(5) for j in range(5))
