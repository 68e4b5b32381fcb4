"""Differences between runs: against scipy's own tests, and by what any interval, test or correction must obey."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sgdr_jax.sweeps.analysis.significance import (
    detectable,
    holm,
    interval,
    mcnemar,
    most_coverage,
    paired_t,
    power,
    seeds_needed,
    t_interval,
)

from ...helpers import seeded

column = st.integers(2, 12).flatmap(lambda n: st.lists(st.floats(-1, 1, width=32), min_size=n, max_size=n))


def normal(n: int, k: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(n).normal(mean, 1, (n, k))


# ---- the interval ----


@pytest.mark.parametrize("n", [5, 8, 20])
def test_the_interval_holds_the_true_mean_as_often_as_it_says(n: int) -> None:
    low, high = interval(normal(n, 2000, mean=0.3), resamples=2000)
    covered = float(((low <= 0.3) & (high >= 0.3)).mean())
    # Three standard errors of a share of 2,000. Five seeds can reach 0.9375 at most, and lose a little more to the steps of a sum.
    assert covered == pytest.approx({5: 0.925}.get(n, 0.95), abs=0.0146)
    assert covered <= most_coverage(n) + 0.0146


def test_plain_percentiles_would_not() -> None:
    data = normal(5, 2000)
    low, high = stats.bootstrap((data,), np.mean, axis=0, method="percentile", n_resamples=2000, rng=0).confidence_interval
    assert ((low <= 0) & (high >= 0)).mean() < 0.87


def test_for_many_seeds_it_is_scipys_bootstrap() -> None:
    data = np.random.default_rng(3).exponential(1, (200, 2))
    found = interval(data, resamples=40_000)
    known = stats.bootstrap((data,), np.mean, axis=0, method="percentile", n_resamples=40_000, rng=1).confidence_interval
    width = known.high - known.low
    np.testing.assert_array_less(np.abs(found - np.stack([known.low, known.high])) / width, 0.02)


@seeded
@given(column, st.randoms(use_true_random=False))
def test_the_interval_turns_with_the_signs_and_forgets_the_order(values: list[float], random: object) -> None:
    data = np.array([values, values[::-1], [1 - x for x in values]]).T
    data = data[:, np.ptp(data, axis=0) > 1e-6]  # see the test of equal differences
    found = interval(data, resamples=500)
    np.testing.assert_array_equal(interval(-data, resamples=500), -found[::-1])
    order = list(range(len(data)))
    random.shuffle(order)  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_array_equal(interval(data[order], resamples=500), found)
    assert (data.min(0) - 1e-9 <= found[0]).all() and (found[1] <= data.max(0) + 1e-9).all()
    np.testing.assert_allclose(interval(data * 4 + 1, resamples=500), found * 4 + 1, atol=1e-6)


def test_the_t_interval_is_scipys_and_leaves_out_what_is_missing() -> None:
    data = np.random.default_rng(0).normal(size=(6, 4))
    data[3, 1], data[:, 2] = np.nan, np.nan
    data[0, 2], data[:, 3] = 1.0, 0.25
    low, high = t_interval(data, 0.9)
    for k, seeds in ((0, range(6)), (1, (0, 1, 2, 4, 5))):
        known = stats.ttest_1samp(data[list(seeds), k], 0).confidence_interval(0.9)
        np.testing.assert_allclose((low[k], high[k]), known, rtol=1e-12)
    assert np.isnan((low[2], high[2], low[3], high[3])).all()


def test_no_end_of_an_interval_is_a_negative_zero() -> None:
    ends = interval(np.array([[0.0, 0.01], [0.0, 0.0], [0.0, -0.01], [0.01, 0.0]]))
    assert not np.signbit(ends[ends == 0]).any() and (ends == 0).any()


def test_the_interval_needs_two_seeds() -> None:
    assert np.isnan(interval(np.ones((1, 3)))).all()
    assert interval(np.ones((4, 0))).shape == (2, 0)


@pytest.mark.parametrize("how", [interval, t_interval])
def test_equal_differences_are_no_certainty(how: Any) -> None:
    """Accuracies are multiples of 1 / images: two seeds that differ by +1.00 points each had the interval +1.00 … +1.00."""
    equal = np.full((3, 1), 0.1) + np.array([[0.0], [1e-17], [-2e-17]])
    assert np.isnan(how(equal)).all() and np.isnan(paired_t(equal)).all() and seeds_needed(0.1, float(equal.std(ddof=1))) is None
    assert (how(np.zeros((3, 1))) == 0).all() and paired_t(np.zeros((3, 1))) == 1  # arms that are the same
    assert np.isfinite(how(np.array([[0.1], [0.1], [0.11]]))).all()


# ---- the tests ----


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_paired_t_test_is_scipys(n: int) -> None:
    first, second = normal(n, 40, 0.2), normal(n + 100, 40)[:n]
    np.testing.assert_allclose(paired_t(first - second), stats.ttest_rel(first, second).pvalue, rtol=1e-9)


def test_the_t_test_of_differences_that_do_not_vary() -> None:
    found = paired_t(np.array([[0.0, 0.1, 0.9 - 0.8], [0.0, 0.1, 0.91 - 0.81]]))
    assert found[0] == 1 and np.isnan(found[1:]).all()
    assert np.isnan(paired_t(np.ones((1, 2)))).all()


@seeded
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 10))
def test_one_pair_is_the_exact_binomial_test(gained: int, lost: int, both: int) -> None:
    first = np.array([True] * gained + [False] * lost + [True] * both, bool)[None]
    second = np.array([False] * gained + [True] * lost + [True] * both, bool)[None]
    found = mcnemar(first, second)
    assert found[:2] == (gained, lost)
    assert found.p == pytest.approx(stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1)


@seeded
@given(st.integers(1, 4), st.integers(1, 8), st.integers(0, 10_000))
def test_several_pairs_count_all_signs(seeds: int, n: int, seed: int) -> None:
    first, second = np.random.default_rng(seed).random((2, seeds, n)) < 0.5
    net = (first.astype(int) - second).sum(0)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    expected = (np.abs(signs @ net) >= abs(net.sum())).mean()
    assert mcnemar(first, second).p == pytest.approx(expected)
    assert mcnemar(second, first).p == mcnemar(first, second).p


def test_copies_of_one_seed_are_no_evidence() -> None:
    first, second = np.random.default_rng(0).random((2, 1, 300)) < [[[0.8]], [[0.7]]]
    once, often = mcnemar(first, second), mcnemar(np.repeat(first, 5, 0), np.repeat(second, 5, 0))
    assert often.p == pytest.approx(once.p) and often.gained == 5 * once.gained


def test_many_discordant_answers_are_normal() -> None:
    first, second = np.random.default_rng(0).random((2, 1, 60_000)) < [[[0.505]], [[0.5]]]
    found = mcnemar(first, second)
    assert found.gained + found.lost > 20_000
    assert found.p == pytest.approx(stats.binomtest(found.gained, found.gained + found.lost).pvalue, rel=0.02)


def test_false_alarms_are_as_rare_as_the_level_says() -> None:
    p = paired_t(normal(6, 4000))
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.0105)
    answers = np.random.default_rng(1).random((2, 1000, 1, 200)) < 0.7
    p = np.array([mcnemar(a, b).p for a, b in zip(*answers, strict=True)])
    assert 0.02 < (p <= 0.05).mean() < 0.06  # exact, so never above the level but for chance


# ---- the correction ----


@seeded
@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=8))
def test_holm(p: list[float]) -> None:
    found, known = holm(np.array(p)), sorted(x for x in p if not math.isnan(x))
    for x, y in zip(p, found, strict=True):
        if math.isnan(x):
            assert math.isnan(y)
        else:  # From the definition: the largest of (k - rank)·p over all up to x.
            assert y == pytest.approx(min(max((len(known) - i) * q for i, q in enumerate(known) if q <= x), 1))


# ---- power ----


@pytest.mark.parametrize("n", [2, 5, 30])
@pytest.mark.parametrize("effect", [0.1, 1.0, 3.0])
def test_power_is_that_of_the_noncentral_t(n: int, effect: float) -> None:
    limit, shift = stats.t.ppf(0.975, n - 1), effect * math.sqrt(n)
    below, beyond = np.nan_to_num(stats.nct.cdf([limit, -limit], n - 1, shift))
    assert float(power(effect, 1.0, n)) == pytest.approx(1 - below + beyond, rel=1e-6)
    assert float(power(-2 * effect, 2.0, n)) == float(power(effect, 1.0, n))


def test_power_is_the_share_of_simulated_studies_that_find_it() -> None:
    assert (paired_t(normal(8, 4000, mean=1.0)) < 0.05).mean() == pytest.approx(float(power(1.0, 1.0, 8)), abs=0.024)


def test_seeds_needed_and_smallest_effect_agree() -> None:
    for effect in (0.05, 0.3, 1.0, 5.0, 100.0):
        n = seeds_needed(effect, 1.0)
        assert n is not None and power(effect, 1.0, n) >= 0.8
        assert n == 2 or power(effect, 1.0, n - 1) < 0.8
        assert detectable(1.0, n) <= effect and (n == 2 or detectable(1.0, n - 1) > effect)
    assert seeds_needed(1e-5, 1.0) is None and seeds_needed(0.0, 1.0) is None and seeds_needed(1.0, 0.0) is None
    assert math.isnan(detectable(1.0, 1))
