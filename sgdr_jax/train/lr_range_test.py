"""Learning-rate range test: the loss while the rate rises with every update. Source: Smith 2017, "Cyclical learning rates"."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from ..core.learning_rates import Find
from .lr_curve import LrCurve, rates, read_orders, smooth


def sweep(
    update: Callable[[Any, float, Any], tuple[Any, Any]],
    state: Any,
    batches: Iterable[Any],
    find: Find,
    tick: Callable[[int], None] | None = None,
) -> list[float]:
    """Test one order of the images: raise the rate with every update until the loss diverges or the rates are used up.

    The loss diverges if it is not finite, or if its smoothed value exceeds both 1 and 4 times its lowest. Arguments as in `range_test`.

    Returns:
        The losses, at least one.
    """
    losses: list[float] = []
    best = math.inf
    for lr, batch in zip(rates(find), batches, strict=False):
        state, loss = update(state, float(lr), batch)
        losses.append(float(loss))
        value = smooth(losses, find.steps)[-1]
        if tick:
            tick(1)
        if not math.isfinite(value) or value > max(4 * best, 1):  # a loss near 0 may rise fourfold without harm
            break
        best = min(best, value)
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
    return read_orders([sweep(update, state, batches, find, tick)], find)
