"""Effect of an arm on each class: differences to the baseline, seed by seed, on the held-out examples of the class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ...evaluation.predictions import SplitPredictions
from . import significance

type PredictionPair = tuple[SplitPredictions, SplitPredictions]
"""Predictions of a run and of the baseline's run for the same examples."""


class ClassEffect(NamedTuple):
    """Difference between an arm and the baseline on one class.

    What differs is the share of the class's examples that are predicted right; for multi-label data the F1 score of the class.

    Attributes:
        index: of the class.
        examples: examples of the class in a seed, mean over seeds.
        baseline: share (or F1 score) of the baseline, mean over seeds.
        mean: mean difference.
        low: lower end of its t interval, see `significance.t_interval`; NaN for one seed.
        high: upper end.
        p_holm: p value of the paired t test, corrected for the number of classes.
    """

    index: int
    examples: float
    baseline: float
    mean: float
    low: float
    high: float
    p_holm: float


def class_scores(predictions: SplitPredictions, classes: int, tta: bool) -> Float[np.ndarray, " classes"]:
    """Compute the share of each class's examples that are predicted right, for multi-label data its F1 score; NaN without examples."""
    labels = predictions.labels
    with np.errstate(invalid="ignore"):
        if labels.ndim == 1:
            right = predictions.correct(tta)
            return np.bincount(labels, right, classes)[:classes] / np.bincount(labels, minlength=classes)[:classes]
        known, predicted = labels > 0, (predictions.tta if tta and predictions.tta else predictions.plain).predicted > 0
        scores = 2 * (known & predicted).sum(axis=0) / (known.sum(axis=0) + predicted.sum(axis=0))
        return np.where(known.any(axis=0), scores, np.nan)


class _Scores(NamedTuple):
    """Scores of the classes that any seed of an arm has examples of: their indices [k]; counts, baseline and differences, [seeds, k]."""

    index: np.ndarray
    counts: np.ndarray
    baseline: np.ndarray
    differences: np.ndarray


def effects(arms: Mapping[str, Sequence[PredictionPair]], tta: bool, level: float) -> dict[str, tuple[ClassEffect, ...]]:
    """Compare arms with the baseline class by class, the largest loss first.

    Args:
        arms: name of each arm to predictions of its runs and of the baseline's for the same examples, one pair per seed.
        tta: use all views mixed where a run has several.
        level: of the intervals.

    Returns:
        The effects of each arm on the classes that any of its seeds has examples of.
    """
    scores, by_arm = {name: _scores(pairs, tta) for name, pairs in arms.items() if pairs}, dict.fromkeys(arms, ())
    for seeds in {len(own.differences) for own in scores.values()}:  # arms with as many seeds are computed at once
        names = [name for name, own in scores.items() if len(own.differences) == seeds]
        differences = np.concatenate([scores[name].differences for name in names], axis=1)
        whole, p = ~np.isnan(differences).any(axis=0), np.full(differences.shape[1], np.nan)
        p[whole] = significance.paired_t(differences[:, whole])
        columns = np.stack([np.nanmean(differences, axis=0), *significance.t_interval(differences, level), p])
        ends = np.cumsum([len(scores[name].index) for name in names])[:-1]
        by_arm |= {name: _effects(scores[name], own) for name, own in zip(names, np.split(columns, ends, axis=1), strict=True)}
    return by_arm


def _effects(scores: _Scores, columns: np.ndarray) -> tuple[ClassEffect, ...]:
    """Return the effects of an arm; `columns` are mean, low, high and p of each class."""
    mean, low, high, p = columns
    facts = (scores.counts.mean(axis=0), np.nanmean(scores.baseline, axis=0), mean, low, high, significance.holm(p))
    class_effects = [ClassEffect(int(i), *map(float, row)) for i, *row in zip(scores.index, *facts, strict=True)]
    return tuple(sorted(class_effects, key=lambda effect: effect.mean))


def _scores(pairs: Sequence[PredictionPair], tta: bool) -> _Scores:
    labels = [other.labels for _, other in pairs]
    classes = labels[0].shape[1] if labels[0].ndim == 2 else 1 + max(int(own.max(initial=0)) for own in labels)
    counts = np.stack([own.astype(bool).sum(axis=0) if own.ndim == 2 else np.bincount(own, minlength=classes) for own in labels])
    there = np.flatnonzero(counts.any(axis=0))
    arm, base = (np.stack([class_scores(pair[i], classes, tta) for pair in pairs])[:, there] for i in range(2))
    return _Scores(there, counts[:, there], base, arm - base)
