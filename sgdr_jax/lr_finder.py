"""The learning-rate range test: state in, curve out. The caller's state is not touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .config import Find

RULES = ("valley", "steep", "minimum", "slide")


@dataclass(frozen=True)
class Curve:
    """What a range test saw, and what the rules read from it.

    Attributes:
        lrs: rate of the last trained group at each update tried.
        losses: training loss of the batch at that rate, before the update.
        smoothed: debiased exponential mean of the losses; 0.98 of it is kept from point to point in a test of 100 updates, and the same
            share of the whole range is averaged in shorter and longer ones (0.98^(100/steps)).
        suggestions: rule name to rate.
        chosen: rate that the asked-for rule gives, held within `Find.lowest…highest`.
        rule: the rule that was asked for.
        verdict: "clear", or "no clear valley: …" with the reason.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestions: dict[str, float]
    chosen: float
    rule: str
    verdict: str


def rates(find: Find) -> np.ndarray:
    """The rates tried: lr_k = start · (stop/start)^(k/(steps-1)), float64 [steps].

    Example:
        >>> rates(Find(start=1e-3, stop=10, steps=9)).round(4).tolist()[::4]
        [0.001, 0.1, 10.0]
    """
    return np.geomspace(find.start, find.stop, find.steps)


def range_test(
    update: Callable[[Any, float, Any], tuple[Any, Any]],
    state: Any,
    batches: Iterable[Any],
    find: Find,
    tick: Callable[[int], None] | None = None,
) -> Curve:
    """Raises the rate update by update until the loss diverges (smoothed loss over 4x its best, or not finite) or the rates run out.

    Args:
        update: (state, rate of the last group, batch) → (new state, mean loss of the batch before the update). May donate its state.
        state: a copy that may be used up.
        batches: at least `find.steps` training batches.
        find: range, number of updates, rule.
        tick: told 1 after each update.

    Returns:
        The curve, at least one point long.

    Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks"; smoothing and stop as in fastai 2's `lr_find`.
    """
    lrs, losses, smoothed = [], [], []
    mean, best, keep = 0.0, math.inf, 0.98 ** (100 / find.steps)
    for k, (lr, batch) in enumerate(zip(rates(find), batches, strict=False)):
        state, loss = update(state, float(lr), batch)
        loss = float(loss)
        mean = keep * mean + (1 - keep) * loss
        value = mean / (1 - keep ** (k + 1))
        lrs.append(float(lr))
        losses.append(loss)
        smoothed.append(value)
        if tick:
            tick(1)
        if not math.isfinite(value) or value > 4 * best:
            break
        best = min(best, value)
    return read_curve(lrs, losses, smoothed, find)


def read_curve(lrs: list[float], losses: list[float], smoothed: list[float], find: Find) -> Curve:
    """Applies all rules to a finished test; see `Curve`."""
    found = suggest(lrs, smoothed, find.steps)
    finite = [x for x in smoothed if math.isfinite(x)]
    drop = 1 - min(finite) / finite[0] if finite and finite[0] > 0 else 0.0
    core = [found[r] for r in ("valley", "steep", "minimum")]
    spread = math.log10(max(core) / min(core))
    verdict = "clear"
    if drop < 0.03:
        verdict = f"no clear valley: the loss fell by only {100 * max(drop, 0):.1f} %"
    elif spread > 1.5:
        verdict = f"no clear valley: the rules differ by a factor of {10**spread:.0f}"
    chosen = min(max(found[find.rule], find.lowest), find.highest)
    return Curve(tuple(lrs), tuple(losses), tuple(smoothed), found, chosen, find.rule, verdict)


def suggest(lrs: list[float], smoothed: list[float], steps: int) -> dict[str, float]:
    """What each rule reads from a smoothed curve, after leaving out its first tenth and last five points (where enough are left).

    * valley: half-way through the longest falling subsequence;
    * steep: the steepest fall of the loss over log(rate);
    * minimum: a tenth of the rate at the lowest loss;
    * slide: from the right, the first point where the slope has settled (differs by at most 0.005 from 15 points earlier).

    Args:
        lrs: rates tried, rising.
        smoothed: smoothed losses; a tail that is not finite is dropped.
        steps: updates that the test would have had; decides the first tenth.

    Source: formulas of fastai 2's suggestion functions.
    """
    loss = np.asarray(smoothed, float)
    good = len(loss) if np.isfinite(loss).all() else int(np.argmin(np.isfinite(loss)))
    lr, loss = np.asarray(lrs, float)[: max(good, 1)], loss[: max(good, 1)]
    if len(loss) - 5 - steps // 10 >= 4:
        lr, loss = lr[steps // 10 : -5], loss[steps // 10 : -5]
    if len(loss) < 3:
        return dict.fromkeys(RULES, float(lr[0]))
    slope = np.diff(loss) / np.diff(np.log(lr))
    return {
        "valley": float(lr[_valley(loss)]),
        "steep": float(lr[int(np.argmin(slope))]),
        "minimum": float(lr[int(np.argmin(loss))] / 10),
        "slide": float(lr[_slide(loss)]),
    }


def _valley(loss: np.ndarray) -> int:
    """Index about the middle of the longest strictly falling subsequence."""
    n = len(loss)
    longest = np.ones(n, int)
    for i in range(1, n):
        before = longest[:i][loss[:i] > loss[i]]
        longest[i] = 1 + (before.max() if len(before) else 0)
    end = int(np.argmax(longest))
    start = max(end - int(longest[end]), 0)
    third = (end - start) / 3
    return start + int(third) + int(third / 2)


def _slide(loss: np.ndarray, apart: int = 15, settled: float = 0.005) -> int:
    """Index at which, coming from the right, the slope differs by at most `settled` from that `apart` points to the left."""
    slope = np.gradient(loss)
    for right in range(len(loss) - 1, apart - 1, -1):
        if abs(slope[right] - slope[right - apart]) <= settled:
            return min(right - apart + 1, len(loss) - 1)
    return 0
