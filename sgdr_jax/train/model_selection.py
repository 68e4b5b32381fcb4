"""Model selection: which state of a run is the best on the validation images, and when a stage has stopped improving."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.state import NetworkState
from ..core.types import Reduction
from ..evaluation.metrics import judged_by
from ..schedules.plateau import Lowered, lowered


class Score(NamedTuple):
    """Accuracy and loss on the validation images; for multi-label data mean average precision stands in for the accuracy."""

    accuracy: float
    loss: float

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Score:
        """Return the score of a validation row; see `metrics.judged_by`. The loss is NaN where the row has none that is finite."""
        return cls(row[judged_by(row)], math.nan if row["loss"] is None else row["loss"])

    @property
    def rank(self) -> tuple[float, float]:
        """Sort key of scores with a finite loss: the higher accuracy is better, of equal ones the lower loss."""
        return self.accuracy, -self.loss

    def beats(self, other: Score | None) -> bool:
        """Return whether the `rank` is higher. Any score beats None; a score whose loss is not finite beats nothing."""
        return math.isfinite(self.loss) and (other is None or self.rank > other.rank)


def best_first(scores: Sequence[Score]) -> list[int]:
    """Return the positions of the scores, the best first and the earlier of equals first; without those whose loss is not finite.

    Example:
        >>> best_first([Score(0.8, 0.5), Score(0.9, 0.4), Score(0.9, 0.3), Score(1.0, math.nan)])
        [2, 1, 0]
    """
    finite = [i for i, score in enumerate(scores) if math.isfinite(score.loss)]
    return sorted(finite, key=lambda i: scores[i].rank, reverse=True)  # keeps the order of equals


def best_score(rows: Iterable[Mapping[str, Any]]) -> Score | None:
    """Return the score of the best of these validation rows; None where no loss is finite."""
    scores = [Score.of(row) for row in rows]
    return next((scores[i] for i in best_first(scores)), None)


class Best(NamedTuple):
    """The best state of a run so far.

    Attributes:
        score: its validation figures.
        network: its parameters and statistics.
        stage, cycle: where it was reached, from 0.
        highest: highest accuracy of any state so far; above `score.accuracy` only with a `Leeway`.
    """

    score: Score
    network: NetworkState
    stage: int
    cycle: int
    highest: float


class Leeway(NamedTuple):
    """Distance below the highest accuracy a within which a later state is still the best: `errors` · √(max(a (1 - a), 1 / n) / n).

    Among states that n validation images cannot tell apart, the one that was trained longest is the best. With 0 errors a later state
    must be better. Source: the one-standard-error rule of Breiman et al. 1984; its error is 0 where all images are right, so one image
    is the least. For multi-label data it is applied to mean average precision, for which it is a scale, not an error.
    """

    errors: float = 0.0
    n: int = 1

    def allows(self, score: Score, highest: float) -> bool:
        """Return whether a score lies within the leeway of the highest accuracy; never if its loss is not finite."""
        error = math.sqrt(max(highest * (1 - highest), 1 / self.n) / self.n)
        # Accuracies are quotients in float32: 14 of 15 is one image below 15 of 15.
        return math.isfinite(score.loss) and score.accuracy >= highest - self.errors * error - 1e-6


class SelectionRules(NamedTuple):
    """What follows from a validation.

    Attributes:
        stage: index of the stage, recorded with the best state.
        patience: cycle ends without a lower validation loss after which the stage stops; None to never stop.
        plateau: when to lower the rates of all later updates; None for never.
        leeway: which state is the best.
    """

    stage: int
    patience: int | None = None
    plateau: Reduction | None = None
    leeway: Leeway = Leeway()


class StageProgress(NamedTuple):
    """Progress of a stage at a cycle's end; with the training state, all that a resumed run needs.

    Attributes:
        best: best state of the run so far, or None before the first validation.
        lowest: lowest validation loss of this stage.
        stale: cycle ends in a row that did not lower it.
        stopped: why the stage ended early, or "".
        lowered: how far the rates are lowered, by a plateau schedule or since the stage had diverged.
        lr: peak rate of each trained group.
    """

    best: Best | None = None
    lowest: float = math.inf
    stale: int = 0
    stopped: str = ""
    lowered: Lowered = Lowered()
    lr: tuple[float, ...] = ()


def judge(
    rules: SelectionRules, progress: StageProgress, score: Score, cycle: int, copy_network: Callable[[], NetworkState], *, last: bool
) -> StageProgress:
    """Return the progress after a cycle's validation.

    Args:
        score: of the state at the end of `cycle`.
        copy_network: copies the network of that state; called only if it is the best.
        last: whether the stage ends here anyway.
    """
    best = progress.best
    highest = max(score.accuracy, best.highest) if best else score.accuracy
    if rules.leeway.allows(score, highest) if rules.leeway.errors else score.beats(best.score if best else None):
        best = Best(score, copy_network(), rules.stage, cycle, highest)
    stale = 0 if score.loss < progress.lowest else progress.stale + 1
    stopped = ""
    if rules.patience is not None and stale >= rules.patience and not last:
        times = f"{stale} cycle end{'s' * (stale > 1)}"
        stopped = f"validation loss {score.loss:.4f} after cycle {cycle}, not below {progress.lowest:.4f} for {times}"
    return StageProgress(
        best=best,
        lowest=min(progress.lowest, score.loss),
        stale=stale,
        stopped=stopped,
        lowered=lowered(rules.plateau, progress.lowered, score.loss) if rules.plateau else progress.lowered,
        lr=progress.lr,
    )
