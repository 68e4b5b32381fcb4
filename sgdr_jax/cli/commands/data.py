"""`sgdr-jax data`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...core.console import NullConsole
from ...core.files import write_output
from ..options import ExperimentCommand, check_output


@dataclass(frozen=True, kw_only=True)
class DataCommand(ExperimentCommand):
    """Describe the data of an experiment: counts, sizes, duplicates, unreadable files. Needs no accelerator."""

    section = "Experiments"

    rejected: Path | None = None
    """File for the names of all unreadable files, with the reasons."""

    def execute(self, ui: NullConsole) -> None:
        """Decode the data and print tables."""
        from ...report.run_tables import data_parts

        check_output(self.rejected)
        summary, parts = data_parts(self.experiment, ui)
        for part in parts:
            ui.say(part)
        if self.rejected:
            write_output(self.rejected, "".join(f"{name}\t{why}\n" for name, why in summary.unreadable))
