"""Multi-label predictions: average precision, and the threshold above which a class is predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from .metrics import ThresholdRecord, f_beta

DEFAULT_THRESHOLD = 0.5
"""Threshold of runs that have fitted none."""


def average_precision(scores: Float[np.ndarray, "n k"], labels: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """Compute the average precision of each class: Σ_t (R_t - R_{t-1})·P_t over the distinct scores t from the highest down.

    P_t and R_t are the precision and recall of the images whose score is at least t. Source: `average_precision_score` of scikit-learn.

    Args:
        scores: any that rank the images.
        labels: zeros and ones.

    Returns:
        float64, NaN for a class without an image.

    >>> average_precision(np.array([[0.9], [0.8], [0.7]]), np.array([[1.0], [0.0], [1.0]])).round(4)
    array([0.8333])
    """
    by_class = np.full(scores.shape[1], np.nan)
    for c in np.flatnonzero(labels.any(axis=0)).tolist():
        order = np.argsort(-scores[:, c], kind="stable")
        ranked, hits = scores[order, c], np.cumsum(labels[order, c], dtype=np.float64)
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of equal scores
        precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
        by_class[c] = (np.diff(recall, prepend=0) * precision).sum()
    return by_class


def mean_average_precision(scores: Float[np.ndarray, "n k"], labels: Float[np.ndarray, "n k"]) -> float:
    """Compute the mean of `average_precision` over the classes that vary (macro average); NaN if none does.

    A class that no image has, has no average precision; one that every image has, has 1, however it is scored.
    """
    by_class = np.where(labels.all(axis=0), np.nan, average_precision(scores, labels))
    return float(np.nanmean(by_class)) if not np.isnan(by_class).all() else math.nan


def map_of(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return {"map": the mean average precision} for multi-label data of which a class varies, else {}."""
    value = mean_average_precision(scores, labels) if labels.ndim == 2 else math.nan
    return {} if math.isnan(value) else {"map": value}


def fit_threshold(probabilities: Float[np.ndarray, "n k"], labels: Float[np.ndarray, "n k"], beta: float = 2.0) -> float:
    """Return the threshold, one for all classes, with the highest mean F-beta over images; of equal ones the highest.

    It lies midway between two neighbouring probabilities. All are tried: as the threshold falls past a probability, one image predicts one
    class more, and its score becomes (1+β²)·tp / (β²·p + j), with j predicted and p true classes.

    Args:
        probabilities: of images that were not trained on, n ≥ 1.
        labels: zeros and ones.
        beta: weight of recall against precision, see `metrics.f_beta`.

    >>> round(fit_threshold(np.array([[0.9, 0.4, 0.1], [0.6, 0.2, 0.3]]), np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])), 4)
    0.35
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    hits = np.cumsum(np.take_along_axis(labels, order, axis=1), axis=1, dtype=np.float64)
    true, predicted = labels.sum(axis=1, dtype=np.float64, keepdims=True), np.arange(1, labels.shape[1] + 1)
    scores = np.concatenate([true == 0, (1 + beta**2) * hits / (beta**2 * true + predicted)], axis=1)
    falling = np.argsort(-ranked, axis=None, kind="stable")
    levels = ranked.reshape(-1)[falling]
    last = np.append(levels[1:] != levels[:-1], True)  # of equal probabilities, all of which pass together
    totals = scores[:, 0].sum() + np.append(0.0, np.cumsum(np.diff(scores, axis=1).reshape(-1)[falling])[last])
    levels = np.concatenate([[np.ones((), levels.dtype)], levels[last], [np.zeros((), levels.dtype)]])
    totals[levels[:-1] == 0] = -1  # no threshold is below 0
    best = int(np.round(totals, 9).argmax())  # rounded, so that the order of the additions decides nothing
    above, below = levels[best], levels[best + 1]
    middle = (above + below) / 2
    return float(middle if below < middle < above else below)


def mean_f_beta(probabilities: np.ndarray, labels: np.ndarray, beta: float, threshold: float) -> float:
    """Return the mean F-beta over images at a threshold."""
    return float(np.mean(f_beta(probabilities, labels, beta, threshold), dtype=np.float64))


def fit_thresholds(kinds: Mapping[str, np.ndarray], labels: np.ndarray, beta: float) -> ThresholdRecord:
    """Return the thresholds that are the best for these images, without figures yet.

    Args:
        kinds: probabilities from the plain view ("plain") and, if there are several, of all views mixed ("tta").
        labels: zeros and ones.
        beta: as for `fit_threshold`.
    """
    *plain, final = (fit_threshold(p, labels, beta) for p in kinds.values())
    record: ThresholdRecord = {"value": final, "beta": beta, "f_beta": {}}
    if plain:  # a mixture is nearer to the middle, or higher for the mean "max"
        record["plain"] = plain[0]
    return record


def thresholds_of(record: ThresholdRecord | None) -> dict[str, float]:
    """Return the thresholds that a run has recorded for the plain view ("plain") and for all views mixed ("tta"); {} for none.

    Runs of earlier versions have one for both.
    """
    return {"plain": record.get("plain", record["value"]), "tta": record["value"]} if record else {}
