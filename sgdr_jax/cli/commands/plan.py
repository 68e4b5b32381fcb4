"""`sgdr-jax plan`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...core.console import NullConsole
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
        from ...core.plan import as_csv, describe, plan
        from ...core.serialization import config_hash
        from ...data.load import canvas_side
        from ...data.placement import forecast
        from ...report.run_tables import plan_table

        experiment = self.experiment
        check_output(self.csv)
        sizes = experiment.data.open().sizes if self.train_size is None else {"train": self.train_size}
        planned = plan(experiment, sizes["train"])
        ui.say(f"{experiment.name} ({config_hash(experiment)}): {sizes['train']:,} training images, batches of {experiment.batch_size}")
        ui.say(plan_table([describe(stage) for stage in planned.stages]))
        if experiment.refit:
            ui.say("refit: the stages that are kept once more, on the training and the validation images together")
        ui.say(forecast(experiment.images, sum(sizes.values()), canvas_side(experiment.canvas, planned.largest_size)))
        if self.csv:
            self.csv.write_text(as_csv(planned), encoding="utf-8")
            ui.say(f"every update: {self.csv}")
