"""The finder's loss curve: its smoothing, and the rules that read a learning rate off it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core.learning_rates import Find

RULES = ("combined", "valley", "steep", "minimum", "slide")
CLEARLY = 3.5
"""Standard errors by which a loss must fall to be a clear valley: the lowest of many averages lies two or three below by chance."""
_MORE = "more orders (lr.orders) would show more"


def rates(find: Find) -> np.ndarray:
    """Return the rates tried: lr_k = start · (stop/start)^(k/(steps-1)), float64 [steps].

    Example:
        >>> rates(Find(start=1e-3, stop=10, steps=9)).round(4).tolist()[::4]
        [0.001, 0.1, 10.0]
    """
    return np.geomspace(find.start, find.stop, find.steps)


@dataclass(frozen=True)
class LrCurve:
    """Result of range tests, and the rates that the rules read from it.

    Attributes:
        lrs: rate of the last trained group at each update tried.
        losses: training loss of the batch at that rate, before the update; mean over the orders.
        smoothed: debiased exponential mean of the losses with decay 0.98^(100/steps), which averages the same share of the range in
            tests of any length.
        suggestions: rule name to rate.
        chosen: rate by the selected rule, clipped to `Find.lowest…highest`.
        rule: the selected rule.
        verdict: "clear", or "no clear valley: …" with the reason and what to do.
        confidence: share of orders whose suggestion by that rule is within a factor of 3 of the common one; a single order is split
            into its even and odd points.
        low, high: lowest and highest loss of any order at each rate, each order's losses averaged over neighbouring rates.
        orders: number of orders.
        ratio: ratio of the groups' rates.
        falls: (ratio, fall of the loss) of each ratio tried; the falls decide between them.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestions: dict[str, float]
    chosen: float
    rule: str
    verdict: str
    confidence: float = 1.0
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    orders: int = 1
    ratio: float = 1.0
    falls: tuple[tuple[float, float], ...] = ()

    def agreement(self) -> str:
        """Return how many orders agree on the rate, as text; of a single one, which of its two halves do."""
        whose = f"{self.orders} orders" if self.orders > 1 else "the two halves of its one order, the even and the odd updates,"
        return f"{self.confidence:.0%} of {whose} agree within a factor of 3"


def read_orders(orders: Sequence[Sequence[float]], find: Find) -> LrCurve:
    """Average several orders to a common curve and apply the rules to it.

    An order that diverged before the others is extended by the highest of its last three finite losses. The curve ends where at most
    half of the orders are left.

    Args:
        orders: losses of each order, [updates of the order]; all at the same rates, from the first on.
        find: range, number of updates, rule.
    """
    most = sorted(map(len, orders))[-(len(orders) // 2 + 1)]
    table = np.array([_held(losses, most) if len(orders) > 1 else np.array(losses) for losses in orders])
    losses, lrs = table.mean(0), rates(find)[:most]
    curve = read_curve(lrs.tolist(), losses.tolist(), smooth(losses, find.steps), find)
    parts = [(lrs, row, find.steps) for row in table]
    parts = parts if len(parts) > 1 else [(lrs[i::2], table[0][i::2], find.steps // 2) for i in (0, 1)]
    own = [_suggestions(x, y, smooth(y, steps), steps)[0][find.rule] for x, y, steps in parts if len(x) > 2]
    common = curve.suggestions[find.rule]
    agree = float(np.mean([max(lr / common, common / lr) <= 3 for lr in own])) if own else 0.0
    bands = np.array([_averaged(lrs, row) for row in table])
    return dataclasses.replace(
        curve, confidence=agree, low=tuple(bands.min(0).tolist()), high=tuple(bands.max(0).tolist()), orders=len(orders)
    )


def smooth(losses: Sequence[float] | np.ndarray, steps: int) -> list[float]:
    """Return the debiased exponential mean at each loss; see `LrCurve`."""
    smoothed: list[float] = []
    keep, mean = 0.98 ** (100 / steps), 0.0
    for k, loss in enumerate(losses, start=1):
        mean = keep * mean + (1 - keep) * loss
        smoothed.append(float(mean / (1 - keep**k)))
    return smoothed


def _suggestions(lrs: np.ndarray, losses: np.ndarray, smoothed: list[float], steps: int) -> tuple[dict[str, float], str]:
    """Return the suggestion of each rule and the verdict of the combined one; `steps` is the full length of the test."""
    valley = combined(lrs, losses)
    return {"combined": valley.lr} | suggest(lrs.tolist(), smoothed, steps), valley.verdict


def _held(losses: Sequence[float], length: int) -> np.ndarray:
    """Cut the finite losses to a length, or extend them with the highest of the last three."""
    row = [x for x in losses[:length] if math.isfinite(x)]
    return np.array(row + [max(row[-3:], default=math.inf)] * (length - len(row)))


def read_curve(lrs: list[float], losses: list[float], smoothed: list[float], find: Find) -> LrCurve:
    """Apply all rules to a finished test; see `LrCurve`."""
    suggestions, verdict = _suggestions(np.asarray(lrs), np.asarray(losses), smoothed, find.steps)
    verdict = verdict if find.rule == "combined" else _verdict(smoothed, suggestions)
    chosen = min(max(suggestions[find.rule], find.lowest), find.highest)
    return LrCurve(tuple(lrs), tuple(losses), tuple(smoothed), suggestions, chosen, find.rule, verdict)


def _verdict(smoothed: Sequence[float], suggestions: dict[str, float]) -> str:
    """Return the verdict on a curve from the single rules together."""
    finite = [x for x in smoothed if math.isfinite(x)]
    drop = 1 - min(finite) / finite[0] if finite and finite[0] > 0 else 0.0
    core = [suggestions[r] for r in ("valley", "steep", "minimum")]
    spread = math.log10(max(core) / min(core))
    if drop < 0.03:
        return f"no clear valley: the loss fell by only {100 * max(drop, 0):.1f} %"
    if spread > 1.5:
        return f"no clear valley: the rules differ by a factor of {10**spread:.0f}"
    return "clear"


class Valley(NamedTuple):
    """Reading of a curve by the combined rule.

    Attributes:
        lr: the suggestion.
        knee: rate at which four fifths of the fall are done.
        edge: rate from which on the loss exceeds its initial value; the last rate if it never does.
        drop: fall of the loss.
        noise: standard deviation of the losses about their averages, up to the lowest.
        verdict: see `LrCurve`.
    """

    lr: float
    knee: float
    edge: float
    drop: float
    noise: float
    verdict: str


def combined(lrs: np.ndarray, losses: np.ndarray) -> Valley:
    """Pick the rate after most of the fall and well before the rise: min(knee · n / 4, edge / 8), n updates per decade.

    The losses are averaged over neighbouring rates (a Gaussian of 0.15 decades, or of one point). The knee, where four fifths of the
    fall are done, lies on a steep part of the curve, so noise moves it little; the lowest point of a flat valley may be anywhere in
    it. A fall needs the same sum of rates however fast these rise, so a test with fewer updates per decade has its knee further to the
    right: n compensates for that. Without a noticeable fall, as on a network that is good already, a quarter of the edge alone
    decides: the largest rate that does no harm.

    Args:
        lrs: rates tried, in rising order.
        losses: mean loss at each rate; a tail that is not finite counts as higher than any loss.

    Source: measured on heads and bodies against grids of rates, `experiments/bench/finder.py`.
    """
    good = np.isfinite(losses)
    if len(lrs) < 3 or not good[0]:
        return Valley(float(lrs[0]), float(lrs[0]), float(lrs[0]), 0.0, 0.0, "no clear valley: the loss diverged at once; lower lr.start")
    x = np.log10(lrs)
    begun = float(np.mean(losses[: max(2, len(losses) // 10)]))
    raw = np.minimum(np.where(good, losses, np.inf), begun + max(abs(begun), 1.0))  # how high it shoots up is meaningless
    mean = _averaged(lrs, raw)
    lowest = int(np.argmin(mean))
    drop = begun - float(mean[lowest])
    noise = float(np.std((raw - mean)[: lowest + 1])) if lowest > 2 else float(np.std((raw - mean)[: max(len(raw) // 3, 3)]))
    rises = bool(mean[-1] > begun + noise)
    edge = float(lrs[int(np.max(np.flatnonzero(mean <= begun + noise), initial=-1)) + 1]) if rises else float(lrs[-1])
    if drop < max(1.5 * noise, 0.01 * abs(begun)):
        fall, wobble = (100 * part / max(abs(begun), 1e-9) for part in (max(drop, 0), noise))
        shown = f"the loss falls by {fall:.1f} %, and its noise is {wobble:.1f} %"
        advice = f"the rate is the largest that does no harm; {_MORE}"
        return Valley(edge / 4, edge / 4, edge, drop, noise, f"no clear valley: {shown}; {advice}")
    knee = 10 ** _crossing(x, mean, begun - 0.8 * drop)
    verdict = "clear"
    if mean[0] - begun > 0.25 * drop:
        verdict = "no clear valley: the loss falls at the lowest rates already; lower lr.start"
    elif drop < CLEARLY * _drop_error(lrs, raw, lowest):
        verdict = f"no clear valley: the loss falls by {100 * drop / max(abs(begun), 1e-9):.1f} %, which noise alone may do; {_MORE}"
    elif not rises:
        verdict = "clear, but the loss never rose: a higher lr.stop may show a higher rate"
    per_decade = (len(x) - 1) / float(x[-1] - x[0])
    return Valley(float(min(knee * per_decade / 4, edge / 8)), float(knee), edge, drop, noise, verdict)


def _drop_error(lrs: np.ndarray, losses: np.ndarray, lowest: int) -> float:
    """Return the standard error of the fall from the first losses to the average at `lowest`, by second differences up to there."""
    begun = max(2, len(losses) // 10)
    weights: np.ndarray = _kernel(lrs)[lowest]
    weights = weights / float(weights.sum())
    weights[:begun] -= 1 / begun
    some = losses[: max(lowest + 1, len(losses) // 3, 5)]
    bends = some[2:] - 2 * some[1:-1] + some[:-2]
    return math.sqrt(float(np.mean(bends**2)) / 6 * float(np.sum(weights**2))) if len(bends) else 0.0


def _kernel(lrs: np.ndarray) -> np.ndarray:
    """Return the weights of all losses in the average at each rate: a Gaussian of 0.15 decades, or of a point if they are wider apart."""
    x = np.log10(lrs)
    width = max(0.15, float(x[-1] - x[0]) / max(len(x) - 1, 1))
    return np.exp(-0.5 * ((x[:, None] - x[None, :]) / width) ** 2)


def _averaged(lrs: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Average losses over neighbouring rates."""
    weights = _kernel(lrs) * np.isfinite(losses)
    return weights @ np.where(np.isfinite(losses), losses, 0) / np.maximum(weights.sum(1), 1e-300)


def _crossing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """Return the x at which y first falls to a level, interpolated between its points."""
    k = int(np.argmax(y <= level))
    if k == 0:
        return float(x[0])
    return float(x[k - 1] + (x[k] - x[k - 1]) * (y[k - 1] - level) / (y[k - 1] - y[k]))


def best_ratio(curves: Sequence[LrCurve]) -> LrCurve:
    """Return the curve of the best of several ratios: the first (the rule of thumb) unless another falls clearly further.

    "Clearly" is by more than a tenth of the fall, and more than the noise of both, and with a confidence of at least one half. The curve
    records the falls of all.
    """
    if len(curves) == 1:
        return curves[0]
    thumb, *others = (combined(np.asarray(curve.lrs), np.asarray(curve.losses)) for curve in curves)
    best, most = curves[0], 0.0
    for curve, valley in zip(curves[1:], others, strict=True):
        further = valley.drop - thumb.drop
        if further > max(0.1 * thumb.drop, thumb.noise, valley.noise, most) and curve.confidence >= 0.5:
            best, most = curve, further
    falls = tuple((curve.ratio, valley.drop) for curve, valley in zip(curves, (thumb, *others), strict=True))
    return dataclasses.replace(best, falls=falls)


def suggest(lrs: list[float], smoothed: list[float], steps: int) -> dict[str, float]:
    """Apply the single rules to a smoothed curve without its first tenth and last five points (if enough are left).

    * valley: half-way through the longest falling subsequence;
    * steep: the steepest fall of the loss over log(rate);
    * minimum: a tenth of the rate at the lowest loss;
    * slide: from the right, the first point where the slope has settled (differs by at most 0.005 from 15 points earlier).

    Args:
        lrs: rates tried, in rising order.
        smoothed: smoothed losses; a tail that is not finite is dropped.
        steps: full length of the test, which decides the first tenth.

    Source: formulas of fastai 2's suggestion functions.
    """
    loss = np.asarray(smoothed, float)
    good = len(loss) if np.isfinite(loss).all() else int(np.argmin(np.isfinite(loss)))
    lr, loss = np.asarray(lrs, float)[: max(good, 1)], loss[: max(good, 1)]
    if len(loss) - 5 - steps // 10 >= 4:
        lr, loss = lr[steps // 10 : -5], loss[steps // 10 : -5]
    if len(loss) < 3:
        return dict.fromkeys(RULES[1:], float(lr[0]))
    slope = np.diff(loss) / np.diff(np.log(lr))
    return {
        "valley": float(lr[_valley(loss)]),
        "steep": float(lr[int(np.argmin(slope))]),
        "minimum": float(lr[int(np.argmin(loss))] / 10),
        "slide": float(lr[_slide(loss)]),
    }


def _valley(loss: np.ndarray) -> int:
    """Return the index about the middle of the longest strictly falling subsequence."""
    n = len(loss)
    longest = np.ones(n, int)
    for i in range(1, n):
        before = longest[:i][loss[:i] > loss[i]]
        longest[i] = 1 + (before.max() if len(before) else 0)
    end = int(np.argmax(longest))
    start = max(end - int(longest[end]), 0)
    third = (end - start) / 3
    return start + int(third) + int(third / 2)


_APART, _SETTLED = 15, 0.005  # fastai 2's


def _slide(loss: np.ndarray) -> int:
    """Return the index where, from the right, the slope differs by at most `_SETTLED` from the one `_APART` points to the left."""
    slope = np.gradient(loss)
    for right in range(len(loss) - 1, _APART - 1, -1):
        if abs(slope[right] - slope[right - _APART]) <= _SETTLED:
            return min(right - _APART + 1, len(loss) - 1)
    return 0
