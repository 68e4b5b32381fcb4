"""Logistic regression: the optimum of SciPy in float64, for every kind of data that a head meets."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from sgdr_jax.evaluation import metrics
from sgdr_jax.train import logistic_regression as lr

EPS = 1e-5


def examples(n: int = 60, d: int = 8, k: int = 4, *, multi: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of unequal scale with a common part, labels that depend on them, unequal weights of sum 1."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, d)) + 2 * rng.normal(size=(n, 1))) * np.geomspace(0.1, 10, d) + 3
    scores = (x - x.mean(0)) / x.std(0) @ rng.normal(size=(d, k)) + 2 * rng.gumbel(size=(n, k))
    labels = (scores > 1).astype(np.float32) if multi else scores.argmax(1).astype(np.int32)
    weight = rng.uniform(0.2, 3, n)
    return x.astype(np.float32), labels, weight / weight.sum()


def objective(flat: np.ndarray, x: np.ndarray, labels: np.ndarray, weight: np.ndarray, decay: float, smoothing: float) -> Any:
    """Value and gradient in float64, written apart from the solver; x has a column of ones."""
    w = flat.reshape(x.shape[1], -1)
    k, z = w.shape[1], x @ w
    value = weight @ metrics.losses(z, labels, smoothing) + decay / 2 * np.sum(w[:-1] ** 2)
    if labels.ndim == 2:
        error = (1 / (1 + np.exp(-z)) - (labels * (1 - smoothing) + smoothing / 2)) / k
    else:
        p = np.exp(z - z.max(1, keepdims=True))
        error = p / p.sum(1, keepdims=True) - ((1 - smoothing) * np.eye(k)[labels] + smoothing / k)
    gradient = x.T @ (error * weight[:, None])
    gradient[:-1] += decay * w[:-1]
    return value, gradient.ravel()


def standardised(x: np.ndarray, share: np.ndarray) -> np.ndarray:
    """In float64, with a column of ones."""
    x = x.astype(np.float64)
    mean = share @ x
    x = (x - mean) / np.sqrt(share @ (x - mean) ** 2 + EPS)
    return np.pad(x, ((0, 0), (0, 1)), constant_values=1)


def solved(x: np.ndarray, labels: np.ndarray, weight: np.ndarray, decay: float, smoothing: float, classes: int) -> np.ndarray:
    share = jnp.full(len(x), 1 / len(x), jnp.float32)
    features, _, _ = lr.standardise(jnp.asarray(x), share, EPS)
    p = lr.problem(features, jnp.asarray(labels), smoothing, share, classes)
    start = jnp.zeros((1, features.shape[1], classes), jnp.float32)
    return np.asarray(lr.minimise(p, jnp.asarray(weight[None], jnp.float32), decay, start, 1e-5, 1000).weights[0], np.float64)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "more features than images": {"n": 15, "d": 40},
    "two classes": {"k": 2},
    "several labels": {"multi": True},
}


@pytest.mark.parametrize("decay", [10.0, 0.1, 1e-4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("case", CASES)
def test_the_solution_is_the_optimum_in_float64(case: str, smoothing: float, decay: float) -> None:
    x, labels, weight = examples(**CASES[case])
    k = CASES[case].get("k", 4)
    w, x64 = solved(x, labels, weight, decay, smoothing, k), standardised(x, np.full(len(x), 1 / len(x)))
    given = (x64, labels, weight, decay, smoothing)
    (start, first), (value, gradient) = (objective(flat, *given) for flat in (np.zeros(w.size), w.ravel()))
    assert np.linalg.norm(gradient) <= 1e-4 * np.linalg.norm(first)
    best = minimize(objective, np.zeros(w.size), given, jac=True, method="L-BFGS-B", options={"maxiter": 20_000, "gtol": 1e-10, "ftol": 0})
    assert value <= best.fun + 1e-6 * start
    if decay >= 0.1:  # the weakest penalty leaves the optimum flat
        np.testing.assert_allclose(w[:-1], best.x.reshape(w.shape)[:-1], atol=2e-3 * np.abs(best.x).max())


def test_rare_and_absent_classes_and_constant_features() -> None:
    x, labels, weight = examples(n=50, k=4)
    labels[labels == 3] = 0  # the last class has no image
    labels[labels == 2] = 0
    labels[7] = 2  # this one has a single image
    x[:, 3] = 5.0
    w, x64 = solved(x, labels, weight, 0.01, 0.0, 4), standardised(x, np.full(50, 1 / 50))
    gradient = objective(w.ravel(), x64, labels, weight, 0.01, 0.0)[1]
    assert np.linalg.norm(gradient) <= 1e-4 * np.linalg.norm(objective(np.zeros(w.size), x64, labels, weight, 0.01, 0.0)[1])
    assert np.abs(w[3]).max() < 1e-4 and np.all(np.isfinite(w))  # rounding of its mean leaves a trace of it
    p = np.exp(x64 @ w)
    assert (p / p.sum(1, keepdims=True))[:, 3].max() < 1e-3


def test_weights_count_as_copies_do() -> None:
    x, labels, _ = examples()
    times = np.random.default_rng(1).integers(0, 4, len(x))
    twice = np.repeat(np.arange(len(x)), times)
    share = jnp.asarray(times / times.sum(), jnp.float32)
    features, mean, var = lr.standardise(jnp.asarray(x), share, EPS)
    np.testing.assert_allclose(mean, x[twice].mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, x[twice].var(0), rtol=1e-4)
    repeated = solved(x[twice], labels[twice], np.full(len(twice), 1 / len(twice)), 0.03, 0.0, 4)
    p = lr.problem(features, jnp.asarray(labels), 0.0, share, 4)
    weighted = lr.minimise(p, share[None], 0.03, jnp.zeros((1, x.shape[1] + 1, 4)), 1e-5, 1000).weights[0]
    np.testing.assert_allclose(weighted, repeated, atol=2e-3 * np.abs(repeated).max())


def test_lanes_and_starts_lead_to_the_same_minimum() -> None:
    x, labels, weight = examples(n=80)
    share = np.stack([weight, np.where(np.arange(80) < 40, weight, 0), np.where(np.arange(80) < 40, 0, weight)])
    share = jnp.asarray(share / share.sum(1, keepdims=True), jnp.float32)
    even = jnp.full(80, 1 / 80, jnp.float32)
    features, _, _ = lr.standardise(jnp.asarray(x), even, EPS)
    p = lr.problem(features, jnp.asarray(labels), 0.0, even, 4)
    together = lr.minimise(p, share, 0.1, jnp.zeros((3, 9, 4)), 1e-5, 1000)
    assert float(together.gradient.max()) <= 1e-5 and int(together.evaluations) < 200
    from_far = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 4)), jnp.float32)
    for lane in range(3):
        alone = lr.minimise(p, share[lane : lane + 1], 0.1, from_far - from_far.mean(2, keepdims=True), 1e-5, 1000)
        np.testing.assert_allclose(alone.weights[0], together.weights[lane], atol=1e-3)


@pytest.mark.parametrize("multi", [False, True])
def test_residuals_are_the_gradient_of_the_loss(multi: bool) -> None:
    _, labels, _ = examples(multi=multi)
    logits = jnp.asarray(np.random.default_rng(3).normal(size=(60, 1, 4)), jnp.float32)
    expected = jax.grad(lambda z: jnp.sum(metrics.losses(z[:, 0], jnp.asarray(labels), 0.1)))(logits)
    np.testing.assert_allclose(lr.residuals(logits, jnp.asarray(labels), jnp.float32(0.1)), expected, atol=1e-6)


def test_losses_of_lanes() -> None:
    x, labels, weight = examples()
    share = jnp.asarray(np.stack([weight, np.roll(weight, 1)]), jnp.float32)
    features, _, _ = lr.standardise(jnp.asarray(x), share[0], EPS)
    p = lr.problem(features, jnp.asarray(labels), 0.3, share[0], 4)
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 4)), jnp.float32)
    for lane, found in enumerate(lr.losses(p, share, weights)):
        logits = np.asarray(features, np.float64) @ np.asarray(weights[lane], np.float64)
        assert float(found) == pytest.approx(np.asarray(share[lane], np.float64) @ metrics.losses(logits, labels), rel=1e-5)
