"""`sgdr-jax data`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...core.console import NullConsole
from ..options import ExperimentCommand, check_output


@dataclass(frozen=True, kw_only=True)
class DataCommand(ExperimentCommand):
    """Describe the data of an experiment: counts, sizes, duplicates, unreadable files. Needs no accelerator."""

    section = "Experiments"

    rejected: Path | None = None
    """File for the names of all unreadable files, with the reasons."""

    def execute(self, ui: NullConsole) -> None:
        """Decode the data and print tables."""
        from ...core.plan import plan
        from ...data.load import load_for
        from ...data.summary import summarize
        from ...report.run_tables import dataset_tables

        experiment = self.experiment
        check_output(self.rejected)
        source = experiment.data.open()
        size = plan(experiment, source.sizes["train"]).largest_size
        summary = summarize(source, load_for(experiment, source, size, ui, max_bad_share=1))
        for part in dataset_tables(summary, source.classes):
            ui.say(part)
        if self.rejected:
            self.rejected.write_text("".join(f"{name}\t{why}\n" for name, why in summary.unreadable), "utf-8", "surrogateescape")
