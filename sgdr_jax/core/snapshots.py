"""Choice of the networks to keep at cycle ends."""

from __future__ import annotations

from dataclasses import dataclass

from .kinds import Config
from .validation import require


@dataclass(frozen=True)
class Snapshots(Config):
    """Networks to keep at cycle ends, by default none; the run's end compares them alone, as ensembles and as averages of weights.

    They do not change the final network. Each takes 4 bytes per parameter on disk, as do their averages of weights, up to three.
    """

    last: int = 0
    """Number of last cycle ends to keep."""
    best: int = 0
    """Number of cycle ends with the highest validation accuracy to keep, besides the last one."""

    def _label(self, name: str) -> str:
        return f"snapshots.{name}"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(value >= 0, f"snapshots.{name}", value, "use 0 or more")

    def __bool__(self) -> bool:
        return bool(self.last or self.best)
