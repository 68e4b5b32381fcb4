"""Times updates on this machine before a run, and converts minutes to epochs."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import jax
import numpy as np

from ..core.console import NullConsole
from ..core.experiment import Experiment
from ..core.plan import plan
from ..core.state import Hyper
from ..data.load import canvas_side
from ..datasets import Synthetic
from ..train.context import prepare
from ..train.stage import open_stage
from ..train.stage_inputs import hyper_rows, stage_batches


def update_seconds(experiment: Experiment, classes: int, updates: int = 5) -> float:
    """Measure the median time in seconds of an update of the experiment's last stage, on synthetic images.

    Args:
        experiment: supplies model, batch size, stages and augmentation.
        classes: number of classes.
        updates: number of updates to time, after first ones that compile.
    """
    last = experiment.stages[-1]
    side = canvas_side(experiment.canvas, max(last.sizes))
    data = Synthetic(classes=classes, train=max(experiment.batch_size, classes), valid=classes, test=classes, side=side)
    context = prepare(replace(experiment, data=data, stages=(replace(last, lr=0.0),)))
    p = context.plan.stages[0]
    stage = open_stage(context, p, context.network, NullConsole())
    batches = [next(stage_batches(context, p, 0, 1, with_images=False))] * stage.span
    rows = Hyper(*(np.repeat(column[:1], len(batches), axis=0) for column in hyper_rows(context, p, (0.0,) * len(p.trained))))
    state, seconds = stage.state, []
    for _ in range(1 + -(-updates // len(batches))):
        start = time.perf_counter()
        state, sums = stage.update(state, rows, batches)
        jax.block_until_ready(sums)
        seconds.append((time.perf_counter() - start) / len(batches))
    return statistics.median(seconds[1:])


def epochs_within(minutes: float, seconds: float, experiment: Experiment, images: int, held_out: int) -> float:
    """Return how many epochs of the last stage, and of its refit if there is one, fit into a time; other work is not counted.

    Args:
        minutes: the time.
        seconds: per update.
        experiment: supplies the last stage.
        images: number of training images.
        held_out: number of validation images, which a refit trains on as well.
    """
    epoch = plan(experiment, images).stages[-1].steps_per_epoch
    refit = plan(replace(experiment, refit=False), images + held_out).stages[-1].steps_per_epoch if experiment.refit else 0
    return 60 * minutes / (seconds * (epoch + refit))
