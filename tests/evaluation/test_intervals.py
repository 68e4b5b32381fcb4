"""Intervals of figures over images, against SciPy's."""

import math

import numpy as np
import pytest
from scipy import stats

from sgdr_jax.evaluation.intervals import limits_text, loss_interval, right_interval, share_interval


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (16, 16), (0, 16), (15, 16), (1, 3), (50, 100), (9_100, 10_000)])
def test_a_share_of_images_has_wilsons_interval(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    assert share_interval(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-14)
    assert right_interval(np.arange(n) < right) == pytest.approx((expected.low, expected.high), abs=1e-14)


def test_no_images_have_no_interval() -> None:
    assert all(math.isnan(limit) for limit in (*share_interval(math.nan, 0), *right_interval(np.zeros(0))))


def test_shares_of_right_decisions_have_students_interval() -> None:
    values = np.array([1.0, 0.75, 0.5, 1.0, 0.25])
    expected = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert right_interval(values) == pytest.approx((expected[0], 1.0), rel=1e-12) and expected[1] > 1
    # Shares that are all alike show no spread; that of yes or no is the largest that they can have.
    assert right_interval(np.full(4, 0.5)) == share_interval(0.5, 4)


def test_a_loss_has_students_interval_and_is_not_below_zero() -> None:
    values = np.array([0.1, 0.2, 0.4])
    assert loss_interval(values) == pytest.approx((0.0, stats.t.interval(0.95, 2, values.mean(), stats.sem(values))[1]), rel=1e-12)
    for none in (values[:1], np.ones(3), np.array([1.0, np.inf]), values[:0]):  # identical losses do not show how they vary
        assert all(math.isnan(limit) for limit in loss_interval(none))


def test_limits_are_printed_in_brackets_and_left_out_where_they_are_unknown() -> None:
    assert limits_text(share_interval(1.0, 16), ".1f", 100) == " (80.6–100.0)"
    assert limits_text(share_interval(math.nan, 0), ".1f", 100) == ""
