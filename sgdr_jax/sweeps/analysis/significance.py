"""Whether a difference between runs is one: interval, tests, correction for many of them, and how many seeds would tell.

Runs are compared in pairs: what differs between the two runs of a pair (the same seed: same split, same first weights, same order) is the
ingredient alone, so a column of differences, one for each seed, is all that the functions below are given.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

_EXACT = 20_000
"""Up to this sum of net differences `mcnemar` counts all cases; beyond it the normal distribution is as good."""


class Change(NamedTuple):
    """How two networks' answers to the same examples differ.

    Attributes:
        gained: answers that only the first network has right, over all seeds.
        lost: answers that only the second has right.
        p: of the hypothesis that neither does better on examples like these.
    """

    gained: int
    lost: int
    p: float


# ---- over seeds ----


def interval(differences: Float[np.ndarray, "n k"], level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> np.ndarray:
    """Bootstrap interval of the mean of each column: expanded percentiles of the means of resamples.

    The percentiles are not (1 ∓ level) / 2 but Φ(∓√(n / (n - 1))·t), t that of Student's distribution with n - 1 degrees of freedom:
    plain percentiles are too narrow by just that for few seeds. Up to seven seeds all resamples are counted, else `resamples` are drawn.
    No resample leaves the range of the differences, so the interval covers 1 - 2^(1 - n) of the time at most: see `most_coverage`.

    Args:
        differences: one row for each seed, in any order.
        level: how often the interval is meant to hold the true mean, 0…1.
        resamples: number of them.
        seed: of the resamples; the same for all columns.

    Returns:
        [2, k], lower and upper ends; not a number for fewer than two seeds.

    Source: Hesterberg 2015, "What teachers should know about the bootstrap", section 3.2.

    >>> interval(np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])).round(2).ravel().tolist()
    [1.2, 4.8]
    """
    n, k = differences.shape
    if n < 2 or k == 0:
        return np.full((2, k), math.nan)
    share = special.ndtr(-math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, (1 + level) / 2))
    counts, weight = _resamples(n, resamples, seed)

    def lower(columns: np.ndarray) -> np.ndarray:
        means = counts @ np.sort(columns, axis=0) / n  # sorted, so that the order of the seeds does not matter
        order = np.argsort(means, axis=0)
        below = np.cumsum(weight[order], axis=0) < share
        return np.take_along_axis(means, np.take_along_axis(order, below.sum(axis=0, keepdims=True), axis=0), axis=0)[0]

    # The upper end mirrors the lower one: turning all signs turns the interval exactly.
    return np.stack([lower(differences), -lower(-differences)])


@functools.cache
def _resamples(n: int, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each of n values is in each resample, float [r, n], and how likely each resample is, [r]."""
    if n > 7:
        counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=number)
        return counts.astype(float), np.full(number, 1 / number)
    counts = np.array([np.bincount(which, minlength=n) for which in itertools.combinations_with_replacement(range(n), n)])
    return counts.astype(float), np.exp(special.gammaln(n + 1) - special.gammaln(counts + 1).sum(axis=1) - n * math.log(n))


def most_coverage(n: int) -> float:
    """How often the interval of `interval` can hold the true mean at best: 1 - 2^(1 - n), all n differences being on one side else.

    >>> most_coverage(5)
    0.9375
    """
    return 1 - 2.0 ** (1 - n)


def paired_t(differences: Float[np.ndarray, "n k"]) -> np.ndarray:
    """Two-sided p of Student's paired test for each column, [k]: t = mean / (sd / √n) with n - 1 degrees of freedom.

    1 for a column of zeros; not a number where it cannot be told: below two seeds, or all differences alike.
    """
    n = len(differences)
    if n < 2:
        return np.full(differences.shape[1], math.nan)
    mean, sd, most = differences.mean(axis=0), differences.std(axis=0, ddof=1), np.abs(differences).max(axis=0)
    alike = sd <= 1e-9 * most
    t = mean / np.where(alike, 1, sd) * math.sqrt(n)
    p = 2 * special.stdtr(n - 1, -np.abs(t))
    return np.where(most == 0, 1.0, np.where(alike, math.nan, p))


# ---- over examples ----


def mcnemar(first: Bool[np.ndarray, "seeds n"], second: Bool[np.ndarray, "seeds n"]) -> Change:
    """McNemar's test of two networks on the same examples, for several pairs of networks (seeds) at once.

    An example counts once, with the sum d of its differences over all seeds: the answers of differently seeded networks to one image
    are no independent trials. The hypothesis lets each d change its sign; p = P(|Σ ±d| ≥ |Σ d|), counted exactly. With one pair this
    is the exact binomial test on the discordant answers; where Σ |d| is over 20,000, the normal approximation of Durkalski et al.

    Args:
        first, second: whether each answer is right; row s of both belongs to one seed.

    Source: McNemar 1947; Durkalski, Palesch, Lipsitz & Rust 2003, "Analysis of clustered matched-pair data".

    >>> right, wrong = np.ones((1, 6), bool), np.zeros((1, 6), bool)
    >>> gained, lost, p = mcnemar(right, wrong)
    >>> gained, lost, round(p, 5)
    (6, 0, 0.03125)
    """
    gained, lost = first & ~second, second & ~first
    net = gained.sum(axis=0, dtype=np.int64) - lost.sum(axis=0, dtype=np.int64)
    return Change(int(gained.sum()), int(lost.sum()), _sign_flips(net[net != 0]))


def _sign_flips(net: Int[np.ndarray, " n"]) -> float:
    """P(|Σ ±d| ≥ |Σ d|) over all signs."""
    reached, most = abs(int(net.sum())), int(np.abs(net).sum())
    if reached == 0:
        return 1.0
    if most > _EXACT:
        return float(2 * special.ndtr(-reached / math.sqrt(float((net.astype(float) ** 2).sum()))))
    chance = np.ones(1)  # of the sums -most … most, in steps of one
    for size, count in zip(*np.unique(np.abs(net), return_counts=True), strict=True):
        plus = np.arange(count + 1)
        own = np.zeros(2 * size * count + 1)
        own[:: 2 * size] = np.exp(
            special.gammaln(count + 1) - special.gammaln(plus + 1) - special.gammaln(count - plus + 1) - count * math.log(2)
        )
        chance = np.convolve(chance, own)
    return min(float(2 * chance[most + reached :].sum()), 1.0)


# ---- over arms ----


def holm(p: Float[np.ndarray, " k"]) -> np.ndarray:
    """p values of k questions asked at once, corrected so that the chance of one or more false alarms stays what it says.

    The smallest is multiplied by k, the next by k - 1, and so on; none falls below one before it. What is not a number stays so and
    does not count.

    Source: Holm 1979.

    >>> holm(np.array([0.01, 0.04, np.nan, 0.03])).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    corrected = np.full(len(p), math.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


# ---- how many seeds ----


def power(effect: float, sd: float, n: int | Int[np.ndarray, " k"], alpha: float = 0.05) -> np.ndarray:
    """Chance that the two-sided paired t test at level `alpha` finds a true difference `effect` with n seeds.

    From Student's noncentral distribution with noncentrality effect·√n / sd.

    Args:
        effect: mean difference.
        sd: standard deviation of the differences, above 0.
        n: number of seeds, two or more.
        alpha: level of the test.
    """
    n = np.asarray(n)
    shift, limit = abs(effect) / sd * np.sqrt(n), special.stdtrit(n - 1, 1 - alpha / 2)
    below, beyond = (np.nan_to_num(special.nctdtr(n - 1, shift, x)) for x in (limit, -limit))  # no number where it is too small for one
    return 1 - below + beyond


def seeds_needed(effect: float, sd: float, alpha: float = 0.05, wanted: float = 0.8, most: int = 10_000) -> int | None:
    """Seeds with which the paired t test would find `effect` with probability `wanted`; None where `most` would not do, or sd is 0.

    >>> seeds_needed(0.01, 0.01)
    10
    """
    if not (sd > 0 and abs(effect) > 0) or power(effect, sd, most, alpha) < wanted:
        return None
    low, high = 1, most  # one seed is too few, and power rises with every other
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, sd, middle, alpha) >= wanted else (middle, high)
    return high


def detectable(sd: float, n: int, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """Smallest difference that the paired t test would find with probability `wanted`, given n seeds; not a number below two.

    >>> round(detectable(0.01, 10), 4)
    0.01
    """
    return _detectable(n, alpha, wanted) * sd if n > 1 else math.nan


@functools.cache
def _detectable(n: int, alpha: float, wanted: float) -> float:
    """The same in standard deviations."""
    low, high = 0.0, 1.0
    while power(high, 1.0, n, alpha) < wanted:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, 1.0, n, alpha) >= wanted else (middle, high)
    return high
