"""Scaling of learning rates with the global batch size, for runs on more devices with the same images per device."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from ..core.experiment import Experiment, Stage
from ..core.learning_rates import Decay, Spread
from ..core.validation import require

Rule = Literal["linear", "sqrt", "none"]


def growth(rule: Rule, factor: float) -> float:
    """Return the factor of the rates for a batch that grows by `factor`: `factor` (linear), its square root, or 1.

    Linear suits SGD, with a warm-up for large factors (Goyal et al. 2017, "Accurate, large minibatch SGD"); the square root suits
    Adam (Malladi et al. 2022, "On the SDEs and scaling rules for adaptive gradient algorithms").
    """
    return {"linear": factor, "sqrt": factor**0.5, "none": 1.0}[rule]


def rescaled(experiment: Experiment, batch_size: int, rule: Rule = "linear") -> Experiment:
    """Return the experiment with another global batch size; given rates are scaled by the rule, found ones are found anew.

    Batch sizes of stages scale by the same factor. Where the batch grows `epoch_steps` shrinks by it, rounded up, so that epochs of small
    sets show about as many images as before. Raises InputError where one would not be whole.

    >>> from sgdr_jax import Experiment, Stage
    >>> from sgdr_jax.datasets import Synthetic
    >>> from sgdr_jax.models import ResNet18
    >>> from sgdr_jax.schedules import Constant
    >>> stage = Stage("all", lr=0.1, schedule=Constant(1))
    >>> grown = rescaled(Experiment("x", data=Synthetic(), model=ResNet18(), batch_size=32, stages=(stage,)), 128)
    >>> grown.batch_size, grown.stages[0].lr
    (128, 0.4)
    """
    factor = Fraction(batch_size, experiment.batch_size)
    times = growth(rule, float(factor))

    def grown(stage: Stage) -> Stage:
        size = None if stage.batch_size is None else stage.batch_size * factor
        whole = size is None or size.denominator == 1
        require(whole, f'stage "{stage.name}": batch_size', stage.batch_size, f"{factor} times that is not whole; choose another")
        return replace(stage, batch_size=None if size is None else int(size), lr=_rates(stage.lr, times))

    epoch_steps = math.ceil(experiment.epoch_steps / max(factor, 1))
    return replace(experiment, batch_size=batch_size, epoch_steps=epoch_steps, stages=tuple(grown(stage) for stage in experiment.stages))


def _rates(lr: object, times: float) -> object:
    if isinstance(lr, tuple):
        return tuple(rate * times for rate in lr)
    if isinstance(lr, Spread):
        return Spread(lr.lo * times, lr.hi * times)
    if isinstance(lr, Decay):
        return replace(lr, lr=lr.lr * times)
    return lr * times if isinstance(lr, int | float) else lr
