"""`sgdr-jax plan`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...core.console import NullConsole
from ...core.errors import InputError
from ...core.files import write_output
from ..options import ExperimentCommand, check_output


@dataclass(frozen=True, kw_only=True)
class PlanCommand(ExperimentCommand):
    """Show what an experiment would do, stage by stage, without training. Needs no accelerator."""

    section = "Experiments"

    csv: Path | None = None
    """File for a table of all updates, as CSV."""
    train_size: int | None = None
    """Number of training images to plan for; by default those of the data, which are then looked at."""

    def execute(self, ui: NullConsole) -> None:
        """Print the stages and an estimate of memory; write the updates."""
        from ...core.plan import as_csv
        from ...report.run_tables import plan_parts

        check_output(self.csv)
        planned, parts = plan_parts(self.experiment, self._sizes())
        for part in parts:
            ui.say(part)
        if self.csv:
            write_output(self.csv, as_csv(planned))
            ui.say(f"every update: {self.csv}")

    def _sizes(self) -> dict[str, int]:
        if self.train_size is not None:
            return {"train": self.train_size}
        try:
            return self.experiment.data.open().sizes
        except InputError as error:
            raise InputError(f"{error}; or plan without images, for a number of them: --train-size N") from error
