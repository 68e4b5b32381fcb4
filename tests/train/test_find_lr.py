"""The learning-rate finder of a stage: with the numbers that the rate it finds is used with."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sgdr_jax import AdamW, Sgd, Stage
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Eval
from sgdr_jax.core.learning_rates import Find
from sgdr_jax.core.optimizers import Optimizer
from sgdr_jax.core.state import Hyper
from sgdr_jax.core.types import Schedule
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Combined, Constant, Cosine, OneCycle, Sgdr
from sgdr_jax.train.context import RunContext, prepare
from sgdr_jax.train.find_lr import find_lr
from sgdr_jax.train.stage import StageRun

from ..helpers import experiment, same_bits

FIND = Find(steps=8, orders=1, epochs=2)


@pytest.fixture(scope="module")
def context() -> RunContext:
    data = Synthetic(classes=3, train=32, valid=8, side=8)
    return prepare(experiment(Stage("all", size=8, lr=FIND, schedule=Constant(4)), data=data, evaluate=Eval(batch_size=8)))


def used(context: RunContext, schedule: Schedule, optimizer: Optimizer) -> tuple[np.ndarray, np.ndarray]:
    """Momentum and weight decay of the finder's updates."""
    seen: list[Hyper] = []

    def update(state: Any, hyper: Hyper, batches: Any) -> tuple[Any, dict[str, np.ndarray]]:
        seen.append(hyper)
        return state, {"loss": np.ones(len(batches)), "weight": np.ones(len(batches)), "skipped": np.zeros(len(batches))}

    (p,) = context.plan.stages
    p = replace(p, table=schedule.table(p.steps_per_epoch), optimizer=optimizer)
    find_lr(context, p, StageRun(np.zeros(1), update, None, 1), FIND, NullConsole())  # pyright: ignore[reportArgumentType]
    momentum, decay = (np.unique([row[name] for row in (hyper._asdict() for hyper in seen)]) for name in ("momentum", "weight_decay"))
    return momentum, decay


@pytest.mark.parametrize(
    ("schedule", "momentum", "decay"),
    [
        (OneCycle(4, momentum=(0.95, 0.5)), 0.5, 1e-2),
        (Combined(Sgdr(2, 2, warmup=0.5), momentum=(0.99, 0.9), weight_decay=Constant(4)), 0.9, 1e-2),
        (Combined(Sgdr(1, 4, warmup=0.5), weight_decay=Cosine(4)), 0.8, 5e-3),
    ],
)
def test_the_finder_has_the_momentum_and_the_weight_decay_of_the_highest_rate(
    context: RunContext, schedule: Schedule, momentum: float, decay: float
) -> None:
    """It had the optimizer's, which the schedule replaces."""
    found = used(context, schedule, Sgd(0.8, weight_decay=1e-2))
    np.testing.assert_allclose(found, [[momentum], [decay]], rtol=1e-6)


@pytest.mark.parametrize("optimizer", [Sgd(0.9, weight_decay=1e-4), AdamW()])
def test_where_a_schedule_changes_neither_they_are_the_optimizers_own(context: RunContext, optimizer: Optimizer) -> None:
    own = tuple(np.array([x], np.float32) for x in (optimizer.momentum, optimizer.weight_decay))
    assert same_bits(used(context, Sgdr(1, 4), optimizer), own)
