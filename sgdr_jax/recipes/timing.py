"""How long an update takes on this machine, measured before there is a run; and how many epochs fit into some minutes."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import jax

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
    """Median time in seconds of an update of the experiment's last stage, its images made up, after the first, which compiles.

    Args:
        classes: number of classes.
        updates: how many are timed.
    """
    last = experiment.stages[-1]
    side = canvas_side(experiment.canvas, max(last.size) if isinstance(last.size, tuple) else last.size)
    data = Synthetic(classes=classes, train=max(experiment.batch_size, classes), valid=classes, test=classes, side=side)
    context = prepare(replace(experiment, data=data, stages=(replace(last, lr=0.0),)))
    p = context.plan.stages[0]
    stage = open_stage(context, p, context.params, context.stats, NullConsole())
    rows, state, spent = hyper_rows(context, p, (0.0,) * len(p.trained)), stage.state, []
    for step, fed in zip(range(1 + updates), stage_batches(context, p, 0, max(p.steps, 1 + updates)), strict=False):
        began = time.perf_counter()
        state, sums = stage.update(state, Hyper(*(column[min(step, p.steps - 1)] for column in rows)), fed)
        jax.block_until_ready(sums)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent[1:])


def epochs_within(minutes: float, seconds: float, experiment: Experiment, images: int, held_out: int) -> float:
    """Epochs of the last stage that take so many minutes at `seconds` an update, with those of a refit; other work is not counted.

    Args:
        images: for training.
        held_out: for validation, which a refit trains on as well.
    """
    epoch = plan(experiment, images).stages[-1].steps_per_epoch
    again = plan(experiment, images + held_out).stages[-1].steps_per_epoch if experiment.refit else 0
    return 60 * minutes / (seconds * (epoch + again))
