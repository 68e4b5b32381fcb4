"""Predictions of a network for whole sets of images, over one view or several, and their measures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from . import metrics, tta
from .config import Experiment
from .engine import Engine
from .examples import Answers
from .feed import Images
from .progress import Quiet
from .rng import key_for
from .sampling import Batch
from .state import Tree


class Views(NamedTuple):
    """What the views of a set of images say, mixed as `Experiment.evaluate` asks.

    Attributes:
        probabilities: of the mixture, float32 [n, classes].
        disagreement: share of an image's views that name another class than the mixture, [n]; see `tta.disagreement`.
        measures: loss, accuracy and the like of the plain view, and under "tta_…" of the mixture where there are more; {} without labels.
        by_count: the measures of the first view, of the first two mixed, …; [] without labels.
        seconds: taken by the plain view, and by all others.
        views: their number.
        answers: to each image, from the plain view and, where there are more, from the mixture; () without labels.
    """

    probabilities: np.ndarray
    disagreement: np.ndarray
    measures: dict[str, float]
    by_count: list[dict[str, float]]
    seconds: tuple[float, float]
    views: int
    answers: tuple[Answers, ...] = ()


def predict_views(
    run: Engine,
    experiment: Experiment,
    params: Tree,
    stats: Tree,
    images: Images,
    size: int,
    ui: Quiet,
    title: str,
    *,
    classes: int,
    labels: np.ndarray | None = None,
    multi_label: bool = False,
    ids: np.ndarray | None = None,
) -> Views:
    """Predicts images from all views, in blocks that keep what they say within `Eval.tta_memory`.

    Args:
        images: of n ≥ 1 examples.
        size: side in pixels that the network sees.
        title: of the progress bar.
        classes: number of classes.
        labels: int [n] or float [n, classes]; None for images without labels.
        multi_label: whether an image can have several classes.
        ids: uint32 [n] that the images' random views are derived from; None for their positions.
    """
    how, n = experiment.evaluate, len(images)
    views = tta.count(how, experiment.augment)
    ids = np.arange(n, dtype=np.uint32) if ids is None else ids
    parts: list[_Mixed] = []
    seconds = [0.0, 0.0]
    with ui.bar(title, n * views) as tick:
        # Logits, their probabilities and the mixtures are float64; whole batches, and one at least.
        block = max(how.tta_memory * 2**20 // (3 * 8 * views * classes) // run.batch_size, 1) * run.batch_size
        for first in range(0, n, block):
            count = min(block, n - first)

            def logits(v: int, first: int = first, count: int = count) -> np.ndarray:
                began = time.perf_counter()
                result = run.map(view_logits(run, experiment, params, stats, size, ids, v), count, images, tick, first)
                seconds[v > 0] += time.perf_counter() - began
                return result

            stacked = np.stack([logits(v) for v in range(views)])
            parts.append(_mix(experiment, stacked, None if labels is None else labels[first : first + count], multi_label))
    probabilities, disagreement, sums, answers = zip(*parts, strict=True)
    by_count = [metrics.finish(metrics.merge(row)) for row in zip(*sums, strict=True)]
    measures = dict(by_count[0]) if by_count else {}
    if views > 1 and by_count:
        measures |= {f"tta_{name}": value for name, value in by_count[-1].items()}
    said = tuple(Answers(*map(np.concatenate, zip(*blocks, strict=True))) for blocks in zip(*answers, strict=True))
    return Views(np.concatenate(probabilities), np.concatenate(disagreement), measures, by_count, (seconds[0], seconds[1]), views, said)


def view_logits(
    run: Engine, experiment: Experiment, params: Tree, stats: Tree, size: int, ids: np.ndarray, v: int
) -> Callable[[Batch, jax.Array], jax.Array]:
    """Function (batch, its images) → logits [b, classes] of test-time view v; 0 is the plain one. For `Engine.map`."""
    key = key_for(experiment.seed, "tta")
    how = {"kind": experiment.evaluate.tta_kind, "augmentations": experiment.augment, "size": size}

    def rows(batch: Batch, x: jax.Array) -> jax.Array:
        pixels = run.view(x, run.devices.scatter(ids[batch.index]), key, v, **how) if v else run.plain(x, size=size)
        return run.predict(params, stats, pixels)

    return rows


class _Mixed(NamedTuple):
    """A block of `Views`, with the sums of measures for one view, two, …; () without labels."""

    probabilities: np.ndarray
    disagreement: np.ndarray
    sums: tuple[dict[str, Any], ...]
    answers: tuple[Answers, ...]


def _mix(experiment: Experiment, logits: np.ndarray, labels: np.ndarray | None, multi_label: bool) -> _Mixed:
    """What logits [views, n, classes] say together."""
    how = experiment.evaluate
    mixed = tta.prefixes(logits, weight=how.tta_weight, mean=how.tta_mean, multi_label=multi_label)
    sums, answers = (), ()
    if labels is not None:
        rows = [logits[0].astype(np.float64), *(metrics.log_odds(p, multi_label) for p in mixed[1:])]
        sums = tuple(metrics.sums(z, labels, np.ones(len(labels))) for z in rows)
        answers = tuple(metrics.answers(z, labels) for z in (rows[0], *rows[1:][-1:]))
    return _Mixed(mixed[-1].astype(np.float32), tta.disagreement(logits, mixed[-1], multi_label), sums, answers)


def judge(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Loss, accuracy and the like of logits [n, classes] for labels int [n] or float [n, classes]."""
    return metrics.finish(metrics.sums(logits.astype(np.float64), labels, np.ones(len(labels))))
