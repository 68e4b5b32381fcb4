"""Whether probabilities mean what they say: calibration error, temperature, and the results of each class. NumPy in float64.

What counts as an event: for images of one class that the likeliest class is the true one; for multi-label data each class of each image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from . import metrics

BINS = 15
"""Bins of equal width over the probabilities 0…1. Source: Guo et al. 2017."""
COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures are sought between these."""


class Reliability(NamedTuple):
    """What happened when so much was promised, by bins of the promised probability: bin i of k holds those in (i/k, (i+1)/k].

    Attributes:
        count: number of events in each bin, int64 [bins].
        promised: their mean probability, float64 [bins]; NaN in empty bins.
        happened: share of them that came true, float64 [bins]; NaN in empty bins.
    """

    count: np.ndarray
    promised: np.ndarray
    happened: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: Σ count_i / n · |happened_i - promised_i|, in 0…1. Source: Naeini et al. 2015."""
        filled = self.count > 0
        gaps = np.abs(self.happened[filled] - self.promised[filled])
        return float((self.count[filled] / self.count.sum() * gaps).sum())


def reliability(probabilities: Float[np.ndarray, "n k"], labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Promised and observed frequencies.

    Args:
        probabilities: [n, k]; rows add up to 1 unless the labels are multi-label.
        labels: int [n], or float [n, k] of zeros and ones.
        bins: at least 1.

    >>> reliability(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0])).error.__round__(3)
    0.4
    """
    p, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if labels.ndim == 2:
        promised, happened = p.ravel(), (labels > 0.5).ravel()
    else:
        promised, happened = p.max(axis=1), p.argmax(axis=1) == labels
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], promised)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, values, minlength=bins) / count for values in (promised, happened)]
    return Reliability(count, *means)


def scaled(probabilities: Float[np.ndarray, "n k"], temperature: float, multi_label: bool = False) -> Float[np.ndarray, "n k"]:
    """softmax(log p / T), or sigmoid(logit p / T) for multi-label data: the same ranking, less sure of itself for T > 1. float64.

    >>> scaled(np.array([[0.8, 0.2]]), 2.0).round(4)
    array([[0.6667, 0.3333]])
    """
    z = metrics.log_odds(probabilities, multi_label) / temperature
    if multi_label:
        return 0.5 * (1 + np.tanh(0.5 * z))
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def fit_temperature(probabilities: Float[np.ndarray, "n k"], labels: np.ndarray) -> float:
    """The temperature at which the probabilities have the lowest loss on these labels; 1 where that is not within `COLDEST`…`HOTTEST`.

    Where every image is right the loss falls for ever as the temperature does: such images cannot tell how sure one may be.

    The loss is convex in 1/T, so its slope is bisected: Σ_n ⟨z⟩ - z_true over images, ⟨z⟩ the mean of z = log p under softmax(z / T).
    Fit it on images that trained nothing. Source: Guo et al. 2017.

    Args:
        probabilities: [n, k], n ≥ 1; as for `reliability`.
        labels: int [n], or float [n, k] of zeros and ones.
    """
    labels = np.asarray(labels)
    multi_label = labels.ndim == 2
    z = metrics.log_odds(probabilities, multi_label)

    def slope(inverse: float) -> float:
        p = scaled(probabilities, 1 / inverse, multi_label)
        wrong = p - labels if multi_label else p - (np.arange(z.shape[1]) == labels[:, None])
        return float((wrong * z).sum())

    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    if slope(np.exp(high)) < 0 or slope(np.exp(low)) > 0:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


class ClassResult(NamedTuple):
    """How one class fared.

    Attributes:
        images: that have it.
        predicted: images that were said to have it.
        precision: share of those that do; NaN where none was.
        recall: share of its images that were said to; NaN where there are none.
        f1: 2 · hits / (images + predicted); NaN where both are 0.
        average: mean probability of the class on its own images; NaN where there are none.
        taken_for: index of the class that most of its missed images were said to be, and how many were; None where none was missed,
            and for multi-label data.
    """

    images: int
    predicted: int
    precision: float
    recall: float
    f1: float
    average: float
    taken_for: tuple[int, int] | None


def by_class(probabilities: Float[np.ndarray, "n k"], labels: np.ndarray) -> list[ClassResult]:
    """The results of each class, in label order; a multi-label class is predicted above a probability of one half.

    >>> by_class(np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]), np.array([0, 1, 1]))[1]
    ClassResult(images=2, predicted=1, precision=1.0, recall=0.5, f1=0.6666666666666666, average=0.55, taken_for=(0, 1))
    """
    p, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    k = p.shape[1]
    classes = np.arange(k)
    true = labels > 0.5 if labels.ndim == 2 else labels[:, None] == classes
    said = p > 0.5 if labels.ndim == 2 else p.argmax(axis=1)[:, None] == classes
    counts = (true & said).sum(axis=0), true.sum(axis=0), said.sum(axis=0), np.where(true, p, 0).sum(axis=0)
    missed = None if labels.ndim == 2 else metrics.confusion(labels, p.argmax(axis=1), k) * (1 - np.eye(k, dtype=np.int64))
    rows = []
    for c, (hits, images, predicted, mass) in enumerate(zip(*(column.tolist() for column in counts), strict=True)):
        worst = None if missed is None or not missed[c].any() else (int(missed[c].argmax()), int(missed[c].max()))
        shares = _share(hits, predicted), _share(hits, images), _share(2 * hits, images + predicted), _share(mass, images)
        rows.append(ClassResult(images, predicted, *shares, worst))
    return rows


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
