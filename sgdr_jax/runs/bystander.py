"""The run folder as the hosts see it that do not lead: nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .folder import RunFolder


class NullRunFolder(RunFolder):
    """The run folder of a process that leaves it to another: nothing is written."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.resumed = Path(path), False

    def append(self, row: Mapping[str, Any]) -> None:
        pass

    def write_plan(self, text: str, table: str) -> None:
        pass

    def write_rejected(self, rejected: Sequence[tuple[str, str]]) -> None:
        pass

    def write_finder(self, stage: str, curve: Mapping[str, Any]) -> None:
        pass

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass
