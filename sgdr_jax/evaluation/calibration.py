"""Calibration error, temperature scaling and results per class, in NumPy and float64.

An event is: for single-label images, that the likeliest class is the true one; for multi-label data, each class of each image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from . import metrics

BINS = 15
"""Bins of equal width over the probabilities 0…1. Source: Guo et al. 2017."""
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""Range of fitted temperatures."""


class Reliability(NamedTuple):
    """Reliability diagram: observed frequency against predicted confidence, per bin; bin i of k covers (i/k, (i+1)/k].

    Attributes:
        count: number of events in each bin, int64 [bins].
        confidence: their mean predicted probability, float64 [bins]; NaN in empty bins.
        frequency: share of them that occurred, float64 [bins]; NaN in empty bins.
    """

    count: np.ndarray
    confidence: np.ndarray
    frequency: np.ndarray

    @property
    def by_chance(self) -> float:
        """Calibration error to expect of a perfectly calibrated network: Σ √(2/π · c_i (1 - c_i) · count_i) / n, for confidences c_i.

        It is the mean of |frequency_i - c_i| where the frequency of each bin is normally distributed.
        """
        filled = self.count > 0
        count, c = self.count[filled], self.confidence[filled]
        return float(np.sqrt(2 / np.pi * c * (1 - c) * count).sum() / self.count.sum())

    @property
    def error(self) -> float:
        """Expected calibration error: Σ count_i / n · |frequency_i - confidence_i|, in 0…1. Source: Naeini et al. 2015."""
        filled = self.count > 0
        gaps = np.abs(self.frequency[filled] - self.confidence[filled])
        return float((self.count[filled] / self.count.sum() * gaps).sum())


def reliability(probabilities: Float[np.ndarray, "n k"], labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Compute the reliability diagram of predictions.

    Args:
        probabilities: [n, k]; rows sum to 1 unless the labels are multi-label.
        labels: int [n], or float [n, k] of zeros and ones.
        bins: at least 1.

    >>> reliability(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0])).error.__round__(3)
    0.4
    """
    p, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if labels.ndim == 2:
        confidence, frequency = p.ravel(), (labels > 0.5).ravel()
    else:
        confidence, frequency = p.max(axis=1), p.argmax(axis=1) == labels
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, values, minlength=bins) / count for values in (confidence, frequency)]
    return Reliability(count, *means)


def apply_temperature(logits: Float[np.ndarray, "n k"], temperature: float, multi_label: bool = False) -> Float[np.ndarray, "n k"]:
    """Return the probabilities at a temperature T: softmax(z / T) of logits z, or sigmoid(z / T) for multi-label data; float64.

    The ranking is unchanged; T > 1 lowers the confidence.

    >>> apply_temperature(np.log([[0.8, 0.2]]), 2.0).round(4)
    array([[0.6667, 0.3333]])
    """
    return metrics.squash(np.asarray(logits, np.float64) / temperature, multi_label)


def fit_temperature(logits: Float[np.ndarray, "n k"], labels: np.ndarray) -> float:
    """Fit the temperature with the lowest loss on these labels; NaN if it lies outside `MIN_TEMPERATURE`…`MAX_TEMPERATURE`.

    If every image is classified correctly, the loss keeps falling as the temperature goes to 0, so none can be fitted. Where all classes
    are equally likely for every image (for multi-label data 1/2), no temperature changes the loss, and none is fitted either.

    The loss is convex in 1/T, and the root of its slope is found by bisection. The slope is Σ_n ⟨z⟩ - z_true over images,
    with ⟨z⟩ the mean of the logits z under softmax(z / T).
    Use images that were not trained on. Source: Guo et al. 2017.

    Args:
        logits: [n, k], n ≥ 1.
        labels: int [n], or float [n, k] of zeros and ones.
    """
    labels = np.asarray(labels)
    multi_label, z = labels.ndim == 2, np.asarray(logits, np.float64)
    if not multi_label:
        z = z - z.max(axis=1, keepdims=True)  # so that the slope of equal logits is exactly 0

    def slope(inverse: float) -> float:
        p = metrics.squash(inverse * z, multi_label)
        wrong = p - labels if multi_label else p - (np.arange(z.shape[1]) == labels[:, None])
        return float((wrong * z).sum())

    low, high = np.log(1 / MAX_TEMPERATURE), np.log(1 / MIN_TEMPERATURE)
    if slope(np.exp(high)) <= 0 or slope(np.exp(low)) >= 0:
        return float("nan")
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


class ClassResult(NamedTuple):
    """Results of one class; shares are NaN where undefined.

    Attributes:
        images: number of images of the class.
        predicted: number of images predicted as the class.
        precision: share of the predicted images that are of the class.
        recall: share of the images of the class that are predicted as it.
        f1: 2 · hits / (images + predicted).
        average: mean probability of the class on its own images.
        confused_with: class that most of its misclassified images are predicted as, and their number; None if there are none, and for
            multi-label data.
    """

    images: int
    predicted: int
    precision: float
    recall: float
    f1: float
    average: float
    confused_with: tuple[int, int] | None


def class_results(probabilities: Float[np.ndarray, "n k"], labels: np.ndarray, threshold: float = 0.5) -> list[ClassResult]:
    """Compute the results of each class, in label order; a multi-label class is predicted above the threshold.

    >>> class_results(np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]), np.array([0, 1, 1]))[1]
    ClassResult(images=2, predicted=1, precision=1.0, recall=0.5, f1=0.6666666666666666, average=0.55, confused_with=(0, 1))
    """
    above = np.asarray(probabilities) > threshold
    p, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if labels.ndim == 2:
        return tally_classes(labels > 0.5, above, np.where(labels > 0.5, p, 0).sum(axis=0))
    own = np.take_along_axis(p, labels[:, None], axis=1)[:, 0]
    return tally_classes(labels, p.argmax(axis=1), np.bincount(labels, own, p.shape[1]))


def tally_classes(labels: np.ndarray, predicted: np.ndarray, mass: Float[np.ndarray, " k"]) -> list[ClassResult]:
    """Compute the results of each class from decisions.

    Args:
        labels: true classes, int [n]; or bool [n, k].
        predicted: alike.
        mass: sum over each class's own images of its probability, [k]; NaN where it is not known.
    """
    k = len(mass)
    if labels.ndim == 2:
        counts, missed = ((labels & predicted).sum(axis=0), labels.sum(axis=0), predicted.sum(axis=0)), None
    else:
        table = metrics.confusion(labels, predicted, k)
        counts, missed = (table.diagonal(), table.sum(axis=1), table.sum(axis=0)), table * (1 - np.eye(k, dtype=np.int64))
    rows = []
    for c, (hits, images, positives, own) in enumerate(zip(*(column.tolist() for column in (*counts, mass)), strict=True)):
        worst = None if missed is None or not missed[c].any() else (int(missed[c].argmax()), int(missed[c].max()))
        shares = _share(hits, positives), _share(hits, images), _share(2 * hits, images + positives), _share(own, images)
        rows.append(ClassResult(images, positives, *shares, worst))
    return rows


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
