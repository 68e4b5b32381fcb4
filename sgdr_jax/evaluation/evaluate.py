"""Evaluates a network on whole sets of images, from one view or several: predictions and metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, cast

import jax
import numpy as np

from ..core.console import NullConsole
from ..core.experiment import Experiment
from ..core.rng import key_for
from ..core.state import NetworkState, Tree
from ..data.loader import ImageLoader
from ..data.sampler import Batch
from ..distributed.mesh import Devices
from . import metrics, tta
from .calibration import apply_temperature, fit_temperature, reliability
from .metrics import CalibrationMetrics, EvalMetrics
from .multi_label import DEFAULT_THRESHOLD, map_of
from .predictions import ExamplePredictions


class EvalPrograms(Protocol):
    """Compiled programs that evaluation needs; `train.programs` builds them."""

    @property
    def devices(self) -> Devices:
        """Devices that run the programs."""
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
    def augmented(self) -> Callable[..., jax.Array]:
        """(images, draw uint32 [b], key, strength, augmentations=, size=) → augmented, float32 [b, size, size, c]; strength None is 1."""
        ...

    @property
    def view(self) -> Callable[..., jax.Array]:
        """(images, ids uint32 [b], key, v, kind=, augmentations=, size=) → test-time view v, float32 [b, size, size, c]."""
        ...

    def predict(self, params: Tree, stats: Tree, x: jax.Array) -> jax.Array:
        """Return logits [b, classes] of pixels [b, size, size, c]."""
        ...

    def map(
        self,
        function: Callable[[Batch, Any], jax.Array],
        n: int,
        images: ImageLoader | None = None,
        tick: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> np.ndarray:
        """Return the rows of `function(batch, its images)` over n examples, counted from number `first` on."""
        ...


class EvalExamples(NamedTuple):
    """A set of images to evaluate.

    Attributes:
        images: loader of n ≥ 1 images.
        classes: number of classes.
        digests: uint64 [n], of each image's pixels: its random views are drawn by them, so that they do not depend on other images.
        labels: int [n] or float [n, classes]; None for images without labels.
        multi_label: whether images can have several classes.
    """

    images: ImageLoader
    classes: int
    digests: np.ndarray
    labels: np.ndarray | None = None
    multi_label: bool = False


class ViewPredictions(NamedTuple):
    """Predictions from the views of a set of images, mixed as `Experiment.evaluate` specifies.

    Attributes:
        plain_logits: of the plain view [n, classes], float32, or float64 where the network computes in it.
        logits: of the mixture, likewise: what its probabilities are the softmax of, or for multi-label data the sigmoid.
        disagreement: share of an image's views whose class differs from that of the mixture, [n]; see `tta.disagreement`.
        measures: of the plain view and, as "tta_…", of the mixture if there are several views; {} without labels.
        by_count: metrics of the first view, of the first two mixed, …; [] without labels.
        seconds: time of the plain view, and of all others.
        views: number of views.
        multi_label: whether images can have several classes.
    """

    plain_logits: np.ndarray
    logits: np.ndarray
    disagreement: np.ndarray
    measures: EvalMetrics
    by_count: list[dict[str, float]]
    seconds: tuple[float, float]
    views: int
    multi_label: bool

    @property
    def plain(self) -> np.ndarray:
        """Probabilities from the plain view [n, classes], float32, or float64 for multi-label data."""
        return probabilities_of(self.plain_logits, self.multi_label)

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities of the mixture, likewise."""
        return probabilities_of(self.logits, self.multi_label)

    @property
    def kinds(self) -> dict[str, np.ndarray]:
        """Logits by kind: "plain" and, if there are several views, "tta"."""
        return {"plain": self.plain_logits} | ({"tta": self.logits} if self.views > 1 else {})


def probabilities_of(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return probabilities as they are handed out: float32, but float64 for multi-label data, where 1 - p matters as much as p."""
    return metrics.squash(logits, multi_label).astype(np.float64 if multi_label else np.float32)


def predict_views(
    programs: EvalPrograms,
    experiment: Experiment,
    network: NetworkState,
    examples: EvalExamples,
    ui: NullConsole,
    title: str,
    plain: np.ndarray | None = None,
    threshold: float = DEFAULT_THRESHOLD,
) -> ViewPredictions:
    """Predict images from all views, in blocks whose predictions fit `Eval.tta_memory`.

    Args:
        programs: compiled programs.
        experiment: source of augmentations and `Eval` options.
        network: the network, and the image size that it sees.
        examples: the images.
        ui: shows a progress bar.
        title: of the progress bar.
        plain: logits of the plain view [n, classes], if known.
        threshold: probability above which a class of multi-label data is predicted; decides the disagreement of the views alone.
    """
    evaluate, n, labels = experiment.evaluate, len(examples.images), examples.labels
    views = tta.view_count(evaluate, experiment.augment)
    ids = (examples.digests ^ examples.digests >> np.uint64(32)).astype(np.uint32)  # both halves of the images
    parts: list[_Mixture] = []
    seconds = [0.0, 0.0]
    with ui.bar(title, n * (views - (plain is not None))) as tick:
        # Logits, their probabilities and the mixtures are float64; a block is a positive number of whole batches.
        block = max(evaluate.tta_memory * 2**20 // (3 * 8 * views * examples.classes) // programs.batch_size, 1) * programs.batch_size
        for first in range(0, n, block):
            count = min(block, n - first)

            def logits(v: int, first: int = first, count: int = count) -> np.ndarray:
                if v == 0 and plain is not None:
                    return plain[first : first + count]
                began = time.perf_counter()
                result = programs.map(view_logits(programs, experiment, network, ids, v), count, examples.images, tick, first)
                seconds[v > 0] += time.perf_counter() - began
                return result

            stacked = np.stack([logits(v) for v in range(views)])
            some = None if labels is None else labels[first : first + count]
            parts.append(_mix(experiment, stacked, some, threshold if examples.multi_label else None))
    single, mixed, disagreement = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:3])
    by_count = [metrics.finish(metrics.merge(sums)) for sums in zip(*(part.sums for part in parts), strict=True)]
    measures = {}
    if labels is not None:
        measures = measures_of(single, labels)
        if views > 1:
            measures |= {f"tta_{name}": x for name, x in measures_of(mixed, labels).items()}
    figures, times = cast(EvalMetrics, measures), (seconds[0], seconds[1])
    return ViewPredictions(single, mixed, disagreement, figures, by_count, times, views, examples.multi_label)


def calibration_results(
    predictions: ViewPredictions, labels: np.ndarray, fitted: Mapping[str, float] | None = None
) -> dict[str, CalibrationMetrics]:
    """Apply a temperature to the plain view ("plain") and to the mixture of all ("tta").

    Args:
        predictions: of the images.
        labels: of the images.
        fitted: temperature of each, NaN for none; None fits them to these images.
    """
    results: dict[str, CalibrationMetrics] = {}
    for kind, z in predictions.kinds.items():
        temperature = fit_temperature(z, labels) if fitted is None else fitted[kind]
        if math.isnan(temperature):
            results[kind] = {"temperature": math.nan, "ece": math.nan, "loss": math.nan}
            continue
        scaled = measures_of(z.astype(np.float64) / temperature, labels)
        results[kind] = {"temperature": temperature, "ece": scaled["ece"], "loss": scaled["loss"]}
    return results


def view_predictions(
    predictions: ViewPredictions,
    labels: np.ndarray,
    temperatures: Mapping[str, float] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> tuple[ExamplePredictions, ...]:
    """Return the prediction for each image, by the plain view and, if there are several views, by the mixture.

    Args:
        predictions: of the images.
        labels: of the images.
        temperatures: fitted for each kind, NaN where none could be; None for none.
        thresholds: probability of each kind above which a class of multi-label data is predicted; None for `DEFAULT_THRESHOLD`.
    """
    multi_label, out = labels.ndim == 2, []
    for kind, z in predictions.kinds.items():
        temperature, p = math.nan if temperatures is None else temperatures[kind], metrics.squash(z, multi_label)
        scaled = [] if math.isnan(temperature) else [apply_temperature(z, temperature, multi_label)]
        diagrams = np.array([np.stack(reliability(each, labels)) for each in (p, *scaled)])
        example_predictions = metrics.example_predictions(z, labels)._replace(reliability=diagrams)
        threshold = DEFAULT_THRESHOLD if thresholds is None else thresholds[kind]
        out.append(example_predictions._replace(predicted=p > threshold) if multi_label else example_predictions)
    return tuple(out)


def view_logits(
    programs: EvalPrograms, experiment: Experiment, network: NetworkState, ids: np.ndarray, v: int
) -> Callable[[Batch, jax.Array], jax.Array]:
    """Build a function for `EvalPrograms.map`: (batch, its images) → logits [b, classes] of test-time view v; view 0 is the plain one."""
    key, kind = key_for(experiment.seed, "tta"), experiment.evaluate.tta_kind
    how = {"augmentations": experiment.augment, "size": network.size}

    def seen(batch: Batch, x: jax.Array) -> jax.Array:
        if v == 0:
            return programs.plain(x, size=network.size)
        draw = programs.devices.scatter(ids[batch.index])
        if kind == "random":  # `tta.view` by the program that augments training images
            return programs.augmented(x, draw, jax.random.fold_in(key, v), None, **how)
        return programs.view(x, draw, key, v, kind=kind, **how)

    def rows(batch: Batch, x: jax.Array) -> jax.Array:
        pixels = seen(batch, x)
        return programs.predict(network.params, network.stats, pixels)

    return rows


class _Mixture(NamedTuple):
    """Mixture of the views of a block of images; `sums` has the sums of metrics for one view, two, …; [] without labels."""

    plain: np.ndarray
    logits: np.ndarray
    disagreement: np.ndarray
    sums: list[dict[str, metrics.Array]]


def _mix(experiment: Experiment, logits: np.ndarray, labels: np.ndarray | None, threshold: float | None) -> _Mixture:
    """Mix the views of logits [views, n, classes]; `threshold` is that of multi-label data, None for others."""
    options, multi_label = experiment.evaluate, threshold is not None
    mixed = tta.mix_prefixes(logits, weight=options.tta_weight, mean=options.tta_mean, multi_label=multi_label).astype(logits.dtype)
    sums = [] if labels is None else [metrics.sums(z.astype(np.float64), labels, np.ones(len(labels))) for z in mixed]
    differ = tta.disagreement(logits, metrics.squash(mixed[-1], multi_label), threshold)
    return _Mixture(mixed[0], mixed[-1], differ, sums)


def logit_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compute the metrics of logits [n, classes] for labels int [n] or float [n, classes]."""
    return metrics.finish(metrics.sums(logits.astype(np.float64), labels, np.ones(len(labels)))) | map_of(logits, labels)


def measures_of(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compute all measures of a network or an ensemble on a split, `logit_metrics` and the calibration error "ece"."""
    return logit_metrics(logits, labels) | {"ece": reliability(metrics.squash(logits, labels.ndim == 2), labels).error}
