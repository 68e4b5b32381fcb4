"""Mistakes of a network on held-out images, from the predictions that a run keeps: confusions, classes, images to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..evaluation.calibration import ClassResult, tally_classes
from ..evaluation.metrics import confusion
from ..evaluation.predictions import ExamplePredictions

MOST_CLASSES = 20
"""Most classes of the confusion matrix; of more those with the most confusions are shown."""


class ConfusionPart(NamedTuple):
    """The part of a confusion matrix with the most confusions.

    Attributes:
        classes: indices of the classes, in label order.
        counts: int64 [len(classes), len(classes)]; rows are true classes.
        elsewhere: number of images of each that are taken for a class outside of the part.
        covered: share of all wrong predictions that are in the part, 0…1; NaN without wrong ones.
    """

    classes: np.ndarray
    counts: np.ndarray
    elsewhere: np.ndarray
    covered: float


class ConfusedPair(NamedTuple):
    """A frequent confusion: `count` images of a class, `share` of all its images, taken for another; indices of both classes."""

    true: int
    predicted: int
    count: int
    share: float


class ShownImage(NamedTuple):
    """An image to look at.

    Attributes:
        index: its position in the split.
        true, predicted: names of the classes; several or none for multi-label data.
        loss: of the image.
        confidence: probability of the prediction; None for files of earlier versions.
        probability: of the true class, exp(-loss); None for multi-label data.
    """

    index: int
    true: tuple[str, ...]
    predicted: tuple[str, ...]
    loss: float
    confidence: float | None
    probability: float | None

    @property
    def wrong(self) -> bool:
        """Whether the prediction is wrong."""
        return self.true != self.predicted


def confused_part(labels: np.ndarray, predicted: np.ndarray, classes: int, most: int = MOST_CLASSES) -> ConfusionPart:
    """Return the rows and columns of the confusion matrix of the `most` classes with the most confusions, given and received."""
    table = confusion(labels, predicted, classes)
    wrong = table - np.diag(table.diagonal())
    part = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:most])
    inside, total = wrong[np.ix_(part, part)].sum(), wrong.sum()
    elsewhere = table[part].sum(1) - table[np.ix_(part, part)].sum(1)
    return ConfusionPart(part, table[np.ix_(part, part)], elsewhere, float(inside / total) if total else float("nan"))


def confused_pairs(labels: np.ndarray, predicted: np.ndarray, classes: int, most: int = 20) -> list[ConfusedPair]:
    """Return the most frequent confusions, at most `most`, each counted in one direction."""
    table = confusion(labels, predicted, classes)
    images = table.sum(axis=1)
    np.fill_diagonal(table, 0)
    order = np.argsort(-table, axis=None, kind="stable")[:most]
    places = zip(*(axis.tolist() for axis in np.unravel_index(order, table.shape)), strict=True)
    return [ConfusedPair(t, p, int(table[t, p]), float(table[t, p] / images[t])) for t, p in places if table[t, p]]


def class_lines(labels: np.ndarray, predictions: ExamplePredictions, classes: int) -> list[ClassResult]:
    """Return the results of each class; the mean probability is NaN for multi-label data, whose files do not hold it."""
    if labels.ndim == 2:
        return tally_classes(labels > 0, predictions.predicted > 0, np.full(classes, np.nan))
    return tally_classes(labels, predictions.predicted, np.bincount(labels, predictions.probability, classes))


SHOWN = 24
"""Images of each kind that a page shows."""


def top_losses(labels: np.ndarray, predictions: ExamplePredictions, names: Sequence[str]) -> list[ShownImage]:
    """Return the images with the highest losses, at most `SHOWN`."""
    return [_shown_image(i, labels, predictions, names) for i in np.argsort(-predictions.loss, kind="stable")[:SHOWN].tolist()]


def least_confident(labels: np.ndarray, predictions: ExamplePredictions, names: Sequence[str]) -> list[ShownImage]:
    """Return the images with the lowest confidence, at most `SHOWN`; none for files of earlier versions. Source: Lewis & Gale 1994."""
    if predictions.confidence is None:
        return []
    return [_shown_image(i, labels, predictions, names) for i in np.argsort(predictions.confidence, kind="stable")[:SHOWN].tolist()]


def _shown_image(i: int, labels: np.ndarray, predictions: ExamplePredictions, names: Sequence[str]) -> ShownImage:
    true, predicted = ((names[int(row)],) if row.ndim == 0 else _named(row, names) for row in (labels[i], predictions.predicted[i]))
    confidence = None if predictions.confidence is None else float(predictions.confidence[i])
    return ShownImage(
        i, true, predicted, float(predictions.loss[i]), confidence, float(predictions.probability[i]) if labels.ndim == 1 else None
    )


def _named(row: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names[int(c)] for c in np.flatnonzero(row))
