"""Options of a worker of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..core.validation import require
from ..runs.trackers.tracking import TrackerName, check

Keep = Literal["results", "final", "all"]
"""What the folder of a finished run keeps: numbers, answers, rows and plan; also its final networks; also its checkpoints."""


@dataclass(frozen=True)
class WorkerOptions:
    """Options of a worker of a sweep."""

    retry: bool = False
    """Also execute the runs that have failed before."""
    keep: Keep = "results"
    """Content of a finished run: results, final (also its final networks, for eval and predict) or all (also its checkpoints)."""
    pace: float = 60.0
    """Seconds of work that an interruption may cost a run: its checkpoints are at cycle ends and no closer than this; 0: at all of them."""
    store: str | None = None
    """Store that several workers share: a .journal file, a SQLite file, the URL of a database, or grpc://HOST:PORT of Optuna's proxy in
    front of one; by default DIR/store.journal."""
    grace: float = 60.0
    """Seconds without a sign of life after which a worker's runs are taken over; at once where its process on this machine has ended."""
    until: float | None = None
    """After the runs, also run the further seeds that arms need until the interval of their difference to the baseline is at most this to
    either side, in points of accuracy; see `compare --until`."""
    track: tuple[TrackerName, ...] = ()
    """Trackers that show the figures of every run too, as for `train`; arm and seed are among the settings that they show."""

    def __post_init__(self) -> None:
        check(self.track)
        require(self.pace >= 0, "--pace", self.pace, "use a number of seconds, or 0 for every cycle's end")
        require(self.until is None or self.until > 0, "--until", self.until, "use a number above 0, such as 0.5 for half a point")
        require(self.grace > 0, "--grace", self.grace, "use a number of seconds above 0")
