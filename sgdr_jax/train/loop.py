"""The training loop: updates in order, and at each cycle's end validate, compare, save, perhaps stop. It never reads the config."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import Diverged, Preempted
from ..core.state import Hyper, TrainState
from ..core.types import Reduction
from ..schedules.plateau import lowered
from .model_selection import NO_LEEWAY, Leeway, StageProgress, judge
from .multi_step import spans


class StageCallbacks(NamedTuple):
    """The pieces of one stage, closed over data and compiled programs.

    Attributes:
        update: (state, hyper, n batches) → (state, sums of each, [n] or scalars); donates the state. One update for each batch, with
            that row of hyper: lr [n, groups], the others [n].
        validate: state → row with at least "accuracy" and "loss"; None without validation images.
        log: keeps one row.
        save: (state, standing) keeps a checkpoint.
        tick: told (updates done, smoothed loss).
        keep: told (state, validation row) at each cycle's end, before `save`.
        leave: asked after each span whether to save and stop there.
    """

    update: Callable[[TrainState, Hyper, Sequence[Any]], tuple[TrainState, dict[str, Any]]]
    validate: Callable[[TrainState], dict[str, Any]] | None
    log: Callable[[dict[str, Any]], None]
    save: Callable[[TrainState, StageProgress], None]
    tick: Callable[[int, float], None]
    keep: Callable[[TrainState, dict[str, Any]], None] = lambda state, row: None
    leave: Callable[[], bool] = lambda: False


LAG = 4
"""Spans whose sums may still be on the device: the host reads losses this many spans late, so that it never holds the device up."""


def fit(
    state: TrainState,
    standing: StageProgress,
    work: StageCallbacks,
    *,
    hyper: Hyper,
    batches: Iterator[Any],
    cycle: np.ndarray,
    copy: Callable[[Any], Any],
    stage: int,
    first: int = 0,
    patience: int | None = None,
    plateau: Reduction | None = None,
    save_every: int | None = None,
    leeway: Leeway = NO_LEEWAY,
    span: int = 1,
) -> tuple[TrainState, StageProgress]:
    """Trains one stage from update `first` to the end of the schedule, or until the validation loss stops falling.

    Args:
        state: before update `first`; used up.
        standing: as saved with that state, or a fresh one that carries the best of earlier stages.
        work: the stage's pieces.
        hyper: rows for all updates of the stage: lr [steps, groups], the others [steps]; host arrays.
        batches: training batches from update `first` on.
        cycle: cycle index of each update, int [steps].
        copy: makes fresh buffers of a tree, so that a best state survives donation.
        stage: index of the stage, for the record of the best.
        first: update to start at.
        patience: cycle ends without a lower validation loss until it stops; None never stops.
        plateau: when the rates of all later updates are lowered; None never.
        save_every: saves every so many updates besides the cycle ends.
        leeway: which state is the best.
        span: updates that go to the devices at once, see `spans`; the numbers and rows are the same.

    Returns:
        (state after the last update, where the stage stands).

    Raises:
        Diverged: when the loss is not finite, naming the update.
        Preempted: once `work.leave` has said so and the state is saved.
    """
    steps, late = len(cycle), _Late(work)
    for step, count in spans(cycle, span, save_every, first):
        used = Hyper(*(rows[step : step + count] for rows in hyper))
        used = used._replace(lr=np.float32(standing.lowered.scale) * used.lr) if plateau else used
        state, sums = work.update(state, used, list(islice(batches, count)))
        late.add(step, used, sums)
        done = step + count
        cycle_ends = done == steps or cycle[done] != cycle[step]
        if cycle_ends and work.validate:
            late.settle()
            row = {"kind": "eval", "step": done, "cycle": int(cycle[step]), "split": "valid"} | work.validate(state)
            work.log(row)
            work.keep(state, row)
            standing = judge(standing, state, row, copy, stage, int(cycle[step]), patience, leeway, last=done == steps)
            if plateau:
                standing = standing._replace(lowered=lowered(plateau, standing.lowered, row["loss"]))
        leave = work.leave()
        if cycle_ends or leave or (save_every and done % save_every == 0):
            late.settle()
            work.save(state, standing)
        if leave:
            raise Preempted(f"told to make room: saved after update {done} of {steps} of the stage")
        if standing.stopped:
            break
    return state, standing


class _Late:
    """Updates whose sums may still be on the devices: their rows are logged `LAG` spans late, or when the host has to know."""

    def __init__(self, work: StageCallbacks) -> None:
        self._work, self._smoothed, self._seen = work, 0.0, 0
        self._pending: deque[tuple[int, Hyper, dict[str, Any]]] = deque()

    def add(self, start: int, used: Hyper, sums: dict[str, Any]) -> None:
        """Takes a span's sums, and logs those of one before."""
        self._pending.append((start, used, sums))
        self.settle(LAG)

    def settle(self, limit: int = 0) -> None:
        """Logs until no more than so many spans are left. Raises Diverged when a loss is not finite."""
        while len(self._pending) > limit:
            start, used, sums = self._pending.popleft()
            losses, weights = (np.atleast_1d(np.asarray(sums[name], np.float64)) for name in ("loss", "weight"))
            means = (losses / np.maximum(weights, 1)).tolist()
            for step, row in enumerate(zip(means, used.lr.tolist(), used.momentum.tolist(), strict=True), start):
                self._log(step, *row)

    def _log(self, step: int, loss: float, lr: list[float], momentum: float) -> None:
        if not math.isfinite(loss):
            raise Diverged(
                f"the training loss is {loss} at update {step} of the stage; use a lower lr, or gradient clipping with optimizer.clip"
            )
        self._seen += 1
        self._smoothed = 0.98 * self._smoothed + 0.02 * loss
        self._work.log({"kind": "train", "step": step, "loss": loss, "lr": lr, "momentum": momentum})
        self._work.tick(step + 1, self._smoothed / (1 - 0.98**self._seen))
