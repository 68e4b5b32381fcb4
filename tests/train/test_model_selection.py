"""Model selection: the best of several validated states, and when a stage has stopped improving."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.core.state import NetworkState
from sgdr_jax.schedules import Plateau
from sgdr_jax.schedules.plateau import Lowered
from sgdr_jax.train.model_selection import Best, Leeway, Score, SelectionRules, StageProgress, best_first, best_score, judge

from ..helpers import seeded


def network(cycle: int) -> NetworkState:
    return NetworkState({"w": cycle}, {}, 8)


def judged(scores: Sequence[tuple[float, float]], start: StageProgress | None = None, **rules: Any) -> StageProgress:
    """The progress after the validations of a stage's cycles, or up to the one that stops it."""
    progress = start or StageProgress()
    for cycle, score in enumerate(scores):
        last = cycle == len(scores) - 1
        progress = judge(SelectionRules(3, **rules), progress, Score(*score), cycle, lambda cycle=cycle: network(cycle), last=last)
        if progress.stopped:
            break
    return progress


@pytest.mark.parametrize(
    ("scores", "cycle"),
    [
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 0.95)], 1),  # A tie goes to the lower loss
        ([(0.5, 1.0), (0.5, 1.0), (0.5, 1.0)], 0),  # or to the earlier one.
        ([(0.5, 0.1), (0.6, 9.0), (0.4, 0.01)], 1),  # Accuracy comes first.
        ([(0.9, math.nan), (0.1, 1.0), (0.99, math.nan)], 1),  # Not a number is never best,
        ([(0.2, math.inf), (0.1, 5.0), (0.99, -math.inf)], 1),  # nor is anything else that is not finite.
        ([(0.9, math.nan)] * 3, None),
    ],
)
def test_the_best_is_by_accuracy_then_loss(scores: Any, cycle: int | None) -> None:
    best = judged(scores).best
    assert (best.cycle if best else None) == cycle
    assert best is None or best.network == network(best.cycle)


@seeded
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.1, 1.0, math.nan, math.inf])), max_size=8))
def test_the_best_one_after_the_other_is_the_best_of_all(scores: Sequence[tuple[float, float]]) -> None:
    """The loop compares cycle by cycle; summaries, snapshots and pages compare all cycles at once."""
    best, order = judged(scores).best, best_first([Score(*score) for score in scores])
    assert (best.cycle if best else None) == (order[0] if order else None)
    rows = [{"accuracy": accuracy, "loss": loss if math.isfinite(loss) else None} for accuracy, loss in scores]
    assert (best.score if best else None) == best_score(rows)
    assert all(not Score(*scores[later]).beats(Score(*scores[earlier])) for earlier, later in pairwise(order))


def test_the_network_is_copied_only_when_it_is_the_best() -> None:
    progress = judged([(0.9, 0.5)])
    again = judge(SelectionRules(3), progress, Score(0.8, 0.6), 1, lambda: pytest.fail("copied"), last=False)
    assert again.best is progress.best


def test_the_best_of_earlier_stages_stays_unless_it_is_beaten() -> None:
    earlier = Best(Score(0.8, 0.5), network(4), 1, 4, 0.8)
    assert judged([(0.5, 1.0), (0.6, 0.9), (0.7, 0.8)], StageProgress(earlier)).best is earlier
    beaten = judged([(0.1, 1.0), (0.8, 0.4), (0.1, 1.0)], StageProgress(earlier)).best
    assert beaten is not None and (beaten.stage, beaten.cycle) == (3, 1)


@pytest.mark.parametrize(
    ("scores", "errors", "cycle"),
    [
        ([(0.80, 1.0), (0.76, 1.0), (0.755, 1.0)], 1, 1),  # √(0.8 · 0.2 / 100) = 0.04 below the highest, not below the one before
        ([(0.80, 1.0), (0.76, 1.0), (0.755, 1.0)], 2, 2),
        ([(0.80, 1.0), (0.70, 1.0), (0.77, 9.0)], 1, 2),
        ([(0.80, 1.0), (0.80, math.nan), (0.5, 1.0)], 1, 0),
        ([(0.50, 1.0), (0.90, 1.0), (0.86, 1.0)], 1, 1),  # near 1 the error is smaller
        ([(0.80, 0.1), (0.80, 0.2), (0.80, 0.3)], 1e-9, 2),  # of equal ones the last, whatever the loss
    ],
)
def test_with_leeway_the_last_state_within_the_error_is_the_best(scores: Any, errors: float, cycle: int) -> None:
    best = judged(scores, leeway=Leeway(errors, 100)).best
    assert best is not None and best.cycle == cycle and best.highest == max(a for a, loss in scores if math.isfinite(loss))
    assert best.score == scores[cycle]


@pytest.mark.parametrize("n", [1, 3, 7, 10, 11, 15, 44, 100, 333, 2000])
def test_one_image_decides_nothing(n: int) -> None:
    """The standard error of all right, or of none, is 0, and that of 1 of 2 images less than one image."""
    right = [float(np.float32(k) / np.float32(n)) for k in range(n + 1)]
    for k in {1, n // 2, n - 1, n} - {0}:
        assert Leeway(1, n).allows(Score(right[k - 1], 1.0), right[k])
    assert n < 5 or not Leeway(1.9, n).allows(Score(right[n - 2], 1.0), 1.0)
    assert Leeway(2, n).allows(Score(right[max(n - 2, 0)], 1.0), 1.0) and Leeway(1, n).allows(Score(1.0, 1.0), 1.0 + 1e-7)


@pytest.mark.parametrize(
    ("losses", "patience", "stops"),
    [
        ([1.0, 1.1, 0.5], 1, 1),
        ([1.0, 1.0, 0.5], 1, 1),  # Equal is no improvement.
        ([1.0, 1.1, 1.2], 2, None),  # The last cycle is over anyway.
        ([1.0, 1.1, 0.5], 2, None),
        ([1.0, 1.1, 0.5], None, None),
        ([1.0, math.nan, 0.5], 1, 1),
        ([math.nan, 1.0, 0.5], 1, 0),
        ([3.0, 2.0, 1.0], 1, None),
    ],
)
def test_patience_counts_cycle_ends_without_a_lower_loss(losses: list[float], patience: int | None, stops: int | None) -> None:
    stopped = judged([(0.5, loss) for loss in losses], patience=patience).stopped
    assert (f"after cycle {stops}," in stopped and "for 1 cycle end" in stopped) if stops is not None else not stopped


def test_patience_counts_in_a_row_and_from_the_lowest() -> None:
    progress = judged([(0.5, loss) for loss in (1.0, 1.1, 0.9, 1.0, 0.95, 0.1, 0.1)], patience=2)
    assert "after cycle 4, not below 0.9000 for 2 cycle ends" in progress.stopped
    assert (progress.lowest, progress.stale) == (0.9, 2)


def test_a_plateau_lowers_the_rates_and_the_peak_rates_stay() -> None:
    start = StageProgress(lr=(0.1, 0.2))
    progress = judged([(0.5, 1.0), (0.6, 1.1), (0.7, 0.8)], start, plateau=Plateau(factor=0.5, patience=0).rule)
    assert progress.lowered == Lowered(0.5, 0.8, 0, 0) and progress.lr == (0.1, 0.2)
    assert judged([(0.5, 1.0), (0.6, 1.1)], start).lowered == Lowered()


def test_multi_label_networks_are_judged_by_mean_average_precision() -> None:
    none = Score.of({"accuracy": 0.89, "f2": 0.7, "map": 0.1, "loss": 0.4})  # the share of right labels is high without any
    some = Score.of({"accuracy": 0.88, "f2": 0.6, "map": 0.6, "loss": 0.5})
    assert some.beats(none) and not none.beats(some)
    assert Score.of({"accuracy": 0.89, "f2": 0.1, "loss": 0.4}) == Score(0.1, 0.4)  # of rows without a class, or of earlier versions
    assert Score.of({"accuracy": 0.9, "loss": 0.4}) == Score(0.9, 0.4)
