"""Several heads at once: each has the numbers of its stage alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from sgdr_jax import AdamW, Eval, Experiment, InputError, Sgd, Sgdr, Stage
from sgdr_jax.augment import Rotate
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.errors import Diverged
from sgdr_jax.core.state import TrainState
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Constant, Plateau
from sgdr_jax.train.context import RunContext, prepare
from sgdr_jax.train.fit_heads import Fitted, Head, fit_heads
from sgdr_jax.train.loop import Row, StageCallbacks, fit
from sgdr_jax.train.model_selection import StageProgress
from sgdr_jax.train.stage import loop_plan, open_stage
from sgdr_jax.train.stage_inputs import stage_batches

from ..helpers import Tiny

QUIET = NullConsole()
STAGE = Stage("head", 8, train="head", lr=0.005, schedule=Sgdr(2, 1, 2), precompute=True, views=2)


def experiment(stage: Stage = STAGE, **fields: Any) -> Experiment:
    common: dict[str, Any] = {"name": "heads", "model": Tiny(hidden=6), "augment": (Rotate(20),), "batch_size": 8, "optimizer": AdamW()}
    data = Synthetic(classes=3, train=44, valid=20, side=8)
    return Experiment(**common | {"data": data, "evaluate": Eval(batch_size=8)} | fields, stages=(stage,))


def contexts(experiments: Sequence[Experiment]) -> list[RunContext]:
    """Runs over one body, which a seed would draw anew without weights."""
    first = prepare(experiments[0])
    rest = [prepare(e, like=first) for e in experiments[1:]]
    body = first.network
    own = [c.network._replace(params=body.params | {"head": c.network.params["head"]}, stats=body.stats) for c in rest]
    return [first, *(c._replace(network=network) for c, network in zip(rest, own, strict=True))]


def at_once(runs: Sequence[RunContext]) -> list[Fitted]:
    rates = [c.plan.stages[0].lr or () for c in runs]
    return fit_heads([Head(c, c.network, StageProgress(lr=lr)) for c, lr in zip(runs, rates, strict=True)], 0, QUIET)


def alone(context: RunContext) -> tuple[TrainState, StageProgress, list[Row]]:
    """The stage as `runs.run` trains it."""
    p, rows = context.plan.stages[0], []
    stage = open_stage(context, p, context.network, QUIET)
    copied = partial(jax.tree.map, np.array)
    callbacks = StageCallbacks(stage.updates, stage.validate, lambda s: copied(s.network(8)), rows.append, lambda *_: None)
    batches, lr = stage_batches(context, p, 0, p.steps), p.lr or ()
    state, progress = fit(stage.state, StageProgress(lr=lr), loop_plan(context, p, lr), callbacks, batches)
    return state, progress, rows


def check(runs: Sequence[RunContext]) -> list[Fitted]:
    found = at_once(runs)
    for context, fitted in zip(runs, found, strict=True):
        state, progress, rows = alone(context)
        close(fitted.network[:2], (state.params, state.stats))
        assert fitted.progress.best and progress.best
        close(fitted.progress.best.network[:2], progress.best.network[:2])
        np.testing.assert_allclose(fitted.progress.best.score, progress.best.score, atol=1e-5)
        assert fitted.progress.best.cycle == progress.best.cycle and fitted.progress.lowered.scale == progress.lowered.scale
        assert bool(fitted.progress.stopped) == bool(progress.stopped)
        np.testing.assert_allclose(fitted.losses, [row["loss"] for row in rows if row["kind"] == "train"], atol=1e-5)
        np.testing.assert_allclose([e["loss"] for e in fitted.evals], [row["loss"] for row in rows if row["kind"] == "eval"], atol=1e-5)
    return found


def close(a: Any, b: Any) -> None:
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_rates_seeds_decay_smoothing_and_balance() -> None:
    base = experiment()
    found = check(
        contexts(
            [
                base,
                replace(base, stages=(replace(STAGE, lr=0.001),)),
                replace(base, seed=1),
                replace(base, optimizer=AdamW(0.8, weight_decay=0.5)),
                replace(base, label_smoothing=0.2, balance=1.0, class_weights=0.5, seed=2),
            ]
        )
    )
    assert len({fitted.losses[-1] for fitted in found}) == len(found)


def test_plain_activations_and_one_head() -> None:
    stage = replace(STAGE, augment=False, views=0)
    check(contexts([experiment(stage, optimizer=Sgd()), experiment(stage, optimizer=Sgd(0.5), seed=4)]))
    check(contexts([experiment(stage)]))


def test_a_head_that_stops_or_lowers_its_rates_does_so_alone() -> None:
    plateau = Plateau(4, factor=0.5, patience=0, threshold=0.9)  # a rule that fires at most cycle ends
    stage = replace(STAGE, schedule=plateau, lr=0.004)
    found = check(contexts([experiment(stage), experiment(replace(stage, lr=0.001)), experiment(replace(stage, patience=1))]))
    assert found[0].progress.lowered.scale < 1 and found[2].progress.stopped
    assert len(found[2].losses) < len(found[0].losses) == len(found[1].losses)


def test_a_head_that_diverges_leaves_the_others_alone() -> None:
    base = experiment(replace(STAGE, schedule=Constant(2)), optimizer=Sgd())
    runs = contexts([replace(base, stages=(replace(base.stages[0], lr=lr),)) for lr in (1e30, 0.01)])
    ended, fine = at_once(runs)
    with pytest.raises(Diverged) as error:
        alone(runs[0])
    assert str(ended.diverged) == str(error.value) and fine.diverged is None
    state, _, _ = alone(runs[1])
    close(fine.network[:2], (state.params, state.stats))


@pytest.mark.parametrize(
    "change", [{"batch_size": 4}, {"schedule": Sgdr(3)}, {"views": 1}, {"optimizer": Sgd()}, {"precompute": False}, {"train": 1}]
)
def test_what_differs_in_more_than_numbers_is_refused(change: dict[str, Any]) -> None:
    runs = contexts([experiment(), experiment(replace(STAGE, **change))])
    with pytest.raises(InputError, match="differ in numbers only"):
        at_once(runs)


def test_heads_stand_on_one_body() -> None:
    first, second = contexts([experiment(), experiment(seed=1)])
    moved = second.network._replace(params=jax.tree.map(lambda a: a + 1, second.network.params))
    with pytest.raises(InputError, match="one body"):
        fit_heads([Head(first, first.network, StageProgress()), Head(second, moved, StageProgress())], 0, QUIET)
