"""The training loop of a stage: updates in order; at each cycle's end validation, comparison and a checkpoint.

The loop follows a `LoopPlan` and acts through `StageCallbacks`; what it trains, on which devices and into which files is theirs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import Diverged, Preempted
from ..core.state import Hyper, NetworkState, TrainState
from .model_selection import Score, SelectionRules, StageProgress, judge
from .multi_step import spans

LAG = 4
"""Updates whose sums may still be on the devices: the host reads losses this late, or a span late if that is longer, so the devices never
wait for it."""

PATIENCE = 5
"""Updates in a row that may be skipped, since their loss or gradients are not finite; with the last of them the stage has diverged."""

FIX = "use a lower lr, or gradient clipping with optimizer.clip, in another --run"

Row = dict[str, Any]
"""A row of metrics.jsonl."""


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
        return done == len(self.cycle) or bool(self.cycle[done] != self.cycle[done - 1])

    def saves(self, done: int) -> bool:
        """Return whether a checkpoint is due after `done` updates."""
        return self.ends_cycle(done) or (self.save_every is not None and done % self.save_every == 0)


class StageCallbacks(NamedTuple):
    """The actions of the loop, closed over data, compiled programs and the run folder.

    Attributes:
        update: (state, hyper, n batches) → (state, sums of each update, scalars or [n or more] of which the first n count); one update per
            batch and row of hyper (lr [n, groups], the others [n]). Donates the state.
        validate: state → metrics with at least "accuracy" and "loss"; None without validation images.
        copy_network: the network of a state in buffers of its own, which survive the donation of the state.
        log: keeps a row.
        save: (state, progress) keeps a checkpoint.
        tick: receives (updates done, smoothed loss).
        keep: receives (state, validation row) at each cycle's end, before `save`.
        leave: whether to save and stop, asked after each span.
    """

    update: Callable[[TrainState, Hyper, Sequence[Any]], tuple[TrainState, Mapping[str, Any]]]
    validate: Callable[[TrainState], Mapping[str, Any]] | None
    copy_network: Callable[[TrainState], NetworkState]
    log: Callable[[Row], None]
    save: Callable[[TrainState, StageProgress], None]
    tick: Callable[[int, float], None] = lambda done, loss: None
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
        Diverged: if `PATIENCE` updates in a row were skipped, or the last validation loss is not finite and no better state is kept.
        Preempted: after `callbacks.leave` has returned True and the state is saved.
    """
    steps, losses, sound = len(plan.cycle), _LossLog(callbacks, max(LAG // plan.span, 1)), True
    section = plan.cycle if plan.section is None else plan.section
    for start, count in spans(section, plan.span, plan.save_every, first):
        done, cycle = start + count, int(plan.cycle[start])
        hyper = Hyper(*(rows[start:done] for rows in plan.hyper))
        hyper = hyper._replace(lr=np.float32(progress.lowered.scale) * hyper.lr)
        state, sums = callbacks.update(state, hyper, list(islice(batches, count)))
        losses.add(start, hyper, sums)
        if plan.ends_cycle(done) and callbacks.validate:
            losses.flush()
            row: Row = {"kind": "eval", "step": done, "cycle": cycle, "split": "valid", **callbacks.validate(state)}
            callbacks.log(row)
            sound = math.isfinite(row["loss"])
            if sound:
                callbacks.keep(state, row)
            score = Score.of(row)
            progress = judge(plan.rules, progress, score, cycle, partial(callbacks.copy_network, state), last=done == steps)
            if error := unsound(plan, progress, row["loss"], done, last_skipped(losses.streak)):
                raise error
        leave = callbacks.leave()
        if leave or plan.saves(done):
            losses.flush()
            if leave or (sound and not losses.streak):  # not of a state that may have diverged, which a resumed run would not leave
                callbacks.save(state, progress)
        if leave:
            raise Preempted(f"preempted: saved after update {done} of {steps} of the stage")
        if progress.stopped:
            break
    return state, progress


def diverged(loss: float, step: int) -> Diverged:
    """Return the error of the last of `PATIENCE` updates in a row that were skipped."""
    of = " with gradients that are not finite" if math.isfinite(loss) else ""
    return Diverged(f"the training loss is {loss}{of} at update {step} of the stage, the fifth update in a row to be skipped; {FIX}")


def unsound(plan: LoopPlan, progress: StageProgress, loss: float, done: int, skipped: str = "") -> Diverged | None:
    """Return the error of a stage that ends, after `done` updates, with a validation loss that is not finite and without a better state."""
    ends = done == len(plan.cycle) or progress.stopped
    if math.isfinite(loss) or not ends or (progress.best and plan.keeps_best):
        return None
    return Diverged(f"the validation loss is {loss} after cycle {plan.cycle[done - 1]}{skipped}; {FIX}")


def last_skipped(streak: int) -> str:
    """Say that the last updates were skipped, for messages; "" for none."""
    return f", and the last {streak} updates were skipped" if streak else ""


class _LossLog:
    """Logs the losses of updates a few spans late, while the devices go on with later ones."""

    def __init__(self, callbacks: StageCallbacks, late: int) -> None:
        self._callbacks, self._late, self._smoothed, self._seen = callbacks, late, 0.0, 0
        self._pending: deque[tuple[int, Hyper, Mapping[str, Any]]] = deque()
        self.streak = 0
        """Updates in a row that were skipped, of those logged."""

    def add(self, start: int, hyper: Hyper, sums: Mapping[str, Any]) -> None:
        """Queue the sums of a span that begins with update `start`, and log those that are old enough."""
        self._pending.append((start, hyper, sums))
        self.flush(self._late)

    def flush(self, keep: int = 0) -> None:
        """Log all spans but the last `keep`. Raises Diverged if `PATIENCE` updates in a row were skipped."""
        while len(self._pending) > keep:
            start, hyper, sums = self._pending.popleft()
            columns = (np.atleast_1d(np.asarray(sums[name], np.float64))[: len(hyper.lr)] for name in ("loss", "weight", "skipped"))
            losses, weights, skipped = columns
            means = (losses / np.maximum(weights, 1)).tolist()
            rows = zip(means, hyper.lr.tolist(), hyper.momentum.tolist(), skipped.tolist(), strict=True)
            for step, (loss, lr, momentum, skip) in enumerate(rows, start):
                row: Row = {"kind": "train", "step": step, "loss": loss, "lr": lr, "momentum": momentum}
                self._log(row | {"skipped": True} if skip else row)

    def _log(self, row: Row) -> None:
        loss, step = row["loss"], row["step"]
        self._callbacks.log(row)
        self.streak = self.streak + 1 if "skipped" in row else 0
        if self.streak == PATIENCE:
            raise diverged(loss, step)
        if not self.streak:
            self._seen += 1
            self._smoothed = 0.98 * self._smoothed + 0.02 * loss
        self._callbacks.tick(step + 1, self._smoothed / (1 - 0.98 ** max(self._seen, 1)))
