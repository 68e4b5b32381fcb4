"""The training loop: updates in order, and at each cycle's end validate, compare, save, perhaps stop. It never reads the config."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .schedules.plateau import Lowered, lowered
from .state import Hyper, TrainState, Tree
from .types import Diverged, Reduction


class Score(NamedTuple):
    """How a state does on the validation images."""

    accuracy: float
    loss: float

    def beats(self, other: Score | None) -> bool:
        """Higher accuracy, or the same and lower loss; anything beats None, nothing beats with a loss that is not finite."""
        return math.isfinite(self.loss) and (other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss))


class Best(NamedTuple):
    """The best state so far, over all stages."""

    score: Score
    params: Tree
    stats: Tree
    stage: int
    cycle: int


class Standing(NamedTuple):
    """Where a stage stands at a cycle's end; with the state, all that a resumed run needs.

    Attributes:
        best: best state of the run so far, or None before the first validation.
        lowest: lowest validation loss of this stage.
        stale: cycle ends in a row that did not lower it.
        stopped: why the stage ended early, or "".
        lowered: how far a plateau schedule has lowered the rates.
    """

    best: Best | None = None
    lowest: float = math.inf
    stale: int = 0
    stopped: str = ""
    lowered: Lowered = Lowered()


class Work(NamedTuple):
    """The pieces of one stage, closed over data and compiled programs.

    Attributes:
        update: (state, hyper, batch) → (state, sums); donates the state.
        validate: state → row with at least "accuracy" and "loss"; None without validation images.
        log: keeps one row.
        save: (state, standing) keeps a checkpoint.
        tick: told (updates done, smoothed loss).
        keep: told (state, validation row) at each cycle's end, before `save`.
    """

    update: Callable[[TrainState, Hyper, Any], tuple[TrainState, dict[str, Any]]]
    validate: Callable[[TrainState], dict[str, Any]] | None
    log: Callable[[dict[str, Any]], None]
    save: Callable[[TrainState, Standing], None]
    tick: Callable[[int, float], None]
    keep: Callable[[TrainState, dict[str, Any]], None] = lambda state, row: None


LAG = 4
"""Updates whose sums may still be on the device: the host reads a loss this many updates late, so that it never holds the device up."""


def fit(
    state: TrainState,
    standing: Standing,
    work: Work,
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
) -> tuple[TrainState, Standing]:
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

    Returns:
        (state after the last update, where the stage stands).

    Raises:
        Diverged: when the loss is not finite, naming the update.
    """
    steps = len(cycle)
    pending: deque[tuple[int, Hyper, dict[str, Any]]] = deque()
    smoothed, seen = 0.0, 0

    def settle(limit: int) -> None:
        nonlocal smoothed, seen
        while len(pending) > limit:
            step, used, sums = pending.popleft()
            loss = float(sums["loss"]) / max(float(sums["weight"]), 1.0)
            if not math.isfinite(loss):
                raise Diverged(
                    f"the training loss is {loss} at update {step} of the stage; use a lower lr, or gradient clipping with optimizer.clip"
                )
            seen += 1
            smoothed = 0.98 * smoothed + 0.02 * loss
            work.log({"kind": "train", "step": step, "loss": loss, "lr": used.lr.tolist(), "momentum": float(used.momentum)})
            work.tick(step + 1, smoothed / (1 - 0.98**seen))

    for step in range(first, steps):
        used = Hyper(*(rows[step] for rows in hyper))
        used = used._replace(lr=np.float32(standing.lowered.scale) * used.lr) if plateau else used
        state, sums = work.update(state, used, next(batches))
        pending.append((step, used, sums))
        settle(LAG)
        done = step + 1
        cycle_ends = done == steps or cycle[done] != cycle[step]
        if cycle_ends and work.validate:
            settle(0)
            row = {"kind": "eval", "step": done, "cycle": int(cycle[step]), "split": "valid"} | work.validate(state)
            work.log(row)
            work.keep(state, row)
            standing = _judge(standing, state, row, copy, stage, int(cycle[step]), patience, last=done == steps)
            if plateau:
                standing = standing._replace(lowered=lowered(plateau, standing.lowered, row["loss"]))
        if cycle_ends or (save_every and done % save_every == 0):
            settle(0)
            work.save(state, standing)
        if standing.stopped:
            break
    return state, standing


def _judge(
    standing: Standing,
    state: TrainState,
    row: dict[str, float],
    copy: Callable[[Any], Any],
    stage: int,
    cycle: int,
    patience: int | None,
    *,
    last: bool,
) -> Standing:
    """The standing after a cycle's validation."""
    score = Score(row["accuracy"], row["loss"])
    best = standing.best
    if score.beats(best.score if best else None):
        best = Best(score, copy(state.params), copy(state.stats), stage, cycle)
    lower = score.loss < standing.lowest
    stale = 0 if lower else standing.stale + 1
    reason = ""
    if patience is not None and stale >= patience and not last:
        times = f"{stale} cycle end{'s' * (stale > 1)}"
        reason = f"validation loss {score.loss:.4f} after cycle {cycle}, not below {standing.lowest:.4f} for {times}"
    return standing._replace(best=best, lowest=min(standing.lowest, score.loss), stale=stale, stopped=reason)
