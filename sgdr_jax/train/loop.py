"""The training loop of a stage: updates in order; at each cycle's end validation, comparison and a checkpoint.

The loop follows a `LoopPlan` and acts through `StageCallbacks`; what it trains, on which devices and into which files is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import Diverged, Preempted
from ..core.state import Hyper, NetworkState, TrainState
from .loss_log import FIX, LossLog, Row
from .model_selection import Score, SelectionRules, StageProgress, judge
from .multi_step import spans

LAG = 4
"""Updates in flight: the host reads losses this many updates late, or one span late if that is longer, so the devices never wait for it."""


class LoopPlan(NamedTuple):
    """The part of a stage's plan that the loop follows.

    Attributes:
        hyper: numbers of every update: lr [steps, trained groups], the others [steps]; host arrays.
        cycle: cycle index of every update, int [steps].
        rules: which state is the best, when to lower the rates, when to stop.
        span: most updates dispatched at once, see `multi_step.spans`; numbers and rows do not depend on it.
        save_every: updates between checkpoints, in addition to those at cycle ends; None for cycle ends only.
        section: updates of different sections do not share a span, int [steps]; None for cycles as sections.
        keeps_best: whether the run goes on with its best state, not with the last one.
    """

    hyper: Hyper
    cycle: np.ndarray
    rules: SelectionRules
    span: int = 1
    save_every: int | None = None
    section: np.ndarray | None = None
    keeps_best: bool = True

    def ends_cycle(self, done: int) -> bool:
        """Return whether a cycle ends after `done` ≥ 1 updates."""
        return cycle_ends(self.cycle, done)

    def saves(self, done: int) -> bool:
        """Return whether a checkpoint is due after `done` updates."""
        return is_due(self.cycle, self.save_every, done)


def cycle_ends(cycle: np.ndarray, done: int) -> bool:
    """Return whether a cycle ends after `done` ≥ 1 updates; see `LoopPlan`."""
    return done == len(cycle) or bool(cycle[done] != cycle[done - 1])


def is_due(cycle: np.ndarray, save_every: int | None, done: int) -> bool:
    """Return whether a checkpoint is due after `done` ≥ 1 updates: where a cycle ends, and every `save_every` updates; see `LoopPlan`."""
    return cycle_ends(cycle, done) or (save_every is not None and done % save_every == 0)


class StageCallbacks(NamedTuple):
    """The actions of the loop, closed over data, compiled programs and the run folder.

    Attributes:
        update: (state, hyper, n batches) → (state, sums of each update, scalars or [n or more] of which the first n count); one update per
            batch and row of hyper (lr [n, groups], the others [n]). Donates the state.
        validate: state → metrics with at least "accuracy" and "loss"; None without validation images.
        copy_network: the network of a state in buffers of its own, which survive the donation of the state.
        log: keeps a row.
        save: (state, progress) keeps a checkpoint.
        tick: receives the smoothed loss after each update.
        keep: receives (state, validation row) at each cycle's end, before `save`.
        leave: whether to save and stop, asked after each span; what follows a skipped update is awaited.
    """

    update: Callable[[TrainState, Hyper, Sequence[Any]], tuple[TrainState, Mapping[str, Any]]]
    validate: Callable[[TrainState], Mapping[str, Any]] | None
    copy_network: Callable[[TrainState], NetworkState]
    log: Callable[[Row], None]
    save: Callable[[TrainState, StageProgress], None]
    tick: Callable[[float], None] = lambda loss: None
    keep: Callable[[TrainState, Row], None] = lambda state, row: None
    leave: Callable[[], bool] = lambda: False


def fit(
    state: TrainState, progress: StageProgress, plan: LoopPlan, callbacks: StageCallbacks, batches: Iterator[Any], first: int = 0
) -> tuple[TrainState, StageProgress]:
    """Train a stage from update `first` to the end of its plan, or until the validation loss stops falling.

    Args:
        state: before update `first`; used up.
        progress: as saved with that state, or that of a new stage with the best state of earlier ones.
        plan: what to do in each update.
        callbacks: how to do it.
        batches: training batches from update `first` on.
        first: update to start at.

    Returns:
        (state after the last update, progress of the stage).

    Raises:
        Diverged: if too many updates in a row (`loss_log.PATIENCE`), or all of the stage, were skipped, or the last validation loss is
            not finite and no better state is kept.
        Preempted: after `callbacks.leave` has returned True and the state is saved.
    """
    steps, loss_log, finite = len(plan.cycle), LossLog(callbacks.log, callbacks.tick, max(LAG // plan.span, 1)), True
    sections = plan.cycle if plan.section is None else plan.section
    for start, count in spans(sections, plan.span, plan.save_every, first):
        done, cycle = start + count, int(plan.cycle[start])
        hyper = Hyper(*(rows[start:done] for rows in plan.hyper))
        hyper = hyper._replace(lr=np.float32(progress.lowered.scale) * hyper.lr)
        state, sums = callbacks.update(state, hyper, list(islice(batches, count)))
        loss_log.add(start, hyper, sums)
        validate = callbacks.validate if plan.ends_cycle(done) else None
        if validate or done == steps:
            loss_log.flush()
            if loss_log.streak >= steps:
                raise Diverged(f"all {steps} updates of the stage were skipped, as their loss, gradients or rates are out of range; {FIX}")
        if validate:
            row: Row = {"kind": "eval", "step": done, "cycle": cycle, "split": "valid", **validate(state)}
            callbacks.log(row)
            finite = math.isfinite(row["loss"])
            if finite:
                callbacks.keep(state, row)
            score = Score.of(row)
            progress = judge(plan.rules, progress, score, cycle, partial(callbacks.copy_network, state), last=done == steps)
            if not finite and (done == steps or progress.stopped) and not (progress.best and plan.keeps_best):
                skipped = f", and the last {loss_log.streak} updates were skipped" if loss_log.streak else ""
                raise Diverged(f"the validation loss is {row['loss']} after cycle {cycle}{skipped}; {FIX}")
        leave = callbacks.leave()
        if leave or plan.saves(done):
            loss_log.flush()
            settled = not loss_log.streak  # A resumed run would count skipped updates anew: at most four more are made first.
            leave = leave and settled
            if settled and (leave or finite):  # otherwise not of a state that may have diverged, which a resumed run would not leave
                callbacks.save(state, progress)
        if leave:
            raise Preempted(f"preempted: saved after update {done} of {steps} of the stage")
        if progress.stopped:
            break
    return state, progress
