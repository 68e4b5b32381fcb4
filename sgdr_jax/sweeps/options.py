"""Options of a worker of a sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..core.validation import require
from ..runs.trackers.tracking import TrackerName, check

Split = Literal["test", "valid"]
Measure = Literal["accuracy", "loss"]
Keep = Literal["results", "final", "all"]
"""What the folder of a finished run keeps: numbers, answers, rows and plan; also its final networks; also its checkpoints."""


def check_alpha(alpha: float) -> None:
    """Raise InputError for a level of the tests that is none."""
    require(1e-6 <= alpha < 1, "--alpha", alpha, "use a number from 0.000001 to below 1, such as 0.05")


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """How the arms of a sweep are compared: by `compare`, and by `sweep --until` to know which runs are lacking."""

    split: Split | None = None
    """Split to compare on; by default test where the runs have it."""
    measure: Measure = "accuracy"
    """Measure whose differences are shown."""
    tta: bool = False
    """Whether to compare the final figures of each run, with all test-time views mixed, or with the plain view where it has no others."""
    baseline: str | None = None
    """Arm that the others are compared with; by default the sweep's baseline."""
    alpha: float = 0.05
    """Level of the tests; the intervals hold the true difference with probability 1 - alpha."""
    until: float | None = None
    """Distance of either end of each difference's interval from its mean that is wanted, in points of accuracy or units of the loss:
    `compare` names the further seeds that each arm needs for it, `sweep` runs them after the others."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        wide = self.until is None or self.until >= 1e-6
        require(wide, "--until", self.until, "use a number of a millionth or more, such as 0.5 for half a point")

    def check_baseline(self, arms: Iterable[str]) -> None:
        """Raise InputError for a baseline that is none of these arms."""
        names = dict.fromkeys(arms)
        require(self.baseline is None or self.baseline in names, "--baseline", self.baseline, f"the arms are {', '.join(names)}")


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(CompareOptions):
    """Options of a worker of a sweep; those of the comparison matter for `until` alone."""

    retry: bool = False
    """Also execute the runs that have failed before."""
    keep: Keep = "results"
    """Content of a finished run: results, final (also its final networks, for eval and predict) or all (also its checkpoints)."""
    pace: float = 60.0
    """Seconds of work that an interruption may cost a run: its checkpoints are at cycle ends and no closer than this; 0: at all of them,
    as always with on_divergence=halve."""
    store: str | None = None
    """Store that several workers share: a .journal file, a SQLite file, the URL of a database, or grpc://HOST:PORT of Optuna's proxy in
    front of one; by default DIR/store.journal."""
    grace: float = 60.0
    """Seconds without a sign of life after which a worker's runs are taken over; at once where its process on this machine has ended."""
    track: tuple[TrackerName, ...] = ()
    """Trackers that show the figures of every run too, as for `train`; arm and seed are among the settings that they show."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in dataclasses.fields(CompareOptions):
            unasked = self.until is not None or getattr(self, field.name) == field.default
            require(unasked, f"--{field.name}", getattr(self, field.name), "give --until too, which it is for, or leave it to compare")
        check(self.track)
        require(self.pace >= 0, "--pace", self.pace, "use a number of seconds, or 0 for every cycle's end")
        require(self.grace > 0, "--grace", self.grace, "use a number of seconds above 0")
