"""Run folder of the hosts that do not lead: writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .folder import RunFolder
from .records import DataRecord, Row, RunSummary


class NullRunFolder(RunFolder):
    """Run folder that writes nothing; the leading host writes for all."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.resumed = Path(path), False

    def append(self, row: Row) -> None:
        pass

    def mark(self) -> tuple[int, str]:
        return 0, ""

    def write_plan(self, text: str, table: str) -> None:
        pass

    def write_rejected(self, rejected: Sequence[tuple[str, str]]) -> None:
        pass

    def write_data(self, record: DataRecord) -> None:
        pass

    def write_finder(self, stage: str, curve: Mapping[str, Any]) -> None:
        pass

    def write_summary(self, summary: RunSummary) -> None:
        pass

    def close(self) -> None:
        pass
