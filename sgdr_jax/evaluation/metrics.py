"""Losses and metrics as mergeable weighted sums: every example counts once, and sums are divided once, at the end.

The same code runs on the device (jax arrays, inside jit) and on the host (NumPy, any precision), using the array namespace of its
arguments. Labels are integers [b] (one class each: softmax), floats [b, k] of zeros and ones (multi-label: one sigmoid per class), or a
mixture of two such labels if images were mixed (MixUp, CutMix): losses and metrics are then weighted means of those for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

import numpy as np
from jaxtyping import Float, Int

from .predictions import ExamplePredictions

if TYPE_CHECKING:
    import jax

type Array = np.ndarray | jax.Array
"""An array on the host or on the device, also a tracer."""

TOP = 5
"""An example counts in "top5", a measure of data with more classes than this, if fewer than this many score above the true one."""
F2_THRESHOLD = 0.2
"""Probability above which F2 counts a class as predicted before a threshold is fitted; low, since F2 penalises a missed class more than a
wrong one."""


class EvalMetrics(TypedDict, total=False):
    """Metrics of a split: of the plain view, and as "tta_…" of all test-time views mixed.

    Data of more than `TOP` classes have top5, multi-label data f2 and map in place of it. `f2` is at the fixed threshold
    `F2_THRESHOLD`, `map` the mean average precision; `ThresholdRecord` has what the run's own threshold gives.
    """

    loss: float
    accuracy: float
    top5: float
    f2: float
    map: float
    ece: float
    tta_loss: float
    tta_accuracy: float
    tta_top5: float
    tta_f2: float
    tta_map: float
    tta_ece: float


def judged_by(figures: Mapping[str, Any]) -> str:
    """Return the name of the measure that networks are compared by: accuracy, or for multi-label data the mean average precision.

    The share of labels that are right says little where most are absent: a network that predicts none has nearly all. Average precision
    needs no threshold; F2 at a fixed one takes its place where each class has all images or none.

    Args:
        figures: as in `EvalMetrics`.

    Example:
        >>> judged_by({"loss": 0.2, "accuracy": 0.93, "f2": 0.61, "map": 0.72})
        'map'
    """
    return next((name for name in ("map", "f2") if name in figures), "accuracy")


SCORE_NAMES = {"accuracy": "accuracy", "map": "mAP", "f2": "F2"}
"""Names for people of what `judged_by` returns."""


FIXED_THRESHOLDS = {"accuracy": 0.5, "f2": F2_THRESHOLD}
"""Probabilities above which `sums` counts a class of multi-label data as predicted, by measure; a run fits one of its own."""


def measure_title(name: str, figures: Mapping[str, Any]) -> str:
    """Return the name for people of a measure, one of `figures`; those of multi-label data with their fixed threshold.

    >>> measure_title("accuracy", {"accuracy": 0.93}), measure_title("accuracy", {"accuracy": 0.93, "f2": 0.61})
    ('accuracy', 'accuracy at 0.5')
    """
    return f"{name} at {FIXED_THRESHOLDS[name]:g}" if "f2" in figures and name in FIXED_THRESHOLDS else name


class CalibrationMetrics(TypedDict):
    """Temperature of a kind of view, and the metrics after it is applied; NaN where none could be fitted."""

    temperature: float
    ece: float
    loss: float


class ThresholdRecord(TypedDict):
    """Probability above which a run predicts a class, fitted to the validation images for F-beta.

    `value` is for the final probabilities, those of all views mixed if there are several, `plain` then for those of the plain view alone.
    `f_beta` holds the mean F-beta over the images of each split, of the final probabilities.
    """

    value: float
    beta: float
    f_beta: dict[str, float]
    plain: NotRequired[float]


class Mixed(NamedTuple):
    """Labels of images that are mixtures of two.

    Attributes:
        own: int [b] or float [b, k].
        other: of the image mixed in, alike.
        share: float [b] in 0…1, the weight of `own`; of labels of unequal weight the share of the weight, not of the image.
        weight: float [b], above 0, mean weight of the two labels by their shares of the image, a factor of the example's weight in
            training (`steps.TrainStep`).
    """

    own: Array
    other: Array
    share: Array
    weight: Array


def losses(logits: Array, labels: Array | Mixed, label_smoothing: Array | float = 0.0) -> Array:
    """Compute the loss of each example.

    It is -Σ_c t_c·log softmax(logits)_c, or the mean over classes of the binary cross-entropy for multi-label data.

    Targets are smoothed by s = `label_smoothing`: t = (1-s)·onehot + s/k, and (1-s)·t + s/2 for multi-label data.
    Source: Szegedy et al. 2016.

    Args:
        logits: float [b, k].
        labels: int [b] in 0…k-1, or float [b, k] of zeros and ones, or `Mixed` of either: the loss is linear in the targets, so
            the loss of a mixture is the mixture of the losses.
        label_smoothing: a number or scalar array in 0…1, below 1.

    Returns:
        float [b], in the precision of the logits.

    >>> losses(np.log([[0.25, 0.75]]), np.array([1])).round(4)
    array([0.2877])
    """
    if isinstance(labels, Mixed):
        own, other = (losses(logits, part, label_smoothing) for part in labels[:2])
        return labels.share * own + (1 - labels.share) * other
    xp = logits.__array_namespace__()
    if labels.ndim == 2:
        targets = labels.astype(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
        return (xp.maximum(logits, 0) - logits * targets + xp.log1p(xp.exp(-xp.abs(logits)))).mean(axis=1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))
    hit = xp.arange(logits.shape[1], dtype=labels.dtype) == labels[:, None]
    loss = -xp.where(hit, log_p, 0).sum(axis=1)
    return (1 - label_smoothing) * loss - label_smoothing * log_p.mean(axis=1)


def _ranks(logits: Array, labels: Array) -> Array:
    """Count the classes ranked before the true one, [b]; the lower index wins ties, as in argmax, and NaN ranks before all."""
    xp = logits.__array_namespace__()
    index = xp.arange(logits.shape[1], dtype=labels.dtype)
    own = xp.take_along_axis(logits, labels[:, None], axis=1)
    behind = (logits < own) | ((logits == own) & (index >= labels[:, None]))
    return (~behind).sum(axis=1)


def f_beta(probabilities: Array, labels: Array, beta: float = 2.0, threshold: float = F2_THRESHOLD) -> Array:
    """Compute the F-beta score of each example: (1+β²)·tp / ((1+β²)·tp + β²·fn + fp) over its classes; 1 if none is true or predicted.

    Args:
        probabilities: float [n, k].
        labels: float [n, k] of zeros and ones.
        beta: weight of recall against precision; 2 is the measure of Kaggle's "Planet" competition.
        threshold: classes with a probability above this are predicted.

    Returns:
        float [n]; its mean is the score of the set.

    >>> f_beta(np.array([[0.9, 0.3, 0.1]]), np.array([[1.0, 0.0, 1.0]]))
    array([0.5])
    """
    xp = probabilities.__array_namespace__()
    predicted = (probabilities > threshold).astype(probabilities.dtype)
    true = labels.astype(probabilities.dtype)
    hits = (1 + beta**2) * (predicted * true).sum(axis=1)
    whole = hits + beta**2 * ((1 - predicted) * true).sum(axis=1) + (predicted * (1 - true)).sum(axis=1)
    return xp.where(whole > 0, hits / xp.where(whole > 0, whole, 1), 1)


def sums(logits: Array, labels: Array | Mixed, weight: Array, label_smoothing: Array | float = 0.0) -> dict[str, Array]:
    """Compute weighted sums over a batch, to be added over batches and divided once by `finish`.

    Args:
        logits: float [b, k].
        labels: int [b], or float [b, k] of zeros and ones, or `Mixed`: then each sum is the weighted mean of those for both labels.
        weight: float [b], 1 for an example and 0 for padding, whose values (even NaN) do not enter the sums.
        label_smoothing: as in `losses`; 0 for evaluation.

    Returns:
        "weight", "loss", "correct", and "top5" if k > `TOP` or, for multi-label data, "f2" (threshold 0.2), each a scalar in the precision
        of the logits. "correct" counts examples whose highest logit is the true class; for multi-label data it sums the share of an
        example's classes predicted correctly at a threshold of one half.
    """
    xp, values = logits.__array_namespace__(), _values(logits, labels, label_smoothing)
    weight = weight.astype(logits.dtype)
    return {"weight": weight.sum()} | {name: (xp.where(weight > 0, value, 0) * weight).sum() for name, value in values.items()}


def _values(logits: Array, labels: Array | Mixed, label_smoothing: Array | float) -> dict[str, Array]:
    """Compute the terms of `sums` for each example, [b]."""
    if isinstance(labels, Mixed):
        own, other = (_values(logits, part, label_smoothing) for part in labels[:2])
        return {name: labels.share * own[name] + (1 - labels.share) * other[name] for name in own}
    xp = logits.__array_namespace__()
    values = {"loss": losses(logits, labels, label_smoothing)}
    if labels.ndim == 2:
        values["correct"] = ((logits > 0) == (labels > 0.5)).astype(logits.dtype).mean(axis=1)
        values["f2"] = f_beta(0.5 * (1 + xp.tanh(0.5 * logits)), labels)
    else:
        rank = _ranks(logits, labels)
        values["correct"] = (rank < 1).astype(logits.dtype)
        if logits.shape[1] > TOP:
            values["top5"] = (rank < TOP).astype(logits.dtype)
    return values


def merge(parts: Iterable[Mapping[str, Array | float]]) -> dict[str, float]:
    """Add the sums of several batches on the host, in float64.

    >>> merge([{"weight": 1.0, "loss": 0.5}, {"weight": 2.0, "loss": 0.25}])
    {'weight': 3.0, 'loss': 0.75}
    """
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + float(value)
    return total


def finish(sums: Mapping[str, Array | float]) -> dict[str, float]:
    """Divide sums into means, in float64; "correct" becomes "accuracy".

    Raises:
        ValueError: if no example was counted.

    >>> finish({"weight": 4, "loss": 2.0, "correct": 3})
    {'loss': 0.5, 'accuracy': 0.75}
    """
    weight = float(sums["weight"])
    if not weight > 0:
        raise ValueError("no examples were counted: the sum of the weights is 0")
    return {"accuracy" if name == "correct" else name: float(value) / weight for name, value in sums.items() if name != "weight"}


def example_predictions(logits: Float[np.ndarray, "n k"], labels: np.ndarray) -> ExamplePredictions:
    """Return the predicted class, the loss and the confidence of each example, as `sums` counts them.

    >>> example_predictions(np.log([[0.25, 0.75]]), np.array([1])).predicted
    array([1])
    """
    z = np.asarray(logits, np.float64)
    loss, p = np.asarray(losses(z, labels), np.float32), squash(z, labels.ndim == 2)
    if labels.ndim == 1:
        return ExamplePredictions(logits.argmax(axis=1), loss, p.max(axis=1).astype(np.float32))
    return ExamplePredictions(logits > 0, loss, np.maximum(p, 1 - p).min(axis=1).astype(np.float32))


def squash(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Apply the sigmoid for multi-label data, else the softmax over the last axis, in float64, without overflow.

    Small probabilities keep their digits, but those near 1 do not: what needs 1 - p or a logarithm takes the logits.

    >>> squash(np.array([[-40.0, 0.0]]), multi_label=True)
    array([[4.24835426e-18, 5.00000000e-01]])
    """
    z = np.asarray(logits, np.float64)
    if multi_label:
        e = np.exp(-np.abs(z))
        return np.where(z < 0, e, 1) / (1 + e)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def confusion(labels: Int[np.ndarray, " n"], predictions: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, "classes classes"]:
    """Count how often each true class (row) was predicted as each class (column), int64.

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    flat = np.asarray(labels, np.int64) * classes + np.asarray(predictions, np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)
