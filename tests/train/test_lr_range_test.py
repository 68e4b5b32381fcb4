"""The learning-rate finder on curves with known answers, on a problem with a known largest rate, and on a real network's state."""

import dataclasses
import io
import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import batched
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sgdr_jax.core.learning_rates import Find
from sgdr_jax.core.state import TrainState
from sgdr_jax.report.run_tables import finder_table, finder_verdict
from sgdr_jax.train.lr_curve import RULES, LrCurve, best_ratio, combined, rates, read_curve, read_orders, suggest
from sgdr_jax.train.lr_range_test import range_test, sweep

from ..helpers import batch, fresh, hyper, on, program, same_bits, seeded

FIND = Find(start=1e-6, stop=10.0, steps=100)
LRS = rates(FIND).tolist()
KEPT = LRS[10:-5]
"""What the rules look at, when the test ran to its end."""


def test_rates_are_geometric_and_reach_both_ends() -> None:
    assert LRS[0] == 1e-6 and LRS[-1] == pytest.approx(10, rel=1e-12) and len(LRS) == 100
    np.testing.assert_allclose(np.diff(np.log(LRS)), math.log(1e7) / 99, rtol=1e-9)


def losses_of(values: list[float]) -> Any:
    """An update whose losses are these, one after the other, and whose state counts them."""

    def update(state: int, lr: float, item: int) -> tuple[int, float]:
        assert state == item and lr == LRS[item]
        return state + 1, values[item]

    return update


def run(values: list[float], find: Find = FIND, batches: int = 10**6) -> LrCurve:
    return range_test(losses_of(values), 0, range(batches), find)


@seeded
@given(st.lists(st.floats(0.5, 1.5), min_size=20, max_size=100))
def test_the_smoothed_loss_is_the_weighted_mean_of_all_so_far(values: list[float]) -> None:
    curve = run(values, batches=len(values))
    for k in (0, 1, len(values) - 1):
        weights = [0.98 ** (k - i) for i in range(k + 1)]
        assert curve.smoothed[k] == pytest.approx(math.fsum(w * x for w, x in zip(weights, values, strict=False)) / math.fsum(weights))
    assert curve.losses == tuple(values) and curve.lrs == tuple(LRS[: len(values)])


@pytest.mark.parametrize("steps", [8, 50, 400])
def test_tests_of_any_length_are_smoothed_over_the_same_share_of_the_range(steps: int) -> None:
    find = Find(start=1e-6, stop=10.0, steps=steps)
    curve = range_test(lambda state, lr, item: (state, 1.0 if item < steps / 10 else 2.0), 0, range(steps), find)
    keep = 0.98 ** (100 / steps)
    for k in (0, steps // 2, steps - 1):
        weights = [keep ** (k - i) for i in range(k + 1)]
        values = [1.0 if i < steps / 10 else 2.0 for i in range(k + 1)]
        assert curve.smoothed[k] == pytest.approx(math.fsum(w * x for w, x in zip(weights, values, strict=True)) / math.fsum(weights))


def test_the_test_ends_with_the_rates_or_with_the_batches() -> None:
    ticks: list[int] = []
    curve = range_test(losses_of([1.0] * 100), 0, range(10**6), FIND, ticks.append)
    assert len(curve.lrs) == len(curve.losses) == len(curve.smoothed) == 100 and ticks == [1] * 100
    assert len(run([1.0] * 100, batches=30).lrs) == 30


@pytest.mark.parametrize("at", [1, 12, 60])
def test_it_stops_at_the_first_smoothed_loss_over_four_times_the_best(at: int) -> None:
    values = [2.0] * at + [2000.0] * (100 - at)
    smoothed = (0.98 * (2 * (1 - 0.98**at)) + 0.02 * 2000) / (1 - 0.98 ** (at + 1))
    assert smoothed > 8
    assert len(run(values).lrs) == at + 1
    # The stop is about the smoothed loss: one wild batch that lifts it to just under four times the best stops nothing.
    weight = 0.02 / (1 - 0.98 ** (at + 1))
    wild = (4 * 2 * 0.999 - 2 * (1 - weight)) / weight
    assert len(run([2.0] * at + [wild] + [2.0] * (99 - at)).lrs) == 100
    assert len(run([2.0] * at + [wild * 1.01] + [2.0] * (99 - at)).lrs) == at + 1


def test_a_loss_near_zero_may_rise_fourfold_below_one() -> None:
    assert len(run([0.01] * 20 + [0.9] * 80).lrs) == 100
    assert len(run([0.01] * 20 + [9.0] * 80).lrs) == 22  # the smoothed loss is over 1 for the first time


def test_four_times_the_best_is_meant_even_after_a_slow_climb() -> None:
    curve = run([1.05 ** abs(i - 20) for i in range(100)])
    over = [value > 4 * min(curve.smoothed[: k + 1]) for k, value in enumerate(curve.smoothed)]
    assert over == [False] * (len(over) - 1) + [True] and 20 < len(over) < 100


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 1, 50])
def test_it_stops_at_a_loss_that_is_not_finite(bad: float, at: int) -> None:
    curve = run([1.0] * at + [bad] + [1.0] * 99)
    assert len(curve.lrs) == at + 1 and all(LRS[0] / 10 <= rate <= LRS[at] for rate in curve.suggestions.values())


def v_shaped(bottom: float) -> list[float]:
    """Falls by 1 for each factor of ten up to `bottom`, then rises as fast."""
    return [1 + abs(math.log10(lr / bottom)) for lr in LRS]


@pytest.mark.parametrize("bottom", [3e-4, 1e-2, 0.1])
def test_the_rules_on_a_v_in_the_logarithm_of_the_rate(bottom: float) -> None:
    found = suggest(LRS, v_shaped(bottom), 100)
    lowest = min(range(len(KEPT)), key=lambda i: abs(math.log10(KEPT[i] / bottom)))
    assert found["minimum"] == KEPT[lowest] / 10
    # The whole side falls: its middle, as third plus half a third of its last index, in whole points.
    falling = lowest + (KEPT[lowest] < bottom and v_shaped(bottom)[10 + lowest + 1] < v_shaped(bottom)[10 + lowest])
    assert found["valley"] == KEPT[int(falling / 3) + int(falling / 6)]
    slope = np.diff([1 + abs(math.log10(lr / bottom)) for lr in KEPT]) / np.diff(np.log(KEPT))
    assert slope[KEPT.index(found["steep"])] == pytest.approx(-1 / math.log(10)) and found["steep"] < bottom


@pytest.mark.parametrize("where", [1e-4, 1e-3, 3e-2])
def test_steep_finds_the_inflection_of_a_smooth_fall(where: float) -> None:
    found = suggest(LRS, [2 - math.tanh(2 * math.log10(lr / where)) for lr in LRS], 100)
    assert abs(math.log10(found["steep"] / where)) <= 7 / 99  # Within a point of the grid.


@seeded
@given(st.lists(st.integers(0, 12), min_size=12, max_size=60))
def test_valley_is_in_the_middle_of_the_longest_falling_subsequence(values: list[int]) -> None:
    """Against the classic algorithm with piles, which knows the length at each point without comparing all pairs."""
    lrs = rates(Find(start=1e-6, stop=1.0, steps=max(len(values), 8))).tolist()
    piles: list[int] = []
    lengths = []
    for value in values:  # Strictly falling is strictly rising in -value.
        place = bisect_left(piles, -value)
        piles[place : place + 1] = [-value]
        lengths.append(place + 1)
    longest = max(lengths)
    end = lengths.index(longest)
    third = (end - max(end - longest, 0)) / 3
    expected = max(end - longest, 0) + int(third) + int(third / 2)
    # With so many `steps` nothing is left to trim, so the whole curve counts.
    assert suggest(lrs, [float(v) for v in values], 10 * len(values))["valley"] == lrs[expected]


def test_slide_is_where_the_slope_settles() -> None:
    """Flat, then rising steeply from point 60: coming from the right, the slopes 15 apart first agree inside the rise."""
    points = len(KEPT)
    tail = [1.0] * 60 + [1.0 + 0.1 * (i - 59) ** 2 for i in range(60, points)]
    slope = np.gradient(tail)
    right = max(r for r in range(15, points) if abs(slope[r] - slope[r - 15]) <= 0.005)
    found = suggest(LRS, [1.0] * 10 + tail + [100.0] * 5, 100)
    assert found["slide"] == KEPT[right - 14] and right < 62
    flat = suggest(LRS, [1.0] * 100, 100)  # Settled at once.
    assert flat["slide"] == KEPT[points - 15]


@pytest.mark.parametrize("cut", [40, 70, 99])
def test_a_tail_that_is_not_finite_is_left_out(cut: int) -> None:
    values = v_shaped(1e-3)
    clean = suggest(LRS[:cut], values[:cut], 100)
    for bad in (math.nan, math.inf):
        assert suggest(LRS, values[:cut] + [bad] * (100 - cut), 100) == clean
        assert suggest(LRS, [*values[:cut], bad, *values[cut + 1 :]], 100) == clean  # Nothing after it counts.


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8, 15, 18, 19, 30])
def test_short_curves_have_suggestions_within_the_rates_tried(n: int) -> None:
    found = suggest(LRS[:n], v_shaped(1e-2)[:n], 100)
    assert set(found) == set(RULES[1:])
    assert all(LRS[0] / 10 <= rate <= LRS[n - 1] for rate in found.values())
    if n < 3:
        assert set(found.values()) == {LRS[0]}


def test_a_curve_of_nothing_finite_has_the_lowest_rate() -> None:
    curve = run([math.nan])
    assert set(curve.suggestions.values()) == {1e-6} and curve.chosen == FIND.lowest
    assert curve.verdict.startswith("no clear valley")


def read(smoothed: list[float], **fields: Any) -> LrCurve:
    find = Find(**{"rule": "valley", "start": 1e-6, "stop": 10.0, "steps": 100} | fields)
    return read_curve(LRS[: len(smoothed)], smoothed, smoothed, find)


def test_the_verdict_on_a_good_curve_is_clear() -> None:
    fall = [2 - math.tanh(2 * math.log10(lr / 1e-3)) + 30 * max(0.0, math.log10(lr / 0.05)) for lr in LRS]
    curve = read(fall)
    assert curve.verdict == "clear"
    assert 1e-4 < curve.chosen < 1e-2 and curve.chosen == curve.suggestions["valley"] and curve.rule == "valley"


def test_the_verdict_on_flat_and_rising_curves_is_no_clear_valley() -> None:
    assert read([1.0] * 100).verdict == "no clear valley: the loss fell by only 0.0 %"
    rising = [math.exp(i / 30) for i in range(60)]
    assert read(rising).verdict == "no clear valley: the loss fell by only 0.0 %"
    assert read([1 - 0.02 * i / 99 for i in range(100)]).verdict == "no clear valley: the loss fell by only 2.0 %"


@pytest.mark.parametrize(("at", "clear"), [(10, False), (23, False), (25, True), (29, True)])
def test_the_verdict_names_the_factor_between_rules_that_differ(at: int, clear: bool) -> None:
    """An even fall over 60 points (valley: 30, minimum: a tenth of point 60) with one steep step; 99 points are seven decades."""
    even = [10 - 0.05 * min(i, 60) + 0.05 * max(i - 60, 0) for i in range(85)]
    kept = [x - (i > at) for i, x in enumerate(even)]
    curve = read([11.0] * 10 + kept + [11.0] * 5)
    found = curve.suggestions
    assert (found["valley"], found["steep"], found["minimum"]) == (KEPT[30], KEPT[at], KEPT[60] / 10)
    factor = 10 ** ((60 - at) * 7 / 99 - 1)
    assert curve.verdict == ("clear" if clear else f"no clear valley: the rules differ by a factor of {factor:.0f}")


@pytest.mark.parametrize("rule", RULES)
def test_the_choice_is_what_the_rule_says_within_the_bounds(rule: Any) -> None:
    values = v_shaped(1e-2)
    free = combined(np.array(LRS), np.array(values)).lr if rule == "combined" else suggest(LRS, values, 100)[rule]
    assert read(values, rule=rule, lowest=1e-9, highest=1e9).chosen == free
    assert read(values, rule=rule, lowest=free * 2, highest=1e9).chosen == free * 2
    assert read(values, rule=rule, lowest=1e-9, highest=free / 2).chosen == free / 2


@seeded
@given(st.floats(0.05, 1e4))
def test_no_choice_diverges_on_a_bowl(curvature: float) -> None:
    """Gradient descent on c·x²/2 diverges above the rate 2/c: no rule may choose that, and one that is far below learns nothing."""

    def update(x: float, lr: float, _: int) -> tuple[float, float]:
        return x - lr * curvature * x, 0.1 + curvature * x * x / 2 / curvature

    for rule in ("combined", "valley", "steep", "minimum"):
        curve = range_test(update, 3.0, range(100), Find(rule, start=1e-6, stop=10, steps=100, lowest=1e-9, highest=1e9))
        assert 1e-4 / curvature < curve.chosen < 2 / curvature
        assert curve.smoothed[-1] < 4 * min(curve.smoothed) or curve.lrs[-1] > 2 / curvature


@seeded
@given(values=st.lists(st.floats(0.1, 50) | st.just(math.inf), min_size=1, max_size=100), span=st.integers(1, 40))
def test_losses_that_come_in_spans_end_where_single_ones_do(values: list[float], span: int) -> None:
    """An update after the loss has diverged has no influence, nor has what a padded span holds after its last update."""

    def update(state: int, lrs: np.ndarray, items: Sequence[int]) -> tuple[int, list[float]]:
        assert list(lrs) == [LRS[item] for item in items] and items[0] == state
        return state + len(items), [values[item] for item in items] + [math.nan]

    ticks: list[int] = []
    losses = sweep(update, 0, batched(range(len(values)), span), FIND, ticks.append)
    assert tuple(losses) == run(values, batches=len(values)).losses and len(ticks) == len(losses)


def test_the_finder_leaves_its_input_bit_identical() -> None:
    """On the device, with a compiled step that donates its state, up to rates that destroy the copy."""
    trained = ("head",)
    state = fresh(trained)
    before = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
    _, labels, weight = batch()
    x = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)

    def update(state: TrainState, lr: float, _: int) -> tuple[TrainState, float]:
        state, sums = program(trained, trained)(state, hyper(lr), x, labels, weight, jax.random.key(1))
        return state, float(sums["loss"]) / 8

    find = Find(start=1e-3, stop=1e4, steps=40)
    first = range_test(update, on(1).replicate(state), range(40), find)
    assert same_bits(state, before)
    again = range_test(update, on(1).replicate(state), range(40), find)
    assert again == first and len(set(first.losses)) > 8
    assert same_bits(state, before)


def bathtub(where: float, rise: float, lrs: list[float] = LRS) -> np.ndarray:
    """A loss that falls from 3 to 1 around a rate and shoots up from another one on."""
    return np.array([2 - math.tanh(2 * math.log10(lr / where)) + 4 * max(0.0, math.log10(lr / rise)) ** 2 for lr in lrs])


@seeded
@given(st.floats(1e-4, 1e-3), st.floats(20, 300))
def test_the_combined_rule_is_at_the_knee_or_an_eighth_of_the_edge(where: float, apart: float) -> None:
    losses = bathtub(where, where * apart)
    found = combined(np.array(LRS), losses)
    # The fall is tanh's: four fifths of it are done at tanh(2 log10(lr / where)) = 0.6; averaging over 0.15 decades widens it a little.
    assert math.log10(found.knee / where) == pytest.approx(math.atanh(0.6) / 2, abs=0.06)
    back = [lr for lr, loss in zip(LRS, losses, strict=True) if lr > where * apart and loss > losses[:10].mean()]
    assert found.edge == pytest.approx(back[0], rel=0.4)
    assert found.lr == pytest.approx(min(found.knee * 99 / 7 / 4, found.edge / 8))
    assert found.verdict == "clear"
    never = combined(np.array(LRS), bathtub(where, 1e3))
    assert never.edge == LRS[-1] and never.verdict.startswith("clear, but the loss never rose: a higher lr.stop")


def test_a_fall_that_needs_a_sum_of_rates_is_read_the_same_with_any_number_of_updates() -> None:
    """A loss of exp(-sum of the rates so far / 0.01): more updates per decade bring its knee forward, and not the suggestion."""
    found = []
    for steps in (20, 40, 80):
        lrs = rates(Find(start=1e-5, stop=1, steps=steps))
        done = np.concatenate([[0.0], np.cumsum(lrs)[:-1]])
        found.append(combined(lrs, 1 + np.exp(-done / 0.01)))
    assert found[0].knee > 1.6 * found[1].knee > 2.5 * found[2].knee
    assert max(f.lr for f in found) < 1.5 * min(f.lr for f in found)


@seeded
@given(st.integers(-12, 12), st.floats(0.2, 5))
def test_the_combined_rule_moves_with_the_curve(points: int, height: float) -> None:
    losses = bathtub(1e-3, 1e-1)
    moved = bathtub(1e-3 * (LRS[1] / LRS[0]) ** points, 1e-1 * (LRS[1] / LRS[0]) ** points)
    here, there = combined(np.array(LRS), losses), combined(np.array(LRS), moved)
    assert there.lr / here.lr == pytest.approx((LRS[1] / LRS[0]) ** points, rel=0.05)
    assert combined(np.array(LRS), height * losses).knee == pytest.approx(here.knee, rel=0.05)


def test_noise_moves_the_combined_rule_little_and_the_lowest_point_much() -> None:
    """A flat valley of two decades with noise of a tenth of the fall, six orders, twenty times over."""
    rng, find = np.random.default_rng(0), Find(start=1e-5, stop=1.0, steps=40)
    lrs = rates(find).tolist()
    curves = [read_orders(bathtub(5e-4, 5e-2, lrs) + rng.normal(0, 0.2, (6, 40)), find) for _ in range(20)]
    rule, lowest = [curve.suggestions["combined"] for curve in curves], [lrs[int(np.argmin(curve.losses))] for curve in curves]
    assert max(rule) / min(rule) < 2 < max(lowest) / min(lowest)
    assert all(curve.verdict == "clear" and curve.confidence >= 0.5 for curve in curves)
    single = [read_orders([bathtub(5e-4, 5e-2, lrs) + rng.normal(0, 1.0, 40)], find).confidence for _ in range(20)]
    assert np.mean(single) < np.mean([curve.confidence for curve in curves])


def test_where_nothing_falls_the_largest_harmless_rate_is_suggested_with_advice() -> None:
    rng = np.random.default_rng(0)
    losses = np.array([0.1 + 0.5 * max(0.0, math.log10(lr / 0.01)) for lr in LRS]) + rng.normal(0, 0.01, 100)
    found = combined(np.array(LRS), losses)
    assert found.verdict.startswith("no clear valley: the loss falls by ") and "more orders (lr.orders)" in found.verdict
    assert 0.005 < found.edge < 0.03 and found.lr == found.edge / 4


@pytest.mark.parametrize("steps", [20, 40, 100])
def test_what_noise_alone_may_do_is_no_clear_valley(steps: int) -> None:
    """Of losses that do not fall before they rise a third was called clear: the lowest of many averages is below the first by chance."""
    rng, lrs = np.random.default_rng(0), rates(Find(start=1e-5, stop=1.0, steps=steps))
    rise = np.maximum(0.0, np.log10(lrs / 0.01))
    flat = [combined(lrs, 1 + rise + rng.normal(0, 0.05, steps)).verdict for _ in range(200)]
    assert np.mean([verdict == "clear" for verdict in flat]) <= 0.05
    falls = 0.3 * np.clip(np.log10(lrs / 1e-4), 0, 1)
    assert all(combined(lrs, 1 - falls + rise + rng.normal(0, 0.05, steps)).verdict == "clear" for _ in range(50))


def test_a_range_that_begins_too_late_or_a_loss_that_diverges_at_once_says_so() -> None:
    late = combined(np.array(LRS), bathtub(1.5e-6, 1e-2))
    assert late.verdict == "no clear valley: the loss falls at the lowest rates already; lower lr.start"
    assert combined(np.array(LRS), np.full(100, np.nan)).verdict.endswith("the loss diverged at once; lower lr.start")


def test_the_common_curve_is_the_mean_of_the_orders() -> None:
    orders = [[3.0, 2.0, 1.0, 5.0], [5.0, 4.0, 3.0, 1.0], [1.0, 0.0, 2.0, 3.0]]
    curve = read_orders(orders, FIND)
    assert curve.losses == pytest.approx([3, 2, 2, 3]) and curve.orders == 3 and curve.lrs == tuple(LRS[:4])
    assert all(low <= high for low, high in zip(curve.low, curve.high, strict=True))
    alone = read_orders(orders[:1], FIND)
    assert alone.losses == tuple(orders[0]) and alone.low == alone.high


def test_an_order_that_diverges_early_holds_its_place() -> None:
    curve = read_orders([[1.0, 2.0, 8.0, math.nan], [1.0] * 6, [1.0] * 9], FIND)
    assert len(curve.lrs) == 6 and curve.losses == pytest.approx([1, 4 / 3, 10 / 3, 10 / 3, 10 / 3, 10 / 3])
    most = read_orders([[1.0, 9.0], [1.0, 9.0], [1.0] * 9], FIND)
    assert len(most.lrs) == 2


def curve_of(losses: np.ndarray, ratio: float, confidence: float = 1.0) -> LrCurve:
    read = read_orders([losses, losses], FIND)
    return dataclasses.replace(read, ratio=ratio, confidence=confidence)


def test_the_rule_of_thumb_is_left_only_for_a_ratio_that_is_clearly_better() -> None:
    thumb = curve_of(bathtub(1e-3, 1e-1), 10)
    deeper = curve_of(3 - 1.5 * (3 - bathtub(1e-3, 1e-1)), 3)
    slightly = curve_of(3 - 1.05 * (3 - bathtub(1e-3, 1e-1)), 30)
    assert best_ratio([thumb, slightly, deeper]).ratio == 3
    assert best_ratio([thumb, slightly]).ratio == 10
    assert best_ratio([thumb, dataclasses.replace(deeper, confidence=0.3)]).ratio == 10
    assert best_ratio([thumb]) is thumb
    found = best_ratio([thumb, slightly, deeper])
    assert [ratio for ratio, _ in found.falls] == [10, 30, 3] and found.falls[2][1] > found.falls[1][1] > found.falls[0][1] > 0
    told = io.StringIO()
    Console(file=told, width=120).print(finder_table({"": found}, ("body", "head")))
    assert "ratio 30" in told.getvalue() and re.search(r"ratio 3 .*loss falls by 2.* ← chosen", told.getvalue())


def test_agreement_is_that_of_orders_or_of_the_halves_of_one() -> None:
    """One order was said to be "50% of 1 orders"."""
    find, losses = Find(steps=100), bathtub(1e-3, 1e-1)
    one, two = read_orders([losses], find), read_orders([losses, losses], find)
    assert two.agreement() == "100% of 2 orders agree within a factor of 3"
    half = dataclasses.replace(one, confidence=0.5)
    assert half.agreement() == "50% of the two halves of its one order, the even and the odd updates, agree within a factor of 3"
    assert finder_verdict("", half).startswith("all trained layer groups: ") and finder_verdict("head", half).startswith("head: ")
