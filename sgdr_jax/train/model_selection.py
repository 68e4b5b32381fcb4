"""Model selection: which state of a run is the best on the validation images, and when a stage has stopped improving."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.state import TrainState, Tree
from ..schedules.plateau import Lowered


class Score(NamedTuple):
    """How a state does on the validation images."""

    accuracy: float
    loss: float

    def beats(self, other: Score | None) -> bool:
        """Higher accuracy, or the same and lower loss; anything beats None, nothing beats with a loss that is not finite."""
        return math.isfinite(self.loss) and (other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss))


class Best(NamedTuple):
    """The best state so far, over all stages; `highest` is the highest accuracy so far, its own unless there is a `Leeway`."""

    score: Score
    params: Tree
    stats: Tree
    stage: int
    cycle: int
    highest: float


class Leeway(NamedTuple):
    """How far a later state may lie below the highest accuracy so far and still be the best: `errors` standard errors, √(a (1 - a) / n).

    Of states that n validation images cannot tell apart the one that was trained longest is the best. 0: only a better one is.
    Source: the one-standard-error rule of Breiman et al. 1984.
    """

    errors: float = 0.0
    n: int = 1

    def allows(self, score: Score, highest: float) -> bool:
        """Whether the score is as good as the highest accuracy, as far as can be told; nothing is with a loss that is not finite."""
        return math.isfinite(score.loss) and score.accuracy >= highest - self.errors * math.sqrt(highest * (1 - highest) / self.n)


class StageProgress(NamedTuple):
    """Where a stage stands at a cycle's end; with the state, all that a resumed run needs.

    Attributes:
        best: best state of the run so far, or None before the first validation.
        lowest: lowest validation loss of this stage.
        stale: cycle ends in a row that did not lower it.
        stopped: why the stage ended early, or "".
        lowered: how far a plateau schedule has lowered the rates.
        lr: the stage's peak rates, one for each trained group.
    """

    best: Best | None = None
    lowest: float = math.inf
    stale: int = 0
    stopped: str = ""
    lowered: Lowered = Lowered()
    lr: tuple[float, ...] = ()


NO_LEEWAY = Leeway()


def judge(
    standing: StageProgress,
    state: TrainState,
    row: dict[str, float],
    copy: Callable[[Any], Any],
    stage: int,
    cycle: int,
    patience: int | None,
    leeway: Leeway,
    *,
    last: bool,
) -> StageProgress:
    """The standing after a cycle's validation."""
    score = Score(row["accuracy"], row["loss"])
    best = standing.best
    highest = max(score.accuracy, best.highest) if best else score.accuracy
    if leeway.allows(score, highest) if leeway.errors else score.beats(best.score if best else None):
        best = Best(score, copy(state.params), copy(state.stats), stage, cycle, highest)
    lower = score.loss < standing.lowest
    stale = 0 if lower else standing.stale + 1
    reason = ""
    if patience is not None and stale >= patience and not last:
        times = f"{stale} cycle end{'s' * (stale > 1)}"
        reason = f"validation loss {score.loss:.4f} after cycle {cycle}, not below {standing.lowest:.4f} for {times}"
    return standing._replace(best=best, lowest=min(standing.lowest, score.loss), stale=stale, stopped=reason)
