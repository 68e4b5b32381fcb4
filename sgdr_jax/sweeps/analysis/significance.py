"""Statistics of paired differences: bootstrap intervals, tests, correction for multiple testing, power.

Runs are compared in pairs of the same seed (same split, first weights and order of examples), which differ in the ingredient alone. Most
functions therefore take an array of differences, one row per seed and one column per comparison.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special, stats

_EXACT = 20_000
"""`mcnemar` counts all cases up to this sum of net differences; beyond it the normal approximation is as good."""


class Change(NamedTuple):
    """Differences between two networks' answers to the same examples.

    Attributes:
        gained: answers that only the first network has right, over all seeds.
        lost: answers that only the second has right, over all seeds.
        p: p value of the hypothesis that neither is better on such examples.
    """

    gained: int
    lost: int
    p: float


# ---- over seeds ----


def interval(differences: Float[np.ndarray, "n k"], level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> np.ndarray:
    """Compute a bootstrap interval of the mean of each column: expanded percentiles of the means of resamples.

    The percentiles are not (1 ∓ level) / 2 but Φ(∓√(n / (n - 1))·t), where t is a quantile of Student's distribution with n - 1 degrees of
    freedom; for few seeds plain percentiles are too narrow by just that factor. All resamples are enumerated up to seven seeds, `resamples`
    are drawn beyond. No resample leaves the range of the differences, so the coverage is at most 1 - 2^(1 - n), see `most_coverage`.

    Args:
        differences: one row per seed, in any order.
        level: nominal coverage, 0…1.
        resamples: number of resamples.
        seed: seed of the resamples; the same for all columns.

    Returns:
        Lower and upper ends, [2, k]; NaN for fewer than two seeds, and where all differences are equal but not 0, see `_vary`.

    Source: Hesterberg 2015, "What teachers should know about the bootstrap", section 3.2.

    Example:
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

    # The upper end mirrors the lower one, so that turning all signs turns the interval exactly.
    return np.where(_vary(differences), np.stack([lower(differences), 0.0 - lower(0.0 - differences)]), math.nan)


def t_interval(differences: Float[np.ndarray, "n k"], level: float = 0.95) -> np.ndarray:
    """Compute Student's interval of the mean of each column, mean ∓ t·s / √n, which takes the differences for normally distributed.

    Args:
        differences: one row per seed; NaN where a seed has none.
        level: coverage, 0…1.

    Returns:
        Lower and upper ends, [2, k]; NaN for fewer than two seeds, and where all differences are equal but not 0, see `_vary`.

    Example:
        >>> t_interval(np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])).round(2).ravel().tolist()
        [1.04, 4.96]
    """
    known = ~np.isnan(differences)
    n = known.sum(axis=0)
    several = (n > 1) & _vary(differences)
    half, mean = np.full((2, len(n)), math.nan)
    spread = np.nanstd(differences[:, several], axis=0, ddof=1)
    half[several] = special.stdtrit(n[several] - 1, (1 + level) / 2) * spread / np.sqrt(n[several])
    mean[several] = np.nanmean(differences[:, several], axis=0)
    return np.stack([mean - half, mean + half])


def _vary(differences: Float[np.ndarray, "n k"]) -> Bool[np.ndarray, " k"]:
    """Return whether the differences of each column show how they vary, or are all 0; rounding apart.

    Accuracies are multiples of 1 / images, so two or three seeds often differ by the same amount, which is no sign of certainty.
    """
    largest = np.abs(np.nan_to_num(differences)).max(axis=0)
    spread = np.nanmax(np.nan_to_num(differences, nan=-np.inf), axis=0) - np.nanmin(np.nan_to_num(differences, nan=np.inf), axis=0)
    return (spread > 1e-9 * largest) | (largest == 0)


@functools.cache
def _resamples(n: int, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute how often each of n values occurs in each resample, float [r, n], and the probability of each resample, [r]."""
    shares = np.full(n, 1 / n)
    if n > 7:
        counts = np.random.default_rng(seed).multinomial(n, shares, size=number)
        return counts.astype(float), np.full(number, 1 / number)
    counts = np.array([np.bincount(drawn, minlength=n) for drawn in itertools.combinations_with_replacement(range(n), n)])
    return counts.astype(float), stats.multinomial.pmf(counts, n, shares)


def most_coverage(n: int) -> float:
    """Return the highest possible coverage of `interval`, 1 - 2^(1 - n): all n differences may lie on one side of the true mean.

    Example:
        >>> most_coverage(5)
        0.9375
    """
    return 1 - 2.0 ** (1 - n)


def paired_t(differences: Float[np.ndarray, "n k"]) -> np.ndarray:
    """Compute the two-sided p value of the paired t test for each column, [k].

    Returns 1 for a column of zeros, and NaN below two seeds or where all differences are equal.
    """
    if len(differences) < 2:
        return np.full(differences.shape[1], math.nan)
    largest = np.abs(differences).max(axis=0)
    p = np.where(largest == 0, 1.0, math.nan)
    varied = _vary(differences) & (largest > 0)
    _, p[varied] = stats.ttest_1samp(differences[:, varied], 0)
    return p


# ---- over examples ----


def mcnemar(first: Bool[np.ndarray, "seeds n"], second: Bool[np.ndarray, "seeds n"]) -> Change:
    """Apply McNemar's test to two networks on the same examples, over several seeds at once.

    An example counts once, with the sum d of its differences over all seeds: the answers of differently seeded networks to one image are
    not independent. The null hypothesis lets each d change its sign; p = P(|Σ ±d| ≥ |Σ d|), exactly. With one seed this is the exact
    binomial test on the discordant answers. Where Σ |d| exceeds 20,000, the normal approximation of Durkalski et al. is used.

    Args:
        first: whether each answer of the first network is right; one row per seed.
        second: the same for the second network, with the same seeds.

    Source: McNemar 1947; Durkalski, Palesch, Lipsitz & Rust 2003, "Analysis of clustered matched-pair data".

    Example:
        >>> right, wrong = np.ones((1, 6), bool), np.zeros((1, 6), bool)
        >>> gained, lost, p = mcnemar(right, wrong)
        >>> gained, lost, round(p, 5)
        (6, 0, 0.03125)
    """
    gained, lost = first & ~second, second & ~first
    net = gained.sum(axis=0, dtype=np.int64) - lost.sum(axis=0, dtype=np.int64)
    return Change(int(gained.sum()), int(lost.sum()), _sign_flips(net[net != 0]))


def _sign_flips(net: Int[np.ndarray, " n"]) -> float:
    """Compute P(|Σ ±d| ≥ |Σ d|) over all signs."""
    reached, most = abs(int(net.sum())), int(np.abs(net).sum())
    if reached == 0:
        return 1.0
    if most > _EXACT:
        return float(2 * special.ndtr(-reached / math.sqrt(float((net.astype(float) ** 2).sum()))))
    sizes, counts = np.unique(np.abs(net), return_counts=True)
    if sizes.tolist() == [1]:
        return float(stats.binomtest((most + reached) // 2, most).pvalue)
    chance = np.ones(1)  # of the sums -most … most, in steps of one
    for size, count in zip(sizes, counts, strict=True):
        of_size = np.zeros(2 * size * count + 1)
        of_size[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chance = np.convolve(chance, of_size)
    return min(float(2 * chance[most + reached :].sum()), 1.0)


# ---- over arms ----


def holm(p: Float[np.ndarray, " k"]) -> np.ndarray:
    """Correct k p values for multiple testing, so that the chance of one or more false alarms stays at the level.

    The smallest is multiplied by k, the next by k - 1, and so on, and none falls below the one before it. NaNs stay and do not count.

    Source: Holm 1979.

    Example:
        >>> holm(np.array([0.01, 0.04, np.nan, 0.03])).tolist()
        [0.03, 0.06, nan, 0.06]
    """
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    corrected = np.full(len(p), math.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


# ---- how many seeds ----


def pilot_seeds(std: float, pilot: int, half_width: float, level: float = 0.95) -> int:
    """Return the number of seeds, the pilot's included, after which `pilot_half_width` is at most `half_width`: max(n0, ⌈(t·s / d)²⌉).

    Args:
        std: standard deviation s of the pilot's differences.
        pilot: number n0 of the pilot's seeds, two or more.
        half_width: largest distance d of either end of the interval from the mean.
        level: coverage of the interval.

    Source: Stein 1945.

    Example:
        >>> pilot_seeds(0.8, 5, 0.5)
        20
    """
    return max(pilot, math.ceil((_quantile(pilot, level) * std / half_width) ** 2))


def pilot_half_width(std: float, pilot: int, n: int, level: float = 0.95) -> float:
    """Return the half-width t·s / √n of Stein's interval; t has n0 - 1 degrees of freedom, see `pilot_seeds`.

    Its coverage is `level` for normally distributed differences if n depends on nothing but the pilot's spread.

    Example:
        >>> round(pilot_half_width(0.8, 5, 20), 3)
        0.497
    """
    return _quantile(pilot, level) * std / math.sqrt(n)


def _quantile(pilot: int, level: float) -> float:
    return float(special.stdtrit(pilot - 1, (1 + level) / 2))


def power(effect: float, sd: float, n: int | Int[np.ndarray, " k"], alpha: float = 0.05) -> np.ndarray:
    """Compute the power of the two-sided paired t test, from the noncentral t distribution with noncentrality effect·√n / sd.

    Args:
        effect: true mean difference.
        sd: standard deviation of the differences, above 0.
        n: number of seeds, two or more.
        alpha: level of the test.
    """
    n = np.asarray(n)
    shift, limit = abs(effect) / sd * np.sqrt(n), special.stdtrit(n - 1, 1 - alpha / 2)
    below, beyond = (np.nan_to_num(special.nctdtr(n - 1, shift, x)) for x in (limit, -limit))  # NaN where it underflows
    return 1 - below + beyond


POWER = 0.8
"""Power that is wanted of a test, by custom: one difference in five is missed."""
MOST_SEEDS = 10_000
"""Seeds above which a difference is too small to be settled by more of them."""


def seeds_needed(effect: float, sd: float, alpha: float = 0.05) -> int | None:
    """Return the number of seeds at which the paired t test has `POWER`; None where `MOST_SEEDS` are too few or sd is 0 or rounding.

    Example:
        >>> seeds_needed(0.01, 0.01)
        10
    """
    if not sd > 1e-9 * abs(effect) > 0 or power(effect, sd, MOST_SEEDS, alpha) < POWER:
        return None
    candidates = range(2, MOST_SEEDS + 1)  # Power rises with the number of seeds.
    return candidates[bisect.bisect_left(candidates, POWER, key=lambda n: float(power(effect, sd, n, alpha)))]


def detectable(sd: float, n: int, alpha: float = 0.05) -> float:
    """Return the smallest difference at which the paired t test with n seeds has `POWER`; NaN below two seeds.

    Example:
        >>> round(detectable(0.01, 10), 4)
        0.01
    """
    return _detectable(n, alpha) * sd if n > 1 else math.nan


@functools.cache
def _detectable(n: int, alpha: float) -> float:
    """Compute `detectable` in standard deviations."""
    low, high = 0.0, 1.0
    while power(high, 1.0, n, alpha) < POWER:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, 1.0, n, alpha) >= POWER else (middle, high)
    return high
