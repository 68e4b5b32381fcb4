"""Ranks networks for a set of images by logistic regression on their features, without training any of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..core.console import NullConsole
from ..core.experiment import Experiment, Stage
from ..core.solve import Solve
from ..core.types import Dataset
from ..core.validation import require
from ..data.sampler import Sampler
from ..datasets import Part, TrainAndValid
from ..evaluation import metrics
from ..evaluation.intervals import Interval, limits_text, right_interval
from ..models.base import ChainModel, model_name
from ..models.head import EPS
from ..models.pretrained.locate import find
from ..train.context import RunContext, prepare
from ..train.logistic_regression import problem, standardise
from ..train.solve_head import Folds, choose, split_folds
from ..train.stage_inputs import activations
from .measured import measure

if TYPE_CHECKING:
    from rich.table import Table

IMAGES = 2_000
"""Images that rank networks well enough: of 2,000 an accuracy has a standard error of a point, and differences between pairs less."""


class Probed(NamedTuple):
    """How well a linear head on the frozen features of a network classifies images that it was not solved on.

    Attributes:
        model: the network.
        size: side in pixels of the images that it saw.
        accuracy: share of the images classified right by the head of the other folds, 0…1; of multi-label data the share of right
            decisions.
        interval: of it, at 95 %.
        loss: mean cross-entropy of the same images.
        behind: accuracy of the best network minus this one's, over the same images.
        behind_error: standard error of that difference, of pairs.
        weight_decay: strength of the regression, chosen by its loss on the held-out images.
        features: number of features.
        seconds: spent on the features and on the regression.
        correct: of each image, float [n]; 1 where it was classified right.
    """

    model: ChainModel
    size: int
    accuracy: float
    interval: Interval
    loss: float
    behind: float
    behind_error: float
    weight_decay: float
    features: int
    seconds: tuple[float, float]
    correct: np.ndarray


def probe(data: Dataset, models: Sequence[ChainModel], ui: NullConsole, size: int | None = None) -> list[Probed]:
    """Rank networks by cross-validated logistic regression on the features of the training images, best first.

    Features are those of plain images in front of the head; they are kept in the cache of activations, from which training takes them too.
    The strength of the regression is chosen on the images that it is judged on, by one number for thousands of weights, and for every
    network alike.

    Args:
        data: the images.
        models: networks with pretrained weights.
        ui: progress.
        size: side in pixels that the networks see; None for that which `sgdr-jax new` would choose for each.

    Raises:
        InputError: weights cannot be found, before anything is computed, or no class has two images.
    """
    for model in models:
        require(model.weights is not None, "model.weights", None, "name networks with pretrained weights; random features rank nothing")
        find(model, "--models")
    source = data.open()
    _folds(source.labels["train"], Solve(), check=True)
    facts = measure(source, models[0], familiar=False)
    sizes: list[int] = [size or facts.of(model).choices()[0].value for model in models]
    ranking = []
    for model, side in zip(models, sizes, strict=True):
        stage = Stage("probe", side, "head", augment=False, precompute=True, solve=Solve())
        name, canvas = type(model).__name__, round(1.15 * max(sizes))
        experiment = Experiment(name, data, model, (stage,), canvas=canvas, max_bad_share=1.0)  # what is left out is named
        ui.say(f"{model_name(model)}:")
        ranking.append(_probed(experiment, ui))
    ranking.sort(key=lambda row: (-row.accuracy, row.loss))
    return [_compared(row, ranking[0]) for row in ranking]


def with_judges(data: Dataset, ui: NullConsole) -> Dataset:
    """Return a dataset with its validation images among the training images where these could judge no head, since no class has two."""
    source = data.open()
    if "valid" not in source.labels or _folds(source.labels["train"], Solve()).judges.any():
        return data
    ui.say("no class has two training images: the validation images are used too")
    return TrainAndValid(data)


def at_most(data: Dataset, images: int) -> Dataset:
    """Return a dataset with an even share of each class, of about `images` training images in all; 0 for all of them."""
    total = data.open().sizes["train"]
    return Part(data, share=images / total) if 0 < images < total else data


def _probed(experiment: Experiment, ui: NullConsole) -> Probed:
    context = prepare(experiment, ui)
    p, labels = context.plan.stages[0], context.data.labels["train"]
    start = time.perf_counter()
    features = activations(context, p, context.network, "train", 0, ui)
    middle = time.perf_counter()
    solve = p.stage.solve
    assert solve is not None
    logits, judged, decay = held_out_logits(context, features, solve)
    right = ((logits > 0) == (labels > 0.5)).mean(1) if labels.ndim == 2 else logits.argmax(1) == labels
    correct = np.where(judged, right, np.nan)
    loss = float(metrics.losses(logits[judged], labels[judged]).mean())
    seconds = (middle - start, time.perf_counter() - middle)
    model = experiment.model
    assert isinstance(model, ChainModel)
    return Probed(model, p.size, *_accuracy(correct), loss, 0.0, 0.0, decay, features.shape[1], seconds, correct)


def held_out_logits(context: RunContext, features: np.ndarray, solve: Solve) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the logits of each image by the regression that was solved without it.

    Args:
        context: supplies labels, seed and dtype.
        features: float [n, d].
        solve: strengths and folds.

    Returns:
        (logits [n, k], which images were judged: bool [n], the strength). Images whose class has no other image in the other folds are not.
    """
    labels, kind = context.data.labels["train"], context.programs.precision
    n, classes = len(labels), len(context.data.classes)
    folds = _folds(labels, solve, context.experiment.seed, check=True)
    share = jnp.full(n, 1 / n, kind)
    x, _, _ = standardise(jnp.asarray(features, kind), share, EPS)
    data = problem(x, jnp.asarray(labels), 0.0, share, classes)
    fits = (folds.fits / folds.fits.sum(1, keepdims=True)).astype(kind)
    tried = solve.weight_decay if isinstance(solve.weight_decay, tuple) else (solve.weight_decay,)
    chosen = choose(data, tried, jnp.asarray(fits), jnp.asarray((folds.judges / folds.judges.sum()).astype(kind)), classes)
    logits = np.zeros((n, classes), np.float64)
    for held, weights in zip(folds.judges, np.asarray(chosen.folds), strict=True):
        logits[held] = np.asarray(x)[held].astype(np.float64) @ weights
    return logits, folds.judges.any(0), chosen.weight_decay


def _folds(labels: np.ndarray, solve: Solve, seed: int = 0, *, check: bool = False) -> Folds:
    """Split images into folds; `check` raises InputError if none can be held out."""
    folds = split_folds(labels, solve.folds, Sampler(seed, 0, labels).order(0))
    fix = "no class has two images, so none can be held out; give more"
    require(not check or bool(folds.judges.any()), "images", len(labels), fix)
    return folds


def _accuracy(correct: np.ndarray) -> tuple[float, Interval]:
    """Return accuracy and interval over the judged images, those that are not NaN."""
    known = correct[~np.isnan(correct)]
    return float(known.mean()), right_interval(known)


def _compared(row: Probed, best: Probed) -> Probed:
    pairs = (best.correct - row.correct)[~np.isnan(row.correct)]
    error = float(pairs.std(ddof=1) / np.sqrt(len(pairs))) if len(pairs) > 1 else float("nan")
    return row._replace(behind=float(pairs.mean()), behind_error=error)


def table(rows: Sequence[Probed]) -> Table:
    """Format the ranking for the terminal."""
    from rich import box
    from rich.table import Table

    printed = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("network", "px", "accuracy %", "behind", "loss", "features", "seconds"):
        printed.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for row in rows:
        behind = f"{100 * row.behind:.1f} ± {100 * row.behind_error:.1f}" if row.behind_error else ""
        cells = [f"{100 * row.accuracy:.1f}{limits_text(row.interval, scale=100)}", behind, f"{row.loss:.3f}", f"{row.features:,}"]
        printed.add_row(model_name(row.model), str(row.size), *cells, f"{row.seconds[0]:.0f} + {row.seconds[1]:.0f}")
    return printed


def csv_rows(rows: Sequence[Probed]) -> list[list[object]]:
    """Return the ranking as rows of a CSV file, names first."""
    fields = ("loss", "behind", "behind_error", "weight_decay", "features")
    head: list[list[object]] = [["network", "size", "accuracy", "low", "high", *fields, "feature_seconds", "solve_seconds"]]
    return head + [
        [model_name(row.model), row.size, row.accuracy, *row.interval, *(getattr(row, field) for field in fields), *row.seconds]
        for row in rows
    ]
