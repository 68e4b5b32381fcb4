"""Queue of the pending runs of a sweep, from which its workers take one run after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .spec import SweepRun


class Outcomes(Protocol):
    """Receiver of the outcomes of the runs that a worker has taken."""

    def finish(self, run: SweepRun, value: float) -> None:
        """Record that a run has finished with this value of the objective."""
        ...

    def fail(self, run: SweepRun, error: str, diverged: bool = False) -> None:
        """Record that a run has failed and is not to be executed again."""
        ...

    def give_back(self, run: SweepRun) -> None:
        """Release a run whose folder another process uses."""
        ...

    @property
    def pause(self) -> float:
        """Seconds between two looks at what other workers do."""
        ...


class Queue(Outcomes, Protocol):
    """Pending runs of a sweep; `LocalQueue` serves a single worker, `SharedQueue` several."""

    def take(self, runs: Sequence[SweepRun]) -> SweepRun | None:
        """Take one of these runs that is free; None where none is. Neighbours share what they load and compile."""
        ...

    def left(self, runs: Sequence[SweepRun]) -> bool:
        """Look again at what other workers do: free the runs of dead ones, and return whether any of these runs is not done."""
        ...


class LocalQueue:
    """Queue of a single worker, which keeps nothing beyond the process."""

    pause = 0.0

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, runs: Sequence[SweepRun]) -> SweepRun | None:
        """Take the first of these runs that is free; None where none is."""
        run = next((run for run in runs if run.hash not in self._taken), None)
        self._taken |= {run.hash} if run else set()
        return run

    def left(self, runs: Sequence[SweepRun]) -> bool:
        """Return whether one of these runs is free."""
        return any(run.hash not in self._taken for run in runs)

    def finish(self, run: SweepRun, value: float) -> None:
        """Do nothing: the run folder has the outcome."""

    def fail(self, run: SweepRun, error: str, diverged: bool = False) -> None:
        """Do nothing: the sweep's folder has the error."""

    def give_back(self, run: SweepRun) -> None:
        """Do nothing: the run is left to the other process."""
