"""Learning-rate range test: the loss while the rate rises with every update. Source: Smith 2017, "Cyclical learning rates"."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import batched
from typing import Any

import numpy as np

from ..core.learning_rates import Find
from .lr_curve import LrCurve, rates, read_orders, smooth


def sweep(
    update: Callable[[Any, np.ndarray, Sequence[Any]], tuple[Any, Sequence[Any]]],
    state: Any,
    spans: Iterable[Sequence[Any]],
    find: Find,
    tick: Callable[[int], None] | None = None,
) -> list[float]:
    """Test one order of the images: raise the rate with every update until the loss diverges or the rates are used up.

    The loss diverges if it is not finite, or if its smoothed value exceeds both 1 and 4 times its lowest. Later updates of the
    same span still run, but their losses are ignored.

    Args:
        update: (state, rates of the last group [n], n batches) → (new state, mean loss of each batch before its update [n or more]).
        state: a copy, which may be donated.
        spans: training batches in the groups that are sent to the devices at once.
        find: range and number of updates.
        tick: receives 1 after each update.

    Returns:
        The losses, at least one.
    """
    losses: list[float] = []
    best, lrs = math.inf, rates(find)
    for span in spans:
        span = span[: len(lrs) - len(losses)]
        state, span_losses = update(state, lrs[len(losses) : len(losses) + len(span)], span)
        for loss in span_losses[: len(span)]:
            losses.append(float(loss))
            value = smooth(losses, find.steps)[-1]
            if tick:
                tick(1)
            if not math.isfinite(value) or value > max(4 * best, 1):  # a loss near 0 may rise fourfold without harm
                return losses
            best = min(best, value)
        if len(losses) == len(lrs):
            break
    return losses


def range_test(
    update: Callable[[Any, float, Any], tuple[Any, Any]],
    state: Any,
    batches: Iterable[Any],
    find: Find,
    tick: Callable[[int], None] | None = None,
) -> LrCurve:
    """Test a single order of the images.

    Args:
        update: (state, rate of the last group, batch) → (new state, mean loss of the batch before the update). May donate its state.
        state: a copy, which may be donated.
        batches: at least `find.steps` training batches.
        find: range, number of updates, rule.
        tick: receives 1 after each update.

    Returns:
        The curve, at least one point long.

    Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks"; smoothing and stop as in fastai 2's `lr_find`.
    """

    def alone(state: Any, lrs: np.ndarray, span: Sequence[Any]) -> tuple[Any, list[Any]]:
        state, loss = update(state, float(lrs[0]), span[0])
        return state, [loss]

    return read_orders([sweep(alone, state, batched(batches, 1), find, tick)], find)
