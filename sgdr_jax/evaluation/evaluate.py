"""Predictions of a network for whole sets of images, over one view or several, and their measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from ..core.console import NullConsole
from ..core.experiment import Experiment
from ..core.rng import key_for
from ..core.state import Tree
from ..data.loader import ImageLoader
from ..data.sampler import Batch
from ..distributed.mesh import Devices
from . import calibration as calibrate
from . import metrics, tta
from .predictions import Answers


class EvalPrograms(Protocol):
    """Compiled programs that evaluation needs; `train.programs` builds them."""

    @property
    def devices(self) -> Devices:
        """Devices that the programs run on."""
        ...

    @property
    def batch_size(self) -> int:
        """Examples per evaluation step."""
        ...

    @property
    def plain(self) -> Callable[..., jax.Array]:
        """(images uint8 [b, s, s, c], size=) → float32 [b, size, size, c]."""
        ...

    @property
    def view(self) -> Callable[..., jax.Array]:
        """(images, ids uint32 [b], key, v, kind=, augmentations=, size=) → test-time view v, float32 [b, size, size, c]."""
        ...

    def predict(self, params: Tree, stats: Tree, x: jax.Array) -> jax.Array:
        """Returns logits [b, classes] of pixels [b, size, size, c]."""
        ...

    def map(
        self,
        function: Callable[[Batch, Any], jax.Array],
        n: int,
        images: ImageLoader | None = None,
        tick: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> np.ndarray:
        """Returns the rows of `function(batch, its images)` over n examples, counted from number `first` on."""
        ...


class Views(NamedTuple):
    """What the views of a set of images say, mixed as `Experiment.evaluate` asks.

    Attributes:
        plain: probabilities from the plain view, float32 [n, classes].
        probabilities: of the mixture, float32 [n, classes].
        disagreement: share of an image's views that name another class than the mixture, [n]; see `tta.disagreement`.
        measures: loss, accuracy, expected calibration error ("ece") and the like of the plain view, and under "tta_…" of the mixture where
            there are more; {} without labels.
        by_count: the measures of the first view, of the first two mixed, …; [] without labels.
        seconds: taken by the plain view, and by all others.
        views: their number.
    """

    plain: np.ndarray
    probabilities: np.ndarray
    disagreement: np.ndarray
    measures: dict[str, float]
    by_count: list[dict[str, float]]
    seconds: tuple[float, float]
    views: int


def predict_views(
    run: EvalPrograms,
    experiment: Experiment,
    params: Tree,
    stats: Tree,
    images: ImageLoader,
    size: int,
    ui: NullConsole,
    title: str,
    *,
    classes: int,
    labels: np.ndarray | None = None,
    multi_label: bool = False,
    ids: np.ndarray | None = None,
    plain: np.ndarray | None = None,
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
        plain: logits of the plain view [n, classes], where they are known already.
    """
    how, n = experiment.evaluate, len(images)
    views = tta.count(how, experiment.augment)
    ids = np.arange(n, dtype=np.uint32) if ids is None else ids
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]] = []
    seconds = [0.0, 0.0]
    with ui.bar(title, n * views) as tick:
        # Logits, their probabilities and the mixtures are float64; whole batches, and one at least.
        block = max(how.tta_memory * 2**20 // (3 * 8 * views * classes) // run.batch_size, 1) * run.batch_size
        for first in range(0, n, block):
            count = min(block, n - first)

            def logits(v: int, first: int = first, count: int = count) -> np.ndarray:
                if v == 0 and plain is not None:
                    return plain[first : first + count]
                began = time.perf_counter()
                result = run.map(view_logits(run, experiment, params, stats, size, ids, v), count, images, tick, first)
                seconds[v > 0] += time.perf_counter() - began
                return result

            stacked = np.stack([logits(v) for v in range(views)])
            parts.append(_mix(experiment, stacked, None if labels is None else labels[first : first + count], multi_label))
    *columns, sums = zip(*parts, strict=True)
    plain, mixed, disagreement = (np.concatenate(column) for column in columns)
    by_count = [metrics.finish(metrics.merge(row)) for row in zip(*sums, strict=True)]
    measures = {}
    if labels is not None:
        measures = by_count[0] | {"ece": calibrate.reliability(plain, labels).error}
        if views > 1:
            more = by_count[-1] | {"ece": calibrate.reliability(mixed, labels).error}
            measures |= {f"tta_{name}": value for name, value in more.items()}
    return Views(plain, mixed, disagreement, measures, by_count, (seconds[0], seconds[1]), views)


def calibration(seen: Views, labels: np.ndarray, fitted: Mapping[str, float] | None = None) -> dict[str, dict[str, float]]:
    """What a temperature does to the plain view ("plain") and to the mixture of all ("tta"): "temperature", and the "ece" and "loss" then.

    Args:
        labels: of the images.
        fitted: temperature of each; None fits them to these images.
    """
    found = {}
    for kind, p in (("plain", seen.plain), ("tta", seen.probabilities))[: 1 + (seen.views > 1)]:
        temperature = calibrate.fit_temperature(p, labels) if fitted is None else fitted[kind]
        p = calibrate.scaled(p, temperature, labels.ndim == 2)
        found[kind] = {
            "temperature": temperature,
            "ece": calibrate.reliability(p, labels).error,
            "loss": metrics.evaluate(p, labels)["loss"],
        }
    return found


def answers(seen: Views, labels: np.ndarray) -> tuple[Answers, ...]:
    """What is said of each image, by the plain view and, where there are more, by the mixture of all."""
    both = (seen.plain, seen.probabilities)[: 1 + (seen.views > 1)]
    return tuple(metrics.answers(metrics.log_odds(p, labels.ndim == 2), labels) for p in both)


def view_logits(
    run: EvalPrograms, experiment: Experiment, params: Tree, stats: Tree, size: int, ids: np.ndarray, v: int
) -> Callable[[Batch, jax.Array], jax.Array]:
    """Function (batch, its images) → logits [b, classes] of test-time view v; 0 is the plain one. For `EvalPrograms.map`."""
    key = key_for(experiment.seed, "tta")
    how = {"kind": experiment.evaluate.tta_kind, "augmentations": experiment.augment, "size": size}

    def rows(batch: Batch, x: jax.Array) -> jax.Array:
        pixels = run.view(x, run.devices.scatter(ids[batch.index]), key, v, **how) if v else run.plain(x, size=size)
        return run.predict(params, stats, pixels)

    return rows


def _mix(
    experiment: Experiment, logits: np.ndarray, labels: np.ndarray | None, multi_label: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Of logits [views, n, classes]: probabilities of the plain view and of the mixture, the disagreement, and the sums of measures for
    one view, two, …; [] without labels."""
    how = experiment.evaluate
    mixed = tta.prefixes(logits, weight=how.tta_weight, mean=how.tta_mean, multi_label=multi_label)
    sums = []
    if labels is not None:
        weight = np.ones(len(labels))
        sums = [metrics.sums(logits[0].astype(np.float64), labels, weight)]
        sums += [metrics.sums(metrics.log_odds(p, multi_label), labels, weight) for p in mixed[1:]]
    return mixed[0].astype(np.float32), mixed[-1].astype(np.float32), tta.disagreement(logits, mixed[-1], multi_label), sums


def judge(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Loss, accuracy and the like of logits [n, classes] for labels int [n] or float [n, classes]."""
    return metrics.finish(metrics.sums(logits.astype(np.float64), labels, np.ones(len(labels))))
