"""Predictions of a network for whole sets of images, over one view or several, and their measures."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from . import metrics, tta
from .config import Experiment
from .engine import Engine
from .feed import Images
from .progress import Quiet
from .rng import key_for
from .sampling import Batch
from .state import Tree


def view_logits(
    run: Engine,
    experiment: Experiment,
    params: Tree,
    stats: Tree,
    images: Images,
    size: int,
    views: Sequence[int],
    ui: Quiet,
    title: str,
    ids: np.ndarray | None = None,
) -> np.ndarray:
    """Logits of some test-time views of images, float32 [views, n, classes].

    Args:
        images: of n examples.
        size: side in pixels that the network sees.
        views: numbers of the views; 0 is the plain one, see `tta.view` for the others.
        title: of the progress bar.
        ids: uint32 [n] that the images' random views are derived from; None for their positions.
    """
    key, how = key_for(experiment.seed, "tta"), {"kind": experiment.evaluate.tta_kind, "augmentations": experiment.augment, "size": size}

    numbers = np.arange(len(images), dtype=np.uint32) if ids is None else ids

    def logits(v: int) -> np.ndarray:
        def rows(batch: Batch, x: jax.Array) -> jax.Array:
            pixels = run.view(x, run.devices.scatter(numbers[batch.index]), key, v, **how) if v else run.plain(x, size=size)
            return run.predict(params, stats, pixels)

        return run.map(rows, len(images), images, tick)

    with ui.bar(title, len(images) * len(views)) as tick:
        return np.stack([logits(v) for v in views])


def probabilities(experiment: Experiment, logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """The views mixed as `Experiment.evaluate` says: [1 + views, n, classes] logits to [n, classes] probabilities."""
    how = experiment.evaluate
    return np.asarray(tta.combine(logits, weight=how.tta_weight, mean=how.tta_mean, multi_label=multi_label))


def judge(experiment: Experiment, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Loss, accuracy and the like of the plain view, and under "tta_…" of all views mixed where there are more.

    Args:
        logits: [1 + views, n, classes], the plain view first.
        labels: int [n] or float [n, classes].
    """
    plain = metrics.finish(metrics.sums(logits[0].astype(np.float64), labels, np.ones(len(labels))))
    if len(logits) == 1:
        return plain
    mixed = metrics.evaluate(probabilities(experiment, logits, labels.ndim == 2), labels)
    return plain | {f"tta_{name}": value for name, value in mixed.items()}
